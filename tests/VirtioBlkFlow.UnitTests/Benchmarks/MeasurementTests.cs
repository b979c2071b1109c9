using System.Text.Json;
using VirtioBlkFlow.Benchmarks.Compare;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Benchmarks;

/// <summary>From what a client prints to what the results hold.</summary>
public sealed class MeasurementTests
{
    private static readonly Cell s_cell = new(DiskKind.Cache, "randwrite", 4096, 8);

    [Fact]
    public void The_figures_of_fio_are_taken_with_its_units()
    {
        // As fio 3.33 prints it, with a line before, cut to what counts. Of CPU time it only knows the thread that submits, so that is not taken.
        const string Json = """
            note: both iodepth >= 1 and synchronous I/O engine are selected
            { "jobs": [ { "job_runtime": 2000, "usr_cpu": 30.0, "sys_cpu": 20.0,
              "read": { "iops": 0, "total_ios": 0, "clat_ns": { } },
              "write": { "iops": 500.5, "total_ios": 1000, "clat_ns": { "percentile": { "50.000000": 1000, "99.000000": 2000, "99.900000": 3000 } } } } ] }
            """;

        Measurement run = Measurement.OfFio(Json, s_cell, restart: 1, run: 2, busyProcessors: 1.5);

        Assert.Equal((1, 2, 500.5, 1000.0, 2000.0, 3000.0), (run.Restart, run.Run, run.Iops, run.P50Ns, run.P99Ns, run.P999Ns));
        // 1.5 s of CPU a second, for 500.5 requests.
        Assert.Equal(1.5e9 / 500.5, run.CpuNsPerRequest, 1e-3);
        Assert.Null(run.OwnMemoryBytes);
    }

    [Fact]
    public void The_figures_of_bench_are_those_of_the_cell_s_direction()
    {
        const string Json = """
            { "jobs": [ { "read": { "iops": 0 },
              "write": { "iops": 7, "clat_ns": { "percentile": { "50.000000": 1, "99.000000": 2, "99.900000": 3 }, "bins": { "5": 6 } } },
              "vblkflow": { "calls_per_request": 0.5, "generator": { "cost_ns_per_request": 25.5 },
                "server": { "cpu_ns_per_request": 900, "rss_bytes": 5000, "rss_shared_memory_bytes": 2000 } } } ] }
            """;

        Measurement run = Measurement.OfBench(Json, s_cell, 0, 0);

        Assert.Equal((7.0, 1.0, 2.0, 3.0, 900.0, 3000, 25.5, 0.5), (run.Iops, run.P50Ns, run.P99Ns, run.P999Ns, run.CpuNsPerRequest, run.OwnMemoryBytes, run.GeneratorNs, run.CallsPerRequest));
        Assert.Equal(6, run.Bins!["5"]);
    }

    [Fact]
    public void A_load_without_a_request_is_no_measurement()
    {
        const string Json = """
            { "jobs": [ { "write": { "iops": 0, "clat_ns": { "N": 0 } }, "vblkflow": { "server": { } } } ] }
            """;

        Assert.Contains("Not a single request", Assert.Throws<CompareException>(() => Measurement.OfBench(Json, s_cell, 0, 0)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_file_has_every_run_every_ratio_and_the_version_of_its_schema()
    {
        ContestantResult Contestant(string name, double iops) => new(
            name, false, $"serve {name}", [.. Enumerable.Range(0, 3).Select(i => new Measurement(i, 0, iops + i, 10, 20, 30, 40, 50, 60, 0, null))]);
        ContestantResult ours = Contestant("vblkflow", 200);
        ContestantResult peer = Contestant("other", 100);
        var machine = new Machine("cpu", 2, 24, "Linux", "ext4", ".NET", "abc", new Dictionary<string, string> { ["other"] = "1.0" }, "0 0 0");
        var cell = new CellResult(s_cell.Name, s_cell, [ours, peer], [PeerRatios.Of(ours, peer)], new Dictionary<string, string> { ["fio"] = "has no such disk" });
        var result = new CompareResult(CompareResult.CurrentSchema, DateTimeOffset.UnixEpoch, "compare", machine, new Method(3, 1, 2, "0", "1", 1, 0.25), [cell]);

        using JsonDocument json = JsonDocument.Parse(result.ToJson());

        Assert.Equal(1, json.RootElement.GetProperty("schemaVersion").GetInt32());
        JsonElement first = json.RootElement.GetProperty("cells")[0];
        Assert.Equal("cache-randwrite-4k-qd8", first.GetProperty("name").GetString());
        Assert.Equal("cache", first.GetProperty("cell").GetProperty("disk").GetString());
        Assert.Equal([200.0, 201, 202], first.GetProperty("contestants")[0].GetProperty("runs").EnumerateArray().Select(run => run.GetProperty("iops").GetDouble()));
        Assert.Equal(201, first.GetProperty("contestants")[0].GetProperty("medians").GetProperty("iops").GetDouble());
        JsonElement ratio = first.GetProperty("ratios")[0].GetProperty("iops");
        Assert.Equal("higher", ratio.GetProperty("verdict").GetString());
        Assert.InRange(ratio.GetProperty("median").GetDouble(), 1.9, 2.01);
        Assert.Equal("noDifferenceSeen", first.GetProperty("ratios")[0].GetProperty("p99").GetProperty("verdict").GetString());
        Assert.Equal("has no such disk", first.GetProperty("skipped").GetProperty("fio").GetString());
    }
}
