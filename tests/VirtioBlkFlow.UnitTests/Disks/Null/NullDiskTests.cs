using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.Null;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Disks.Null;

public sealed class NullDiskTests
{
    [Fact]
    public void Every_request_ends_at_once_and_the_memory_stays_as_it_was()
    {
        using NullDisk disk = NullDisk.Open(new NullDiskOptions(1 << 30));
        using var bench = new DiskBench(disk, IoEngineKind.Threads);
        bench.Memory.Fill(0x5a);
        bench.Start(1, DiskOperation.Read, 0, 0, 1, 4096);
        bench.Start(2, DiskOperation.Write, 0, 0, 1, 4096);
        // Nothing is in flight: an engine that was waited for would have nothing to say.
        Assert.Equal(2, bench.Ended);
        Assert.All(bench.Finish(2), one => Assert.Equal(DiskOutcome.Done, one.Value));
        Assert.Equal(DiskOutcome.Done, bench.Ranges(DiskOperation.Discard, true, new DiskRange(0, 512, false)));
        Assert.Equal(DiskOutcome.Unsupported, bench.Ranges(DiskOperation.SecureErase, true, new DiskRange(0, 512, false)));
        Assert.Equal(DiskOutcome.Unsupported, bench.Do(DiskOperation.ZoneOpen, 0));
        Assert.Equal(DiskOutcome.Done, bench.Flush());
        Assert.Equal(-1, bench.Memory.IndexOfAnyExcept((byte)0x5a));
    }

    [Fact]
    public void Reads_are_zeros_if_asked_for()
    {
        using NullDisk disk = NullDisk.Open(new NullDiskOptions(1 << 30, ReadZeroes: true));
        using var bench = new DiskBench(disk, IoEngineKind.Threads);
        bench.Memory.Fill(0x5a);
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Write, 0, 0, 1, 4096));
        Assert.Equal(-1, bench.Memory.IndexOfAnyExcept((byte)0x5a));
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Read, 0, 512, 3, 512));
        Assert.Equal(512, bench.Memory.IndexOfAnyExcept((byte)0x5a));
        Assert.Equal(2047, bench.Memory.LastIndexOfAnyExcept((byte)0x5a));
    }
}
