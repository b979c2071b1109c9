using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Wrapping;
using Xunit;
using static VirtioBlkFlow.Disks.DiskOutcome;

namespace VirtioBlkFlow.UnitTests.Disks.Wrapping;

public sealed class ReadOnlyDiskTests
{
    [Theory]
    [InlineData(DiskOperation.Read, Done)]
    [InlineData(DiskOperation.Flush, Done)]
    [InlineData(DiskOperation.ZoneReport, Done)]
    [InlineData(DiskOperation.Write, Failed)]
    [InlineData(DiskOperation.Append, Failed)]
    [InlineData(DiskOperation.ZoneReset, Failed)]
    [InlineData(DiskOperation.ZoneResetAll, Failed)]
    [InlineData(DiskOperation.ZoneFinish, Failed)]
    [InlineData(DiskOperation.ZoneOpen, Failed)]
    [InlineData(DiskOperation.ZoneClose, Failed)]
    [InlineData(DiskOperation.Discard, Unsupported)]
    [InlineData(DiskOperation.WriteZeroes, Unsupported)]
    [InlineData(DiskOperation.SecureErase, Unsupported)]
    public void Only_what_changes_nothing_goes_through(DiskOperation operation, DiskOutcome outcome)
    {
        var inner = new AnsweringDisk();
        using var disk = new ReadOnlyDisk(inner);
        using var bench = new WrappingBench(disk);
        bench.Submit(3, operation);
        Assert.Equal((3, outcome), Assert.Single(bench.Ended));
        Assert.Equal(outcome == Done ? 1 : 0, inner.Requests.Count);
    }

    [Fact]
    public void It_says_what_it_is_also_at_another_size()
    {
        var inner = new AnsweringDisk { NewCapacityBytes = 8 << 20 };
        using var disk = new ReadOnlyDisk(inner);
        Assert.Equal(new DiskProperties { CapacityBytes = 4 << 20, ReadOnly = true }, disk.Properties);
        disk.Refresh();
        Assert.Equal(new DiskProperties { CapacityBytes = 8 << 20, ReadOnly = true }, disk.Properties);
    }
}
