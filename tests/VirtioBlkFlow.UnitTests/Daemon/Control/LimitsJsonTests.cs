using System.Text;
using VirtioBlkFlow.Daemon.Control;
using VirtioBlkFlow.Daemon.Specs;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Wrapping;
using VirtioBlkFlow.UnitTests.Disks.Wrapping;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Daemon.Control;

/// <summary>Limits as the control socket takes and tells them.</summary>
public sealed class LimitsJsonTests
{
    [Fact]
    public void Keys_are_those_of_the_command_line_and_values_numbers_text_or_nothing()
    {
        var before = new ThrottleLimits { Iops = 10, WriteIops = 3, BurstRequests = 2 };
        ThrottleLimits after = Read(before, """{ "iops": 1000, "iops-write": null, "bps": "100M", "burst-bytes": "64K", "bps-read": 4096 }""");
        Assert.Equal(
            new ThrottleLimits { Iops = 1000, BytesPerSecond = 100 << 20, ReadBytesPerSecond = 4096, BurstRequests = 2, BurstBytes = 65536 }, after);
        Assert.Equal(
            new Dictionary<string, ulong> { ["iops"] = 1000, ["bps"] = 100 << 20, ["bps-read"] = 4096, ["burst"] = 2, ["burst-bytes"] = 65536 }, LimitsJson.Write(after));
        Assert.Equal("iops=10, iops-write=3, burst=2", LimitsJson.Describe(before));
        Assert.Equal("none", LimitsJson.Describe(Read(before, """{ "iops": null, "iops-write": null, "burst": null }""")));
        Assert.Equal(before, Read(before, "{}"));
        // Every limit there is can be written, told and taken back.
        foreach (ThrottleLimit limit in ThrottleKeys.Limits)
        {
            Assert.Equal(7ul, limit.Of(limit.With(new ThrottleLimits(), 7)));
            Assert.Equal(7ul, Assert.Single(LimitsJson.Write(limit.With(new ThrottleLimits(), 7))).Value);
        }
    }

    [Theory]
    [InlineData("", "no JSON")]
    [InlineData("{ \"iops\": 1", "no JSON")]
    [InlineData("{ \"\\ud800\": 1 }", "no JSON")]
    [InlineData("{ \"iops\": \"\\ud800\" }", "no JSON")]
    [InlineData("[]", "an object")]
    [InlineData("3", "an object")]
    [InlineData("{ \"iops\": 0 }", "iops takes 1 to")]
    [InlineData("{ \"iops\": -1 }", "iops takes")]
    [InlineData("{ \"iops\": 1.5 }", "iops takes")]
    [InlineData("{ \"iops\": 1e3 }", "iops takes")]
    [InlineData("{ \"iops\": \"1K\" }", "iops takes")]
    [InlineData("{ \"iops\": true }", "iops takes")]
    [InlineData("{ \"iops\": {} }", "iops takes")]
    [InlineData("{ \"bps\": \"fast\" }", "bps takes bytes")]
    [InlineData("{ \"bps\": 99999999999999999999 }", "bps takes bytes")]
    [InlineData("{ \"iops\": 1, \"iops\": 2 }", "'iops' is given twice")]
    [InlineData("{ \"group\": \"g\" }", "no limit 'group'")]
    [InlineData("{ \"IOPS\": 1 }", "no limit 'IOPS'")]
    [InlineData("{ \"burst-bytes\": 1 }", "Burst-bytes goes with bps")]
    [InlineData("{ \"iops\": null }", "Burst goes with iops")]
    public void What_is_wrong_names_the_key(string json, string named) => Assert.Contains(
        named, Assert.Throws<SpecException>(() => Read(new ThrottleLimits { Iops = 10, BurstRequests = 2 }, json)).Message, StringComparison.Ordinal);

    [Fact]
    public void A_disk_that_began_without_limits_keeps_to_those_it_is_given()
    {
        var group = new ThrottleGroup(new ThrottleLimits());
        using var disk = new ThrottleDisk(new AnsweringDisk(), group);
        using var bench = new WrappingBench(disk);
        Submit(bench, 0, 20);
        Assert.Equal(20, bench.Take().Length);
        group.Limits = Read(group.Limits, """{ "iops": 1000, "burst": 3 }""");
        Submit(bench, 0, 20);
        Assert.Equal(3, bench.Take().Length);
        bench.Pass(7);
        Assert.Equal(7, bench.Take().Length);
        // Half as fast: the books are new, so that a burst passes first.
        group.Limits = Read(group.Limits, """{ "iops": 500 }""");
        bench.Pass(0);
        Assert.Equal(3, bench.Take().Length);
        bench.Pass(4);
        Assert.Equal(2, bench.Take().Length);
        group.Limits = Read(group.Limits, """{ "iops": null, "burst": null }""");
        bench.Pass(0);
        Assert.Equal(5, bench.Take().Length);
    }

    private static void Submit(WrappingBench bench, int first, int count)
    {
        for (int i = 0; i < count; i++)
        {
            bench.Submit(first + i, DiskOperation.Read);
        }
    }

    private static ThrottleLimits Read(ThrottleLimits before, string json) => LimitsJson.Read(before, Encoding.UTF8.GetBytes(json));
}
