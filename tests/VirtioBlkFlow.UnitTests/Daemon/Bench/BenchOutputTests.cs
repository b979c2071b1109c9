using System.Globalization;
using System.Text.Json;
using VirtioBlkFlow.Daemon.Bench;
using VirtioBlkFlow.Frontend.Load;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Daemon.Bench;

/// <summary>What a run prints and writes, as others read it.</summary>
public sealed class BenchOutputTests
{
    private static readonly LoadOptions s_load = new()
    {
        ReadPercent = 50,
        AllowWrites = true,
        WarmUp = TimeSpan.Zero,
        Duration = null,
        RequestCount = 4000,
        QueueDepth = 8,
    };

    [Fact]
    public void Json_has_fio_s_names_and_adds_up()
    {
        LoadResult result = Run();
        var text = new StringWriter();
        BenchJson.Write(text, result);
        using JsonDocument json = JsonDocument.Parse(text.ToString());
        JsonElement job = json.RootElement.GetProperty("jobs")[0];

        Assert.Equal("randrw", job.GetProperty("job options").GetProperty("rw").GetString());
        Assert.Equal(8, job.GetProperty("job options").GetProperty("iodepth").GetInt32());
        long requests = 0;
        foreach ((string name, DirectionTally tally) in new[] { ("read", result.Total.Read), ("write", result.Total.Write) })
        {
            JsonElement direction = job.GetProperty(name);
            Assert.Equal(tally.Latency.Count, direction.GetProperty("total_ios").GetInt64());
            Assert.Equal(tally.Latency.Count * 4096, direction.GetProperty("io_bytes").GetInt64());
            Assert.Equal(result.PerSecond(tally.Bytes), direction.GetProperty("bw_bytes").GetDouble(), 1.0);
            Assert.Equal(result.PerSecond(tally.Latency.Count), direction.GetProperty("iops").GetDouble(), 1e-6);
            JsonElement latency = direction.GetProperty("clat_ns");
            Assert.Equal(tally.Latency.ValueAt(99), latency.GetProperty("percentile").GetProperty("99.000000").GetInt64());
            Assert.Equal(tally.Latency.Count, latency.GetProperty("bins").EnumerateObject().Sum(bin => bin.Value.GetInt64()));
            Assert.Equal(tally.Latency.MaxNs, direction.GetProperty("lat_ns").GetProperty("max").GetInt64());
            requests += tally.Latency.Count;
        }

        Assert.Equal(requests, job.GetProperty("vblkflow").GetProperty("requests").GetInt64());
        Assert.Equal(4000, requests);
        Assert.Equal(JsonValueKind.Number, job.GetProperty("vblkflow").GetProperty("generator").GetProperty("thread_cpu_ns_per_request").ValueKind);
    }

    [Fact]
    public void The_distribution_has_HdrHistogram_s_form_and_rises_to_the_last_value()
    {
        var histogram = new LatencyHistogram();
        for (int i = 1; i <= 10_000; i++)
        {
            histogram.Record(i * 1000);
        }

        var text = new StringWriter();
        PercentileText.Write(text, histogram);

        string[] lines = text.ToString().Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal(["Value", "Percentile", "TotalCount", "1/(1-Percentile)"], lines[0].Split(' ', StringSplitOptions.RemoveEmptyEntries));
        double[][] rows = [.. lines.Skip(1).Where(line => line[0] != '#').Select(
            line => line.Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(word => double.Parse(word, CultureInfo.InvariantCulture)).ToArray())];
        Assert.True(rows.Length > 30, $"{rows.Length} rows");
        foreach ((double[] row, double[] next) in rows.Zip(rows.Skip(1)))
        {
            Assert.True(row[0] <= next[0] && row[1] < next[1] && row[2] <= next[2], $"{row[0]} {row[1]} {row[2]}, then {next[0]} {next[1]} {next[2]}");
        }

        // Values are microseconds here: percentile p of 1 … 10000 is 10000 p.
        Assert.All(rows, row => Assert.InRange(row[0], row[1] * 10_000 * 0.999, (Math.Max(row[1] * 10_000, 1) * 1.01) + 1));
        Assert.Equal([10_000.0, 1.0, 10_000.0], rows[^1]);
        Assert.Equal("#[Mean    =     5000.500, StdDeviation   =", lines[^3][..42]);
        Assert.Contains("#[Max     =    10000.000, Total count    =        10000]", lines);
    }

    [Fact]
    public void The_report_has_a_line_for_each_direction_and_the_generator_s_cost()
    {
        var text = new StringWriter();
        BenchReport.Write(text, Run(), isLoopback: true);

        string report = text.ToString();
        Assert.Contains("random 50 % reads and writes of 4096 bytes, 8 in flight, 1 queue, polling", report, StringComparison.Ordinal);
        Assert.Contains("4000 requests in", report, StringComparison.Ordinal);
        string[] lines = report.Split('\n');
        Assert.Single(lines, line => line.StartsWith("read ", StringComparison.Ordinal));
        Assert.Single(lines, line => line.StartsWith("write ", StringComparison.Ordinal));
        Assert.Single(lines, line => line.StartsWith("generator cost: ", StringComparison.Ordinal));
        Assert.DoesNotContain("server:", report, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(7, "7.00 ns")]
    [InlineData(1234, "1.23 µs")]
    [InlineData(45_678, "45.7 µs")]
    [InlineData(123_456_789, "123 ms")]
    [InlineData(2.5e9, "2.50 s")]
    public void Times_have_three_digits(double ns, string text) => Assert.Equal(text, Units.Time(ns));

    [Theory]
    [InlineData(999, "999")]
    [InlineData(12_345, "12.3k")]
    [InlineData(2_811_000, "2.81M")]
    public void Counts_are_short(double count, string text) => Assert.Equal(text, Units.Count(count));

    private static LoadResult Run()
    {
        using LoadRun run = LoadRun.Loopback(s_load, diskSectors: 8192);
        return run.Run(null, CancellationToken.None);
    }
}
