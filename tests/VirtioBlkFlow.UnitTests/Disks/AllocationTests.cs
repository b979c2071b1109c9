using System.Runtime.InteropServices;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Composite;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.Health;
using VirtioBlkFlow.Disks.Memory;
using VirtioBlkFlow.Disks.Null;
using VirtioBlkFlow.Disks.Refresh;
using VirtioBlkFlow.Disks.Wrapping;
using VirtioBlkFlow.UnitTests.Disks.Health;
using VirtioBlkFlow.Virtio;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Disks;

/// <summary>A request costs no allocation, whatever it goes through. The file disk's are shown on a running device.</summary>
public sealed unsafe class AllocationTests
{
    private const int Slots = 16;

    [Theory]
    [InlineData("null")]
    [InlineData("delayed null")]
    [InlineData("memory")]
    [InlineData("shared memory")]
    [InlineData("range")]
    [InlineData("read-only")]
    [InlineData("throttle")]
    [InlineData("faults")]
    [InlineData("error policy")]
    [InlineData("refresh")]
    [InlineData("health")]
    [InlineData("composite")]
    public void A_request_costs_no_allocation(string kind)
    {
        using IDisk disk = Open(kind);
        var engine = new FakeEngine();
        var completions = new Counted();
        using IDiskQueue queue = disk.OpenQueue(engine, completions, Slots);
        byte* memory = (byte*)NativeMemory.AllocZeroed(1024);
        var pieces = (Iovec*)NativeMemory.AllocZeroed(2 * Slots, (nuint)sizeof(Iovec));
        var ranges = (DiskRange*)NativeMemory.AllocZeroed(Slots, (nuint)sizeof(DiskRange));
        int submitted = 0;
        Assert.Equal(0, Allocations.LeastOf(() =>
        {
            for (int round = 0; round < 10; round++)
            {
                for (int slot = 0; slot < Slots; slot++)
                {
                    pieces[2 * slot] = new Iovec(memory, 100);
                    pieces[(2 * slot) + 1] = new Iovec(memory + 100, 924);
                    ranges[slot] = new DiskRange((ulong)(slot * 1024), 1024, MayDeallocate: true);
                    queue.Submit(slot, Request(slot, pieces + (2 * slot), ranges + slot));
                    submitted++;
                }

                for (int i = 0; i < 1000 && completions.Count < submitted; i++)
                {
                    engine.Clock.NowNs += 1_000_000;
                    engine.Agenda.Run();
                }
            }
        }));
        Assert.Equal(submitted, completions.Count);
        NativeMemory.Free(memory);
        NativeMemory.Free(pieces);
        NativeMemory.Free(ranges);
    }

    private static DiskRequest Request(int slot, Iovec* pieces, DiskRange* ranges) => (slot % 4) switch
    {
        0 => new DiskRequest { Operation = DiskOperation.Read, OffsetBytes = (ulong)(slot * 1024), LengthBytes = 1024, Pieces = pieces, PieceCount = 2 },
        1 => new DiskRequest { Operation = DiskOperation.Write, OffsetBytes = (ulong)(slot * 1024), LengthBytes = 1024, Pieces = pieces, PieceCount = 2 },
        2 => new DiskRequest { Operation = DiskOperation.Discard, Ranges = ranges, RangeCount = 1 },
        _ => new DiskRequest { Operation = DiskOperation.Flush },
    };

    private static IDisk Open(string kind) => kind switch
    {
        "null" => NullDisk.Open(new NullDiskOptions(1 << 20)),
        "delayed null" => NullDisk.Open(new NullDiskOptions(1 << 20, ReadZeroes: true, DelayDistribution.Exponential(TimeSpan.FromMilliseconds(1)))),
        "memory" => Memory(),
        "shared memory" => MemoryDisk.Open(new MemoryDiskOptions(1 << 20, $"virtioblkflow-test-{Guid.NewGuid():n}")),
        "range" => RangeDisk.Open(Memory(), new RangeDiskOptions(8, 1024)),
        "read-only" => new ReadOnlyDisk(Memory()),
        "throttle" => new ThrottleDisk(Memory(), new ThrottleGroup(new ThrottleLimits { Iops = 1000, BurstRequests = 2, BytesPerSecond = 1 << 20 })),
        "faults" => FaultDisk.Open(Memory(), new FaultDiskOptions(1,
        [
            new FaultRule { Operations = [DiskOperation.Write], Rate = 0.5, Outcome = DiskOutcome.Failed },
            new FaultRule { OffsetBytes = 512, Rate = 0.9, Delay = DelayDistribution.Fixed(TimeSpan.FromMilliseconds(2)) },
        ])),
        "error policy" => ErrorPolicyDisk.Open(
            FaultDisk.Open(Memory(), new FaultDiskOptions(1, [new FaultRule { Operations = [DiskOperation.Write, DiskOperation.Discard], Rate = 0.5, Outcome = DiskOutcome.Failed }])),
            new ErrorPolicyOptions(Retries: 50, RetryDelay: TimeSpan.FromMilliseconds(1))),
        "refresh" => new RefreshDisk(Memory(), new RefreshOptions(1 << 20, IoEngineKind.Threads)),
        "health" => HealthDisk.Open(
            Memory(),
            new HealthMonitor(new RecordedHealth(), Timeout.InfiniteTimeSpan),
            new HealthPolicy(new HealthPolicyOptions([], [new HealthLimit(HealthQuantity.Wear, 100)]))),
        _ => CompositeDisk.Open(new CompositeDiskOptions([new CompositePart(0, MemoryDisk.Open(new MemoryDiskOptions(2560))), new CompositePart(6, Memory())])),
    };

    private static MemoryDisk Memory() => MemoryDisk.Open(new MemoryDiskOptions(1 << 20));

    private sealed class Counted : IDiskCompletions
    {
        public int Count { get; private set; }

        public void OnCompleted(int slot, DiskOutcome outcome) => Count++;
    }
}
