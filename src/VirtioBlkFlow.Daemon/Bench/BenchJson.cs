using System.Globalization;
using System.Text.Json;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Frontend.Load;

namespace VirtioBlkFlow.Daemon.Bench;

/// <summary>
/// The results as JSON. What fio has is where fio has it, under its names and in its units (<c>jobs[].read.iops</c>, <c>.bw_bytes</c>,
/// <c>.clat_ns.percentile</c>); what it has not is under <c>jobs[].vblkflow</c>.
/// </summary>
internal static class BenchJson
{
    // fio's default list.
    private static readonly double[] s_percentiles = [1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99, 99.5, 99.9, 99.95, 99.99];

    /// <summary>Writes all of it.</summary>
    /// <param name="output">Where to.</param>
    /// <param name="result">What was found out.</param>
    /// <param name="stages">Where latency comes from, under <c>vblkflow.stages</c>; null if nobody was asked.</param>
    public static void Write(TextWriter output, LoadResult result, StageBreakdown? stages = null)
    {
        using var memory = new MemoryStream();
        using (var json = new Utf8JsonWriter(memory, new JsonWriterOptions { Indented = true }))
        {
            WriteAll(json, result, stages);
        }

        output.WriteLine(System.Text.Encoding.UTF8.GetString(memory.ToArray()));
        output.Flush();
    }

    private static void WriteAll(Utf8JsonWriter json, LoadResult result, StageBreakdown? stages)
    {
        json.WriteStartObject();
        json.WriteString("vblkflow version", typeof(BenchJson).Assembly.GetName().Version!.ToString(3));
        json.WriteNumber("timestamp", result.StartedAt.ToUnixTimeSeconds());
        json.WriteNumber("timestamp_ms", result.StartedAt.ToUnixTimeMilliseconds());
        json.WriteString("time", result.StartedAt.ToString("O", CultureInfo.InvariantCulture));
        json.WriteStartArray("jobs");
        json.WriteStartObject();
        json.WriteString("jobname", "vblkflow bench");
        json.WriteNumber("error", 0);
        json.WriteNumber("elapsed", (long)Math.Ceiling(result.Seconds));
        WriteOptions(json, result);
        WriteDirection(json, "read", result, result.Total.Read);
        WriteDirection(json, "write", result, result.Total.Write);
        WriteOwn(json, result, stages);
        json.WriteEndObject();
        json.WriteEndArray();
        json.WriteEndObject();
    }

    private static void WriteOptions(Utf8JsonWriter json, LoadResult result)
    {
        LoadOptions load = result.Options;
        json.WriteStartObject("job options");
        json.WriteString("rw", (load.Sequential ? "" : "rand") + (load.ReadPercent switch { 100 => "read", 0 => "write", _ => "rw" }));
        json.WriteNumber("rwmixread", load.ReadPercent);
        json.WriteString("bs", string.Join('/', load.BlockSizes.Sizes.Select(size => load.BlockSizes.IsSingle ? $"{size.Bytes}" : $"{size.Bytes}:{size.Weight}")));
        json.WriteNumber("iodepth", load.QueueDepth);
        json.WriteNumber("numjobs", load.QueueCount);
        json.WriteNumber("offset", result.Target.FirstSector * 512);
        json.WriteNumber("size", result.Target.SectorCount * 512);
        json.WriteNumber("ramp_time_ms", (long)load.WarmUp.TotalMilliseconds);
        WriteOptional(json, "runtime_ms", load.Duration is { } time ? (long)time.TotalMilliseconds : null);
        WriteOptional(json, "number_ios", load.RequestCount);
        WriteOptional(json, "rate_iops", load.RatePerSecond > 0 ? load.RatePerSecond : null);
        json.WriteNumber("randseed", load.Seed);
        json.WriteString("wait", load.Wait == CompletionWait.Poll ? "poll" : "sleep");
        json.WriteString("arrivals", load.RatePerSecond == 0 ? "closed" : load.Arrivals == Arrivals.Even ? "even" : "poisson");
        json.WriteBoolean("verify", load.Verify);
        json.WriteEndObject();
    }

    private static void WriteDirection(Utf8JsonWriter json, string name, LoadResult result, DirectionTally tally)
    {
        json.WriteStartObject(name);
        json.WriteNumber("io_bytes", tally.Bytes);
        json.WriteNumber("io_kbytes", tally.Bytes / 1024);
        json.WriteNumber("bw_bytes", (long)result.PerSecond(tally.Bytes));
        json.WriteNumber("bw", (long)(result.PerSecond(tally.Bytes) / 1024));
        json.WriteNumber("iops", result.PerSecond(tally.Latency.Count));
        json.WriteNumber("runtime", result.Total.ElapsedNs / 1_000_000);
        json.WriteNumber("total_ios", tally.Latency.Count);
        WriteLatency(json, "clat_ns", tally.Latency, withPercentiles: true);
        // There is no time between submission and the start of a request: the whole is what completion takes.
        WriteLatency(json, "lat_ns", tally.Latency, withPercentiles: false);
        json.WriteEndObject();
    }

    private static void WriteLatency(Utf8JsonWriter json, string name, LatencyHistogram latency, bool withPercentiles)
    {
        json.WriteStartObject(name);
        json.WriteNumber("min", latency.MinNs);
        json.WriteNumber("max", latency.MaxNs);
        json.WriteNumber("mean", latency.MeanNs);
        json.WriteNumber("stddev", latency.StandardDeviationNs);
        json.WriteNumber("N", latency.Count);
        if (withPercentiles && latency.Count > 0)
        {
            json.WriteStartObject("percentile");
            foreach (double percentile in s_percentiles)
            {
                json.WriteNumber(percentile.ToString("F6", CultureInfo.InvariantCulture), latency.ValueAt(percentile));
            }

            json.WriteEndObject();
            // As fio's json+: how often each value was seen, by the highest value its bucket stands for.
            json.WriteStartObject("bins");
            foreach ((long highestNs, long count) in latency.Buckets)
            {
                json.WriteNumber(highestNs.ToString(CultureInfo.InvariantCulture), count);
            }

            json.WriteEndObject();
        }

        json.WriteEndObject();
    }

    private static void WriteOwn(Utf8JsonWriter json, LoadResult result, StageBreakdown? stages)
    {
        QueueTally total = result.Total;
        LoadTarget target = result.Target;
        json.WriteStartObject("vblkflow");
        json.WriteNumber("elapsed_ns", total.ElapsedNs);
        json.WriteNumber("requests", total.RequestCount);
        json.WriteNumber("iops", result.Iops);
        json.WriteBoolean("stopped", result.WasStopped);
        json.WriteString("ring", target.IsPacked ? "packed" : "split");
        json.WriteNumber("queue_size", target.QueueSize);
        json.WriteBoolean("indirect", target.IsIndirect);
        json.WriteBoolean("event_idx", target.UsesEventIndex);
        json.WriteNumber("kicks", total.Kicks);
        json.WriteNumber("calls", total.Calls);
        json.WriteNumber("sleeps", total.Sleeps);
        json.WriteNumber("bursts", total.Bursts);
        json.WriteNumber("calls_per_request", result.PerRequest(total.Calls));
        json.WriteNumber("odd_used_lengths", total.OddLengths);
        json.WriteNumber("never_begun", total.NeverBegun);
        json.WriteNumber("own_lateness_mean_ns", result.PerRequest(total.OwnLatenessNs));
        json.WriteNumber("verified_sectors", total.CheckedSectors);
        json.WriteNumber("unverified_sectors", total.UncheckedSectors);
        json.WriteStartObject("generator");
        WriteOptional(json, "cost_ns_per_request", double.IsNaN(total.GeneratorNsPerRequest) ? null : total.GeneratorNsPerRequest);
        json.WriteNumber("thread_cpu_ns_per_request", result.PerRequest(total.ThreadCpuNs));
        json.WriteNumber("allocated_bytes", total.AllocatedBytes);
        json.WriteEndObject();
        if (result.Server is { } server)
        {
            json.WriteStartObject("server");
            json.WriteNumber("pid", server.ProcessId);
            json.WriteString("name", server.Name);
            json.WriteNumber("cpu_ns_per_request", result.PerRequest(server.CpuNs));
            json.WriteNumber("cpu_percent", server.CpuNs / 1e7 / Math.Max(result.Seconds, 1e-9));
            json.WriteNumber("rss_bytes", server.Memory.ResidentBytes);
            json.WriteNumber("rss_shared_memory_bytes", server.Memory.SharedMemoryBytes);
            json.WriteNumber("rss_peak_bytes", server.Memory.PeakBytes);
            json.WriteEndObject();
        }

        stages?.Write(json);
        json.WriteEndObject();
    }

    private static void WriteOptional(Utf8JsonWriter json, string name, double? value)
    {
        if (value is { } number)
        {
            json.WriteNumber(name, number);
        }
    }
}
