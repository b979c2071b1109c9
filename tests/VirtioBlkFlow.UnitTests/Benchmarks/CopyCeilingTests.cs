using VirtioBlkFlow.Benchmarks.Compare;
using VirtioBlkFlow.Benchmarks.Self;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Benchmarks;

/// <summary>The ceiling of memory disks.</summary>
public sealed class CopyCeilingTests
{
    [Fact]
    public void It_copies_as_often_as_there_are_runs()
    {
        var load = new Cell(DiskKind.Memory, "randread", 128 << 10, 4);

        List<Measurement> runs = CopyCeiling.Run(load, sourceBytes: 1 << 20, seconds: 0.01, runs: 2, restart: 5, cpus: null);

        Assert.Equal([(5, 0), (5, 1)], runs.Select(run => (run.Restart, run.Run)));
        Assert.All(runs, run => Assert.True(run.Iops > 0 && run.P50Ns > 0 && run.CpuNsPerRequest > 0, $"{run}"));
        Assert.All(runs, run => Assert.Null(run.OwnMemoryBytes));
    }

    [Fact]
    public void A_processor_that_is_not_there_is_named() => Assert.Contains(
        "99999", Assert.Throws<CompareException>(() => CopyCeiling.Run(new Cell(DiskKind.Memory, "randread", 4096, 1), 1 << 20, 0.01, 1, 0, "99999")).Message, StringComparison.Ordinal);
}
