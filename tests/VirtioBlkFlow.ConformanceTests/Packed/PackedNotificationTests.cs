using VirtioBlkFlow.ConformanceTests.Machinery;
using VirtioBlkFlow.ConformanceTests.Rig;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.Device.Reactor;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;
using static VirtioBlkFlow.Frontend.Ring.RawPackedRing;

namespace VirtioBlkFlow.ConformanceTests.Packed;

/// <summary>Calls and kicks of a packed ring, and how each side asks for fewer.</summary>
public class PackedNotificationTests
{
    private const VirtioFeatures WithoutEventIndex = PackedBench.Features & ~VirtioFeatures.VIRTIO_RING_F_EVENT_IDX;

    [Theory, Conformance("PACKED-19")]
    [InlineData(false)]
    [InlineData(true)]
    public void With_ENABLE_each_request_is_called_for_and_with_DISABLE_none(bool eventIndex)
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(PackedBench.Options(eventIndex ? PackedBench.Features : WithoutEventIndex));
        using PackedBench bench = new(session, 9);
        for (int i = 0; i < 60; i++)
        {
            bool wanted = i % 3 != 0;
            // The offset is noise.
            bench.Raw.DriverEvent = Event(wanted ? RING_EVENT_FLAGS_ENABLE : RING_EVENT_FLAGS_DISABLE, i % 9, wrap: i % 2 == 0);
            Settle(device, bench);
            Flush(bench);
            device.LetTurnsPass();
            Assert.Equal(wanted ? 1ul : 0ul, bench.Queue.Call.Take());
        }
    }

    [Theory, Conformance("PACKED-20")]
    [InlineData(5, 1)]
    [InlineData(7, 3)]
    [InlineData(8, 2)]
    public void With_DESC_passing_the_named_slot_in_the_named_lap_is_called_for_and_nothing_else(int size, int batch)
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(PackedBench.Options());
        using PackedBench bench = new(session, size);
        // The first one after a start may be called for in any case.
        Flush(bench);
        for (int i = 0; i < size; i++)
        {
            // Each slot of this lap and of the next, from each place where a batch can begin.
            for (int ahead = 0; ahead < 2 * size; ahead++)
            {
                int place = bench.NextUsed + ahead;
                bench.Raw.DriverEvent = Event(RING_EVENT_FLAGS_DESC, place % size, bench.UsedWrap ^ (place / size % 2 == 1));
                Settle(device, bench);
                Flush(bench, batch);
                device.LetTurnsPass();
                Assert.Equal(ahead < 2 * batch ? 1ul : 0ul, bench.Queue.Call.Take());
            }
        }
    }

    [Fact, Conformance("PACKED-21")]
    public void DESC_without_EVENT_IDX_holds_no_call_back()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(PackedBench.Options(WithoutEventIndex));
        using PackedBench bench = new(session, 9);
        for (int i = 0; i < 20; i++)
        {
            bench.Raw.DriverEvent = Event(RING_EVENT_FLAGS_DESC, (bench.NextUsed + 5) % 9, bench.UsedWrap);
            Settle(device, bench);
            Flush(bench);
            Assert.True(bench.Queue.Call.Wait(Deadline.In(Await.DeadlineMs)), $"No call for request {i}.");
        }
    }

    [Theory, Conformance("PACKED-21", "PACKED-22")]
    [InlineData(false, PollMode.Never)]
    [InlineData(false, PollMode.Adaptive)]
    [InlineData(true, PollMode.Never)]
    [InlineData(true, PollMode.Adaptive)]
    public void No_request_is_lost_to_a_driver_that_kicks_only_when_asked(bool eventIndex, PollMode polling)
    {
        using ServedDevice device = new(new ServedOptions { Device = new BlkDeviceOptions { Polling = polling } });
        using FrontendSession session = device.Open(PackedBench.Options(eventIndex ? PackedBench.Features : WithoutEventIndex, queueCount: 1));
        Frontend.Ring.RawPackedRing raw = session.Queues[0].PackedRing.Raw;
        Random random = new(22);
        HashSet<uint> flags = [];
        for (int i = 0; i < 4000; i++)
        {
            // A driver kicks by Publish's decision, and waits by call; pauses let the device fall asleep at every point.
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].GetId(out _));
            uint wish = raw.DeviceEvent;
            flags.Add(wish >> 16);
            Assert.InRange((int)(wish & 0x7fff), 0, raw.QueueSize - 1);
            Thread.SpinWait(random.Next(200));
        }

        // Bits 2 to 15 of the flags are reserved, 3 means nothing, and DESC needs EVENT_IDX.
        Assert.Subset(new HashSet<uint> { RING_EVENT_FLAGS_ENABLE, RING_EVENT_FLAGS_DISABLE, eventIndex ? RING_EVENT_FLAGS_DESC : RING_EVENT_FLAGS_ENABLE }, flags);
        new VerifiedTraffic(session.Drivers[0], new ShadowDisk(4), 0, 8192, seed: 22).Run(2000);
    }

    private static void Flush(PackedBench bench, int count = 1)
    {
        for (ushort i = 0; i < count; i++)
        {
            bench.Request.Prepare(BlkRequestType.VIRTIO_BLK_T_FLUSH);
            bench.Add(PackedBench.List(i, bench.Request.Header, bench.Request.Status));
        }

        bench.Queue.Kick.Signal();
        for (int i = 0; i < count; i++)
        {
            bench.TakeUsed(2);
        }
    }

    // Calls of what came before are taken, with none on the way.
    private static void Settle(ServedDevice device, PackedBench bench)
    {
        device.LetTurnsPass();
        bench.Queue.Call.Take();
    }
}
