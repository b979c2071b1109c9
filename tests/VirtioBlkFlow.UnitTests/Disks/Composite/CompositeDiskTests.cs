using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Composite;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.Memory;
using VirtioBlkFlow.Disks.Wrapping;
using VirtioBlkFlow.UnitTests.Disks.Wrapping;
using Xunit;
using static VirtioBlkFlow.Disks.DiskOutcome;

namespace VirtioBlkFlow.UnitTests.Disks.Composite;

public sealed class CompositeDiskTests
{
    private readonly AnsweringDisk _first = new() { Properties = Sized(8192) };
    private readonly AnsweringDisk _second = new() { Properties = Sized(4096) };

    [Fact]
    public void A_request_across_parts_reaches_each_with_its_own_stretch()
    {
        using CompositeDisk disk = Open(new(0, _first), new(16, _second));
        using var bench = new WrappingBench(disk);
        bench.Submit(0, DiskOperation.Write, 8192 - 1536, 3072, durable: true);
        Assert.Equal((0, Done), Assert.Single(bench.Ended));
        Got one = Assert.Single(_first.Requests);
        Assert.Equal((8192ul - 1536, 1536u, true), (one.OffsetBytes, one.LengthBytes, one.Durable));
        Got other = Assert.Single(_second.Requests);
        Assert.Equal((0ul, 1536u, true), (other.OffsetBytes, other.LengthBytes, other.Durable));
        Assert.Equal([1536u], other.PieceBytes);
    }

    [Fact]
    public void Between_parts_there_are_zeros_that_cannot_be_written()
    {
        using CompositeDisk disk = CompositeDisk.Open(new CompositeDiskOptions(
            [new(8, MemoryDisk.Open(new MemoryDiskOptions(4096))), new(24, MemoryDisk.Open(new MemoryDiskOptions(4096)))], 40));
        Assert.Equal(40ul * 512, disk.Properties.CapacityBytes);
        using var bench = new DiskBench(disk, IoEngineKind.Threads);
        bench.Memory.Fill(0x5a);
        Assert.Equal(Done, bench.Transfer(DiskOperation.Write, 4096, 0, 2, 2048));
        Assert.Equal(Done, bench.Transfer(DiskOperation.Write, 3 * 4096, 0, 2, 2048));
        foreach (ulong offset in new ulong[] { 0, 512, 4096 - 512, 8192 - 512, 8192, (3 * 4096) - 512, 16384 - 512, 16384 })
        {
            Assert.Equal(Failed, bench.Transfer(DiskOperation.Write, offset, 4096, 2, 512));
        }

        bench.Memory.Fill(0xee);
        Assert.Equal(Done, bench.Transfer(DiskOperation.Read, 0, 0, 40, 512));
        for (int block = 0; block < 5; block++)
        {
            Assert.Equal(-1, bench.Memory.Slice(block * 4096, 4096).IndexOfAnyExcept(block is 1 or 3 ? (byte)0x5a : (byte)0));
        }
    }

    [Fact]
    public void A_request_that_may_not_be_done_whole_is_not_done_at_all()
    {
        using CompositeDisk disk = Open(new(0, _first), new(16, new ReadOnlyDisk(_second)), new(32, new AnsweringDisk()));
        using var bench = new WrappingBench(disk);
        bench.Submit(0, DiskOperation.Write, 8192 - 512, 1024);
        bench.Submit(1, DiskOperation.WriteZeroes, 8192 - 1024, 2048);
        bench.Submit(2, DiskOperation.Discard, 8192 - 512, 1024);
        Assert.Equal([(0, Failed), (1, Failed), (2, Failed)], bench.Take());
        Assert.Empty(_first.Requests);
        bench.Submit(0, DiskOperation.Read, 8192 - 512, 1024);
        Assert.Equal((0, Done), Assert.Single(bench.Take()));
        Assert.Single(_second.Requests);
    }

    [Fact]
    public void An_error_of_one_part_ends_the_request()
    {
        using CompositeDisk disk = Open(new(0, _first), new(16, _second));
        using var bench = new WrappingBench(disk);
        _first.Answer = _ => NoSpace;
        bench.Submit(0, DiskOperation.Write, 8192 - 512, 1024);
        bench.Submit(1, DiskOperation.Flush);
        Assert.Equal([(0, NoSpace), (1, NoSpace)], bench.Take());
        Assert.Empty(_second.Requests);
    }

    [Fact]
    public void A_part_that_takes_its_time_is_waited_for()
    {
        using CompositeDisk disk = Open(new(0, _first), new(16, _second));
        using var bench = new WrappingBench(disk);
        _first.Answer = _ => null;
        bench.Submit(0, DiskOperation.Flush);
        bench.Submit(1, DiskOperation.Read, 8192 - 512, 1024);
        Assert.Empty(_second.Requests);
        _first.End(1, Done);
        _first.End(0, Done);
        Assert.Equal([(1, Done), (0, Done)], bench.Take());
        Assert.Equal([DiskOperation.Read, DiskOperation.Flush], _second.Requests.Select(one => one.Operation));
    }

    [Fact]
    public void Ranges_are_cut_at_the_parts_and_what_lies_between_is_zero_already()
    {
        using CompositeDisk disk = Open(new(8, _first), new(32, _second));
        using var bench = new WrappingBench(disk);
        bench.Submit(0, DiskOperation.WriteZeroes, 0, 40 * 512);
        Assert.Equal((0, Done), Assert.Single(bench.Take()));
        Assert.Equal([(0ul, 6144ul, true), (6144ul, 2048ul, false)], _first.Requests.Select(one => Assert.Single(one.Ranges)).Select(range => (range.OffsetBytes, range.LengthBytes, range.MayDeallocate)));
        Assert.Equal([(0ul, 4096ul, false)], _second.Requests.Select(one => Assert.Single(one.Ranges)).Select(range => (range.OffsetBytes, range.LengthBytes, range.MayDeallocate)));
    }

    [Fact]
    public void A_part_that_cannot_discard_is_passed_over_and_one_that_cannot_zero_spoils_it()
    {
        _second.Properties = Sized(4096) with { CanDiscard = false, CanWriteZeroes = false };
        using CompositeDisk disk = Open(new(0, _first), new(16, _second));
        Assert.Equal((true, false, false), (disk.Properties.CanDiscard, disk.Properties.CanWriteZeroes, disk.Properties.ReadOnly));
        using var bench = new WrappingBench(disk);
        bench.Submit(0, DiskOperation.Discard, 8192 - 512, 1024);
        bench.Submit(1, DiskOperation.WriteZeroes, 0, 1024);
        bench.Submit(2, DiskOperation.Append);
        Assert.Equal([(0, Done), (1, Unsupported), (2, Unsupported)], bench.Take());
        Assert.Single(_first.Requests);
        Assert.Empty(_second.Requests);
    }

    [Fact]
    public void It_is_as_strict_as_its_strictest_part_and_read_only_if_all_are()
    {
        _first.Properties = Sized(8192) with { LogicalBlockBytes = 4096, PhysicalBlockBytes = 8192, ReadOnly = true };
        _second.Properties = Sized(4096) with { ReadOnly = true };
        using CompositeDisk disk = Open(new(8, _first), new(32, _second));
        Assert.Equal(
            new DiskProperties { CapacityBytes = 40 * 512, LogicalBlockBytes = 4096, PhysicalBlockBytes = 8192, ReadOnly = true }, disk.Properties);
    }

    [Theory]
    [InlineData(15, null, "begins inside the one before, which ends at sector 16")]
    [InlineData(16, 23, "its parts end at sector 24")]
    [InlineData(ulong.MaxValue, null, "beyond what a disk can have")]
    public void Parts_that_do_not_fit_are_refused(ulong start, object? sectors, string message)
    {
        ulong? count = sectors == null ? null : Convert.ToUInt64(sectors, null);
        DiskOpenException exception = Assert.Throws<DiskOpenException>(() => CompositeDisk.Open(new CompositeDiskOptions([new(0, _first), new(start, _second)], count)));
        Assert.Contains(message, exception.Message, StringComparison.Ordinal);
        Assert.Equal((1, 1), (_first.DisposeCount, _second.DisposeCount));
    }

    [Fact]
    public void Parts_between_blocks_are_refused_and_so_is_a_disk_without_parts()
    {
        _first.Properties = Sized(8192) with { LogicalBlockBytes = 4096 };
        Assert.Contains("multiples of 8 sectors", Assert.Throws<DiskOpenException>(() => Open(new(0, _first), new(17, _second))).Message, StringComparison.Ordinal);
        Assert.Throws<DiskOpenException>(() => Open());
    }

    private static DiskProperties Sized(ulong bytes) => new() { CapacityBytes = bytes, CanDiscard = true, CanWriteZeroes = true };

    private static CompositeDisk Open(params CompositePart[] parts) => CompositeDisk.Open(new CompositeDiskOptions(parts));
}
