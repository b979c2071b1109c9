using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.VhostUser.Connection;
using VirtioBlkFlow.VhostUser.Session;
using VirtioBlkFlow.VhostUser.Wire;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Frontend;

/// <summary>
/// The whole other side at work: front-end and driver over a real session, with real shared memory and eventfds, against a disk that is an
/// array.
/// </summary>
public sealed class BlkDriverTests : IDisposable
{
    private const int CapacitySectors = 4096;
    private const int TimeoutMs = 10_000;

    private readonly RamDiskBackend _backend = new(queueCount: 2, CapacitySectors);
    private readonly SharedMemory _memory = new(
        new SharedRegionOptions(0, 8 << 20) { MmapOffset = 4096, UserAddress = 0x7f00_0000_0000, Sealed = true }, new SharedRegionOptions(1UL << 32, 8 << 20));
    private readonly BackendChannel _channel = new();
    private readonly VhostUserFrontend _frontend;
    private readonly VhostUserConnection _connection;
    private readonly Task<SessionOutcome> _session;

    public BlkDriverTests()
    {
        (SafeFileHandle frontend, SafeFileHandle backend) = VhostUserFrontend.CreateSocketPair();
        _frontend = new VhostUserFrontend(frontend, TimeoutMs);
        _connection = new VhostUserConnection(backend);
        var session = new VhostUserSession(_connection, _backend, VhostUserSessionOptions.Default, NullLogger.Instance);
        _session = Task.Factory.StartNew(session.Run, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        Random.Shared.NextBytes(_backend.Disk);
    }

    public void Dispose()
    {
        _frontend.Dispose();
        Assert.True(_session.Wait(TimeoutMs), "The session did not end when the front-end left.");
        _connection.Dispose();
        _channel.Dispose();
        _memory.Dispose();
    }

    public static TheoryData<VirtioFeatures, CompletionWait, bool, bool> Ways()
    {
        var ways = new TheoryData<VirtioFeatures, CompletionWait, bool, bool>();
        foreach (VirtioFeatures features in new[] { VirtioFeatures.None, VirtioFeatures.VIRTIO_RING_F_EVENT_IDX })
        {
            foreach (CompletionWait wait in Enum.GetValues<CompletionWait>())
            {
                ways.Add(features, wait, false, false);
                ways.Add(features, wait, true, true);
            }
        }

        return ways;
    }

    [Theory]
    [MemberData(nameof(Ways))]
    public void Does_every_kind_of_request_one_at_a_time(VirtioFeatures features, CompletionWait wait, bool indirect, bool slots)
    {
        using FrontendQueue queue = Start(features, slots, indirect, out _);
        var driver = new BlkDriver(_memory, queue, new BlkDriverOptions { UseIndirect = indirect, Wait = wait, TimeoutMs = TimeoutMs });
        byte[] data = new byte[3 * 512];
        new Random(3).NextBytes(data);
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Write(7, data));
        Assert.Equal(data, _backend.Disk.AsSpan(7 * 512, data.Length).ToArray());
        byte[] read = new byte[4 * 512];
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Read(6, read));
        Assert.Equal(_backend.Disk.AsSpan(6 * 512, read.Length).ToArray(), read);
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Flush());
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.GetId(out string id));
        Assert.Equal(RamDiskBackend.Serial, id);
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.WriteZeroes(new BlkSegment { Sector = 8, SectorCount = 1 }));
        Assert.True(_backend.Disk.AsSpan(8 * 512, 512).IndexOfAnyExcept((byte)0) < 0);
        Assert.Equal(data[..512], _backend.Disk.AsSpan(7 * 512, 512).ToArray());
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Discard(new BlkSegment { Sector = 100, SectorCount = 8 }, new BlkSegment { Sector = 200, SectorCount = 8 }));
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_UNSUPP, driver.Discard(new BlkSegment { Sector = 100, SectorCount = 8, Flags = 1 }));
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, driver.Read(CapacitySectors - 1, new byte[1024]));
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_UNSUPP, driver.Execute((BlkRequestType)99, 0, 0).Status);
        queue.Stop(_frontend);
    }

    [Theory]
    [MemberData(nameof(Ways))]
    public void Keeps_many_requests_in_flight_and_gets_each_back_once(VirtioFeatures features, CompletionWait wait, bool indirect, bool slots)
    {
        const int Requests = 20_000;
        const int Depth = 16;
        using FrontendQueue queue = Start(features, slots, indirect, out _);
        var driver = new BlkDriver(_memory, queue, new BlkDriverOptions { QueueDepth = Depth, MaxTransferBytes = 4096, UseIndirect = indirect, Wait = wait });
        var random = new Random(5);
        var sectorOfTag = new ulong[Requests];
        var seen = new bool[Requests];
        int submitted = 0;
        int completed = 0;
        while (completed < Requests)
        {
            while (submitted < Requests)
            {
                sectorOfTag[submitted] = (ulong)random.Next(CapacitySectors - 8);
                if (!driver.TrySubmit(BlkRequestType.VIRTIO_BLK_T_IN, sectorOfTag[submitted], 4096, (ulong)submitted))
                {
                    break;
                }

                submitted++;
            }

            driver.Kick();
            Assert.True(driver.WaitForCompletion(Deadline.In(TimeoutMs)), $"{completed} of {submitted} came back.");
            while (driver.TryComplete(out BlkCompletion completion))
            {
                Assert.False(seen[completion.Tag]);
                seen[completion.Tag] = true;
                Assert.Equal((BlkStatus.VIRTIO_BLK_S_OK, 4097u), (completion.Status, completion.UsedBytes));
                Assert.True(driver.Data(completion.Slot).SequenceEqual(_backend.Disk.AsSpan((int)sectorOfTag[completion.Tag] * 512, 4096)));
                completed++;
            }
        }

        Assert.Equal(0, driver.InFlightCount);
        Assert.Equal((uint)(ushort)Requests, queue.Stop(_frontend));
    }

    [Fact]
    public void Data_may_be_cut_by_the_caller_and_lie_in_several_regions()
    {
        using FrontendQueue queue = Start(VirtioFeatures.None, slots: true, indirect: false, out _);
        var driver = new BlkDriver(_memory, queue, new BlkDriverOptions());
        ulong low = _memory.Regions[0].Allocate(512, 1);
        ulong high = _memory.Regions[1].Allocate(512, 1);
        Assert.True(driver.TrySubmit(
            BlkRequestType.VIRTIO_BLK_T_IN, 1, [DriverBuffer.Writable(high, 500), DriverBuffer.Writable(low, 12), DriverBuffer.Writable(high + 500, 0)], 1));
        driver.Kick();
        Assert.True(driver.WaitForCompletion(Deadline.In(TimeoutMs)));
        Assert.True(driver.TryComplete(out BlkCompletion completion));
        Assert.Equal((BlkStatus.VIRTIO_BLK_S_OK, 513u), (completion.Status, completion.UsedBytes));
        byte[] read = [.. _memory.Span(high, 500), .. _memory.Span(low, 12)];
        Assert.Equal(_backend.Disk.AsSpan(512, 512).ToArray(), read);
    }

    [Fact]
    public void A_queue_goes_on_after_a_stop_where_it_was()
    {
        using FrontendQueue queue = Start(VirtioFeatures.VIRTIO_RING_F_EVENT_IDX, slots: true, indirect: false, out Negotiation agreed);
        var driver = new BlkDriver(_memory, queue, new BlkDriverOptions());
        byte[] sector = new byte[512];
        for (int i = 0; i < 5; i++)
        {
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Read(0, sector));
            uint next = queue.Stop(_frontend);
            Assert.Equal((uint)i + 1, next);
            queue.Start(_frontend, agreed.CanAcknowledge, nextAvailable: next);
        }

        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Read(0, sector));
    }

    [Fact]
    public void Tells_what_was_agreed_on_and_what_the_disk_is()
    {
        using FrontendQueue queue = Start(VirtioFeatures.VIRTIO_RING_F_EVENT_IDX, slots: true, indirect: false, out Negotiation agreed);
        Assert.Equal((2, 509, true, true, true), (agreed.QueueCount, agreed.MemorySlots, agreed.CanAcknowledge, agreed.HasProtocolFeatures, agreed.UsesMemorySlots));
        Assert.Equal((ulong)CapacitySectors, agreed.Config.Capacity);
        Assert.Equal(2, agreed.Config.NumQueues);
        Assert.True(agreed.RingFeatures.HasFlag(VirtioFeatures.VIRTIO_RING_F_EVENT_IDX));
        Assert.Equal(128u, _frontend.GetBlkConfig().MaxDiscardSectors);
        Assert.Equal(((ulong)CapacitySectors, 128u), (_frontend.GetDeviceConfig().CapacitySectors, _frontend.GetDeviceConfig().MaxDiscardSectors));
        Assert.NotEqual(0u, _frontend.SetConfig(0, [1], needReply: true));
    }

    [Fact]
    public void A_change_of_the_configuration_is_heard_of_on_the_back_ends_channel()
    {
        using FrontendQueue queue = Start(VirtioFeatures.None, slots: false, indirect: false, out _);
        var driver = new BlkDriver(_memory, queue, new BlkDriverOptions());
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Flush());
        _backend.Attachment!.NotifyConfigChanged();
        Assert.Equal(BackendRequest.CONFIG_CHANGE_MSG, _channel.WaitForRequest(Deadline.In(TimeoutMs)));
    }

    [Fact]
    public void A_request_nobody_serves_is_a_timeout_and_not_a_hang()
    {
        // Never started.
        using var queue = new FrontendQueue(_memory, 0, 16, VirtioFeatures.None);
        var driver = new BlkDriver(_memory, queue, new BlkDriverOptions { TimeoutMs = 50 });
        Assert.Throws<TimeoutException>(() => driver.Flush());
        Assert.Throws<InvalidOperationException>(() => driver.Flush());
    }

    [Theory]
    [InlineData(0xff, 1u)]
    [InlineData(0, 0u)]
    [InlineData(0, 514u)]
    [InlineData(1, 514u)]
    public unsafe void A_status_not_written_or_an_impossible_used_length_is_the_devices_fault(byte status, uint usedBytes)
    {
        using var queue = new FrontendQueue(_memory, 0, 16, VirtioFeatures.None);
        var driver = new BlkDriver(_memory, queue, new BlkDriverOptions());
        Assert.True(driver.TrySubmit(BlkRequestType.VIRTIO_BLK_T_IN, 0, 512, 0));
        driver.Kick();
        using var device = VirtioBlkFlow.Virtio.Ring.Virtqueue.Create(new VirtioBlkFlow.Virtio.Ring.VirtqueueSetup
        {
            QueueSize = 16,
            Addresses = queue.SplitRing.HostAddresses,
            Memory = _memory.ToGuestMemory(),
            Features = VirtioFeatures.None,
            Position = default,
        });
        device.TryPop(out VirtioBlkFlow.Virtio.Ring.DescriptorChain chain);
        Assert.True(BlkRequest.TryParse(in chain, out BlkRequest request, out _));
        *request.Status = status;
        device.AddUsed(chain.Slot, usedBytes, 0);
        device.PublishUsed();
        Assert.Throws<DeviceBrokeRingException>(() => driver.TryComplete(out _));
    }

    private FrontendQueue Start(VirtioFeatures features, bool slots, bool indirect, out Negotiation agreed)
    {
        if (indirect)
        {
            features |= VirtioFeatures.VIRTIO_RING_F_INDIRECT_DESC;
        }

        agreed = Negotiation.Run(
            _frontend, new NegotiationOptions { Features = features | VirtioFeatures.VIRTIO_F_VERSION_1, PreferMemorySlots = slots }, _channel);
        agreed.SendMemory(_frontend, _memory);
        var queue = new FrontendQueue(_memory, 1, 64, agreed.RingFeatures, indirect ? 8 : 0);
        agreed.StartQueues(_frontend, queue);
        return queue;
    }
}
