using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.Frontend.Recovery;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Frontend;

/// <summary>The block driver and the verified workload on both kinds of rings, against models of a device that may die.</summary>
public sealed class DriverOnModelTests : IDisposable
{
    private const int CapacitySectors = 2048;
    private const int TimeoutMs = 20_000;
    private const VirtioFeatures EventIndex = VirtioFeatures.VIRTIO_RING_F_EVENT_IDX;

    private readonly SharedMemory _memory = SharedMemory.OfSize(32 << 20);
    private readonly ModelDisk _disk = new(CapacitySectors);

    public void Dispose() => _memory.Dispose();

    public static TheoryData<bool, bool, CompletionWait, bool> Ways()
    {
        var ways = new TheoryData<bool, bool, CompletionWait, bool>();
        foreach (bool packed in new[] { false, true })
        {
            foreach (bool eventIndex in new[] { false, true })
            {
                ways.Add(packed, eventIndex, CompletionWait.Call, false);
                ways.Add(packed, eventIndex, CompletionWait.Call, true);
                ways.Add(packed, eventIndex, CompletionWait.Poll, false);
            }
        }

        return ways;
    }

    [Theory]
    [MemberData(nameof(Ways))]
    public void Random_requests_come_back_right(bool packed, bool eventIndex, CompletionWait wait, bool indirect)
    {
        const int Seed = 11;
        using FrontendQueue queue = Queue(packed, eventIndex, packed ? 50 : 64, Seed);
        var driver = new BlkDriver(_memory, queue, new BlkDriverOptions { QueueDepth = 16, UseIndirect = indirect, Wait = wait });
        using var server = new ModelServer(_memory, queue, _disk, ModelServer.DeviceFor(_memory, queue.Ring, eventIndex), Seed);
        var workload = new VerifiedWorkload(driver, new DiskModel(CapacitySectors), 0, CapacitySectors, Seed);
        workload.Run(3000, Deadline.In(TimeoutMs));
        workload.VerifyAll();
        Assert.Equal((3000, 0), (workload.CompletedCount, workload.PendingCount));
    }

    [Theory]
    [InlineData(false, false, 1)]
    [InlineData(false, true, 2)]
    [InlineData(true, false, 3)]
    [InlineData(true, true, 4)]
    public void Every_request_survives_a_hundred_deaths_of_the_device(bool packed, bool eventIndex, int seed)
    {
        using FrontendQueue queue = Queue(packed, eventIndex, packed ? 37 : 64, seed);
        var driver = new BlkDriver(_memory, queue, new BlkDriverOptions { QueueDepth = 12, MaxTransferBytes = 8192 });
        var workload = new VerifiedWorkload(driver, new DiskModel(CapacitySectors), 0, CapacitySectors, seed);
        var random = new Random(seed);
        ModelServer server = new(_memory, queue, _disk, ModelServer.DeviceFor(_memory, queue.Ring, eventIndex), seed, stepsToLive: 50);
        int pendingAtDeath = 0;
        for (int death = 0; death < 100; death++)
        {
            ModelServer dying = server;
            workload.RunUntil(() => dying.IsDead);
            pendingAtDeath += workload.PendingCount;
            server = dying.Successor(random.Next(), random.Next(1, 120));
            Wake(queue);
        }

        workload.RunUntil(() => server.IsDead);
        server = server.Successor(random.Next(), int.MaxValue);
        Wake(queue);
        workload.Drain(Deadline.In(TimeoutMs));
        workload.VerifyAll();
        server.Dispose();
        Assert.True(pendingAtDeath > 100, $"Only {pendingAtDeath} requests were in flight at all deaths together.");
        Assert.True(workload.CompletedCount > 1000);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_request_that_is_lost_is_found(bool packed)
    {
        (VerifiedWorkload workload, ModelServer server, FrontendQueue queue) = RunIntoDeath(packed, Recovery.LosesOne);
        using (queue)
        using (server)
        {
            WorkloadException lost = Assert.Throws<WorkloadException>(() => workload.Drain(Deadline.In(200)));
            Assert.Contains("lost", lost.Message, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_request_that_comes_back_twice_is_found(bool packed)
    {
        (VerifiedWorkload workload, ModelServer server, FrontendQueue queue) = RunIntoDeath(packed, Recovery.DoublesOne);
        using (queue)
        using (server)
        {
            Assert.Throws<DeviceBrokeRingException>(() => workload.Drain(Deadline.In(TimeoutMs)));
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Data_that_is_not_where_it_was_is_found(bool packed)
    {
        (VerifiedWorkload workload, ModelServer server, FrontendQueue queue) = RunIntoDeath(packed, Recovery.WritesElsewhere);
        using (queue)
        using (server)
        {
            WorkloadException wrong = Assert.Throws<WorkloadException>(() =>
            {
                workload.Drain(Deadline.In(TimeoutMs));
                workload.VerifyAll();
            });
            Assert.Contains("seed 9", wrong.Message, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Every_request_of_the_specification_is_framed_as_it_says(bool packed)
    {
        using FrontendQueue queue = Queue(packed, eventIndex: true, 16, seed: 1);
        var driver = new BlkDriver(_memory, queue, new BlkDriverOptions { TimeoutMs = TimeoutMs });
        using var server = new ModelServer(_memory, queue, _disk, ModelServer.DeviceFor(_memory, queue.Ring, eventIndex: true), seed: 1);
        BlkSegment[] segments = [new() { Sector = 3, SectorCount = 4, Flags = 1 }, new() { Sector = 30, SectorCount = 5 }];
        byte[] segmentBytes = System.Runtime.InteropServices.MemoryMarshal.AsBytes<BlkSegment>(segments).ToArray();
        Assert.Equal((BlkStatus.VIRTIO_BLK_S_OK, ModelDisk.Serial), (driver.GetId(out string id), id));
        Assert.Equal((BlkStatus.VIRTIO_BLK_S_OK, new BlkLifetime { PreEolInfo = 1, EstimateA = 5, EstimateB = 11 }), (driver.GetLifetime(out BlkLifetime lifetime), lifetime));
        Assert.Equal((BlkStatus.VIRTIO_BLK_S_OK, 11u), (driver.Discard(segments), _disk.Last.Type));
        Assert.Equal(segmentBytes, _disk.LastSegments);
        foreach (bool asLinux in new[] { false, true })
        {
            Assert.Equal((BlkStatus.VIRTIO_BLK_S_OK, 14u), (driver.SecureErase(asLinux, segments[1]), _disk.Last.Type));
            Assert.Equal(segmentBytes[16..], _disk.LastSegments);
        }

        byte[] data = [.. Enumerable.Range(0, 1024).Select(i => (byte)(i % 251))];
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.ZoneAppend(128, data, out ulong appended));
        Assert.Equal((15u, 128ul, 128 + ModelDisk.AppendDistance), (_disk.Last.Type, _disk.Last.Sector, appended));
        Assert.Equal(data, _disk.Bytes.AsSpan((int)appended * 512, 1024).ToArray());
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.ZoneReport(256, out BlkZoneDescriptor[] zones, bufferBytes: 512));
        Assert.Equal(
            [(100ul, 256ul, 259ul, BlkZoneType.VIRTIO_BLK_ZT_SWR, BlkZoneState.VIRTIO_BLK_ZS_EOPEN), (100ul, 384ul, 387ul, BlkZoneType.VIRTIO_BLK_ZT_SWR, BlkZoneState.VIRTIO_BLK_ZS_FULL)],
            zones.Select(zone => (zone.CapacitySectors, zone.StartSector, zone.WritePointerSector, zone.Type, zone.State)));
        (Func<BlkStatus> Do, uint Type, ulong Sector)[] operations =
        [
            (() => driver.ZoneOpen(128), 18, 128), (() => driver.ZoneClose(129), 20, 129), (() => driver.ZoneFinish(130), 22, 130),
            (() => driver.ZoneReset(131), 24, 131), (driver.ZoneResetAll, 26, 0), (driver.Flush, 4, 0),
        ];
        foreach ((Func<BlkStatus> operation, uint type, ulong sector) in operations)
        {
            Assert.Equal((BlkStatus.VIRTIO_BLK_S_OK, (type, sector)), (operation(), _disk.Last));
        }
    }

    [Fact]
    public void A_chain_may_be_framed_by_the_caller_down_to_the_byte()
    {
        using FrontendQueue queue = Queue(packed: true, eventIndex: false, 32, seed: 1);
        var driver = new BlkDriver(_memory, queue, new BlkDriverOptions());
        using var server = new ModelServer(_memory, queue, _disk, ModelServer.DeviceFor(_memory, queue.Ring, eventIndex: false), seed: 1);
        new Random(1).NextBytes(_disk.Bytes);
        ulong place = _memory.Allocate(1024);
        _memory.Span(place + 8, 1)[0] = 2;
        DriverBuffer[] chain = [.. Enumerable.Range(0, 16).Select(i => DriverBuffer.Readable(place + (ulong)i, 1)), DriverBuffer.Writable(place + 16, 513)];
        Assert.True(driver.TrySubmitRaw(chain, tag: 7));
        driver.Kick();
        Assert.True(driver.WaitForCompletion(Deadline.In(TimeoutMs)));
        Assert.True(driver.TryComplete(out BlkCompletion completion));
        Assert.Equal((7ul, 513u), (completion.Tag, completion.UsedBytes));
        Assert.Equal(_disk.Bytes.AsSpan(2 * 512, 512).ToArray(), _memory.Span(place + 16, 512).ToArray());
        Assert.Equal(0, _memory.Span(place + 16 + 512, 1)[0]);
    }

    [Theory]
    [MemberData(nameof(Ways))]
    public void The_path_of_a_request_allocates_nothing(bool packed, bool eventIndex, CompletionWait wait, bool indirect)
    {
        using FrontendQueue queue = Queue(packed, eventIndex, 64, seed: 3);
        var driver = new BlkDriver(_memory, queue, new BlkDriverOptions { QueueDepth = 16, MaxTransferBytes = 4096, UseIndirect = indirect, Wait = wait });
        using var server = new ModelServer(_memory, queue, _disk, ModelServer.DeviceFor(_memory, queue.Ring, eventIndex), seed: 3);
        Assert.Equal(0, Allocations.LeastOf(() => RunReads(driver, 1000)));
    }

    private static void RunReads(BlkDriver driver, int count)
    {
        int submitted = 0;
        for (int completed = 0; completed < count;)
        {
            while (submitted < count && driver.TrySubmit(BlkRequestType.VIRTIO_BLK_T_IN, (ulong)(submitted % 1000), 4096, (ulong)submitted))
            {
                submitted++;
            }

            driver.Kick();
            if (!driver.WaitForCompletion(Deadline.In(TimeoutMs)))
            {
                throw new TimeoutException();
            }

            while (driver.TryComplete(out _))
            {
                completed++;
            }
        }
    }

    private (VerifiedWorkload Workload, ModelServer Server, FrontendQueue Queue) RunIntoDeath(bool packed, Recovery recovery)
    {
        const int Seed = 9;
        FrontendQueue queue = Queue(packed, eventIndex: true, 64, Seed);
        var driver = new BlkDriver(_memory, queue, new BlkDriverOptions { QueueDepth = 12, MaxTransferBytes = 8192 });
        var workload = new VerifiedWorkload(driver, new DiskModel(CapacitySectors), 0, CapacitySectors, Seed);
        // It dies while it fetches, so that something is in flight.
        ModelServer server = new(_memory, queue, _disk, ModelServer.DeviceFor(_memory, queue.Ring, eventIndex: true), Seed, stepsToLive: 400);
        workload.RunUntil(() => server.IsDead);
        while (server.InFlightCount == 0)
        {
            server = server.Successor(Seed, 7);
            workload.RunUntil(() => server.IsDead);
        }

        server = server.Successor(Seed, int.MaxValue, recovery);
        Wake(queue);
        return (workload, server, queue);
    }

    // As whoever attaches a new back-end does: what the dead one had taken of kicks and owed of calls is gone.
    private static void Wake(FrontendQueue queue)
    {
        queue.Kick.Signal();
        queue.Call.Signal();
    }

    private FrontendQueue Queue(bool packed, bool eventIndex, int size, int seed)
    {
        VirtioFeatures features = VirtioFeatures.VIRTIO_F_VERSION_1 | VirtioFeatures.VIRTIO_RING_F_INDIRECT_DESC
            | (packed ? VirtioFeatures.VIRTIO_F_RING_PACKED : 0) | (eventIndex ? EventIndex : 0);
        return new FrontendQueue(
            _memory, 0, size, features, new DriverRingOptions { IndirectEntries = 8, BufferIds = BufferIds.Arbitrary, Seed = seed, StartIndex = 65500 });
    }
}
