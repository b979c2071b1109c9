using System.Text.Json;
using VirtioBlkFlow.Benchmarks.Compare;
using VirtioBlkFlow.Benchmarks.Self;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Benchmarks;

/// <summary>From runs of our own variants to what the results hold.</summary>
public sealed class SelfResultTests
{
    private static readonly Dictionary<string, string> s_noneSkipped = [];

    [Fact]
    public void Ratios_are_those_of_each_variant_to_the_base()
    {
        SelfCellResult result = SelfCellResult.Of(Named("merging"), [Ran("merge-off", 100), Ran("merge-on", 160)], s_noneSkipped, 3);

        VariantRatios ratios = Assert.Single(result.Ratios);
        Assert.Equal(("merge-on", 1.6), (ratios.Variant, Math.Round(ratios.Iops.Median, 1)));
        GoalResult goal = Assert.Single(result.Goals);
        Assert.Equal((Figure.Iops, 1.5, GoalVerdict.Met), (goal.Figure, goal.Bound.Least, goal.Verdict));
        Assert.Empty(result.Quantities);
    }

    [Fact]
    public void Without_its_base_a_cell_has_runs_and_no_ratios()
    {
        var skipped = new Dictionary<string, string> { ["merge-off"] = "failed" };

        SelfCellResult result = SelfCellResult.Of(Named("merging"), [Ran("merge-on", 160)], skipped, 3);

        Assert.Single(result.Variants);
        Assert.Empty(result.Ratios);
        Assert.Empty(result.Goals);
        Assert.Equal("failed", result.Skipped["merge-off"]);
    }

    [Fact]
    public void Memory_of_a_neighbour_is_what_all_of_them_add_divided_by_their_number()
    {
        const long Alone = 40 << 20;
        const long Each = 20 << 10;

        SelfCellResult result = SelfCellResult.Of(
            Named("neighbours"), [Ran("1-disk", 100, Alone), Ran("64-disks", 99, Alone + (63 * Each))], s_noneSkipped, 3);

        Quantity bytes = Assert.Single(result.Quantities);
        Assert.Equal(("64-disks", "bytes"), (bytes.Subject, bytes.Unit));
        Assert.Equal([Each, Each, Each], bytes.Values);
        Assert.Equal(GoalVerdict.Met, bytes.Verdict);
    }

    [Fact]
    public void The_file_has_every_run_every_goal_and_the_version_of_its_schema()
    {
        SelfCellResult cell = SelfCellResult.Of(Named("stage-latency"), [Ran("off", 100), Ran("on", 100)], s_noneSkipped, 3);
        var idle = new Quantity("idle-switches", "adaptive", "perSecond", [1, 1, 1], Bound.AtMost(0.5)) { Threads = [[new ThreadWakes("timer", 1, 0)], [], []] };
        var machine = new Machine("cpu", 2, 24, "Linux", "ext4", ".NET", "abc", s_noneSkipped, "0 0 0");
        var result = new SelfResult(
            SelfResult.CurrentSchema, DateTimeOffset.UnixEpoch, "self", machine, new SelfMethod(3, 1, 2, 2, 10, "0", null, 1, 0.25), [cell], [idle]);

        using JsonDocument json = JsonDocument.Parse(result.ToJson());

        JsonElement root = json.RootElement;
        Assert.Equal(2, root.GetProperty("schemaVersion").GetInt32());
        Assert.Equal(10, root.GetProperty("method").GetProperty("idleSeconds").GetDouble());
        JsonElement first = root.GetProperty("cells")[0];
        Assert.Equal("stage-latency", first.GetProperty("name").GetString());
        Assert.Equal([100.0, 101, 102], first.GetProperty("variants")[1].GetProperty("runs").EnumerateArray().Select(run => run.GetProperty("iops").GetDouble()));
        Assert.Equal("noDifferenceSeen", first.GetProperty("ratios")[0].GetProperty("iops").GetProperty("verdict").GetString());
        JsonElement goal = first.GetProperty("goals")[0];
        Assert.Equal(("cpuPerRequest", "met"), (goal.GetProperty("figure").GetString(), goal.GetProperty("verdict").GetString()));
        Assert.Equal(1.02, goal.GetProperty("bound").GetProperty("most").GetDouble());
        JsonElement quantity = root.GetProperty("alone")[0];
        Assert.Equal("missed", quantity.GetProperty("verdict").GetString());
        Assert.Equal("timer", quantity.GetProperty("threads")[0][0].GetProperty("thread").GetString());
    }

    [Fact]
    public void A_base_that_took_no_time_does_not_cost_the_results()
    {
        ContestantResult without = Ran("off", 100);
        without = without with { Runs = [.. without.Runs.Select(run => run with { CpuNsPerRequest = 0 })] };
        SelfCellResult cell = SelfCellResult.Of(Named("stage-latency"), [without, Ran("on", 100)], s_noneSkipped, 3);
        var machine = new Machine("cpu", 2, 24, "Linux", "ext4", ".NET", "abc", s_noneSkipped, "0 0 0");

        string json = new SelfResult(SelfResult.CurrentSchema, DateTimeOffset.UnixEpoch, "self", machine, new SelfMethod(3, 1, 2, 2, 10, null, null, 1, 0.25), [cell], []).ToJson();

        using JsonDocument document = JsonDocument.Parse(json);
        Assert.Equal("Infinity", document.RootElement.GetProperty("cells")[0].GetProperty("ratios")[0].GetProperty("cpuPerRequest").GetProperty("median").GetString());
    }

    private static SelfCell Named(string name) => SelfCellTable.All.Single(cell => cell.Name == name);

    private static ContestantResult Ran(string name, double iops, long memory = 50) => new(
        name, false, $"serve {name}", [.. Enumerable.Range(0, 3).Select(restart => new Measurement(restart, 0, iops + restart, 10, 20, 30, 40, memory, 60, 0, null))]);
}
