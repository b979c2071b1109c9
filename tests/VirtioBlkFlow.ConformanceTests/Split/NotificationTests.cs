using VirtioBlkFlow.ConformanceTests.Machinery;
using VirtioBlkFlow.ConformanceTests.Rig;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.Device.Reactor;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.ConformanceTests.Split;

/// <summary>Calls and kicks, and how each side asks for fewer.</summary>
public class NotificationTests
{
    private static readonly FrontendOptions s_byFlags = new()
    {
        Negotiation = new NegotiationOptions { Features = VirtioFeatures.VIRTIO_F_VERSION_1 | VirtioFeatures.VIRTIO_RING_F_INDIRECT_DESC },
    };

    [Fact, Conformance("SPLIT-08", "SPLIT-10")]
    public void Without_EVENT_IDX_and_flags_0_each_request_is_called_for_whatever_used_event_says()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(s_byFlags);
        FrontendQueue queue = session.Queues[0];
        RequestPlace request = new(session);
        queue.SplitRing.Raw.AvailableFlags = 0;
        Random random = new(8);
        for (int i = 0; i < 500; i++)
        {
            queue.SplitRing.Raw.UsedEvent = (ushort)random.Next(65536);
            Settle(device, queue);
            Assert.Equal(0, request.Flush().Status);
            Assert.True(queue.Call.Wait(Deadline.In(Await.DeadlineMs)), $"No call for request {i}.");
        }
    }

    [Fact, Conformance("SPLIT-09")]
    public void Without_EVENT_IDX_and_flags_1_nothing_is_called_for()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(s_byFlags);
        FrontendQueue queue = session.Queues[0];
        RequestPlace request = new(session);
        queue.SplitRing.Raw.AvailableFlags = 1;
        Settle(device, queue);
        for (int i = 0; i < 1000; i++)
        {
            Assert.Equal(0, request.Flush().Status);
        }

        device.LetTurnsPass();
        Assert.Equal(0ul, queue.Call.Take());
    }

    [Theory, Conformance("SPLIT-11", "SPLIT-12", "SPLIT-13")]
    [InlineData(0)]
    [InlineData(127)]
    [InlineData(65530)]
    public void With_EVENT_IDX_passing_used_event_is_called_for_and_nothing_else(ushort start)
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(new FrontendOptions { QueueCount = 0 });
        using FrontendQueue queue = new(session.Memory, 0, 128, session.Negotiation.RingFeatures, startIndex: start);
        queue.Start(session.Frontend);
        RequestPlace request = new(session.Memory, queue);
        // The first one after a start may be called for in any case.
        Assert.Equal(0, request.Flush().Status);
        for (int i = 0; i < 16; i++)
        {
            // Flags say the opposite, and mean nothing.
            bool wanted = i % 2 == 0;
            queue.SplitRing.Raw.AvailableFlags = (ushort)(wanted ? 1 : 0);
            queue.SplitRing.Raw.UsedEvent = (ushort)(queue.SplitRing.Raw.UsedIndex + (wanted ? 0 : 1000));
            Settle(device, queue);
            Assert.Equal(0, request.Flush().Status);
            device.LetTurnsPass();
            Assert.Equal(wanted ? 1ul : 0ul, queue.Call.Take());
        }

        for (ushort within = 0; within < 4; within++)
        {
            // Four at once, and used_event is any of them.
            queue.SplitRing.Raw.UsedEvent = (ushort)(queue.SplitRing.Raw.UsedIndex + within);
            Settle(device, queue);
            RequestPlace[] batch = [.. Enumerable.Range(0, 4).Select(_ => new RequestPlace(session.Memory, queue, 512).Prepare(BlkRequestType.VIRTIO_BLK_T_FLUSH))];
            foreach (RequestPlace one in batch)
            {
                one.Publish(one.Header, one.Status);
            }

            queue.Kick.Signal();
            Array.ForEach(batch, one => one.TakeUsed());
            device.LetTurnsPass();
            Assert.Equal(1ul, queue.Call.Take());
        }
    }

    [Theory, Conformance("SPLIT-17", "SPLIT-18", "SPLIT-19", "SPLIT-20")]
    [InlineData(false, PollMode.Never)]
    [InlineData(false, PollMode.Adaptive)]
    [InlineData(true, PollMode.Never)]
    [InlineData(true, PollMode.Adaptive)]
    public void No_request_is_lost_to_a_driver_that_kicks_only_when_asked(bool eventIndex, PollMode polling)
    {
        using ServedDevice device = new(new ServedOptions { Device = new BlkDeviceOptions { Polling = polling } });
        using FrontendSession session = device.Open(eventIndex ? null : s_byFlags);
        SplitDriverRing ring = session.Queues[0].SplitRing;
        Random random = new(18);
        int most = eventIndex ? 0 : 1;
        for (int i = 0; i < 4000; i++)
        {
            // A driver kicks by Publish's decision, and waits by call; pauses let the device fall asleep at every point.
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].GetId(out _));
            Assert.InRange(ring.Raw.UsedFlags, 0, most);
            Thread.SpinWait(random.Next(200));
        }

        VerifiedTraffic traffic = new(session.Drivers[0], new ShadowDisk(4), 0, 8192, seed: 18);
        traffic.Run(2000);
        Assert.InRange(ring.Raw.UsedFlags, 0, most);
    }

    [Fact, Conformance("SPLIT-21")]
    public void Kicks_for_nothing_do_no_harm()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open();
        for (int i = 0; i < 100_000; i++)
        {
            session.Queues[0].Kick.Signal();
        }

        device.LetTurnsPass();
        Assert.Equal(0, session.Queues[0].SplitRing.Raw.UsedIndex);
        session.VerifyRoundTrip(device.Image, sector: 8);
    }

    // Calls of what came before are taken, with none on the way.
    private static void Settle(ServedDevice device, FrontendQueue queue)
    {
        device.LetTurnsPass();
        queue.Call.Take();
    }
}
