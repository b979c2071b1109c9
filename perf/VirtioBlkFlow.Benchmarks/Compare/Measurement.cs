using System.Text.Json;

namespace VirtioBlkFlow.Benchmarks.Compare;

/// <summary>One run of a load: what it came to.</summary>
/// <param name="Restart">Which start of the server, from 0.</param>
/// <param name="Run">Which run on that server, from 0.</param>
/// <param name="Iops">Requests per second.</param>
/// <param name="P50Ns">Median latency.</param>
/// <param name="P99Ns">99th percentile.</param>
/// <param name="P999Ns">99.9th percentile.</param>
/// <param name="CpuNsPerRequest">CPU time of the server per request; of fio for the ceiling.</param>
/// <param name="OwnMemoryBytes">Resident memory of the server without shared memory; null for the ceiling.</param>
/// <param name="GeneratorNs">What a request cost the generator; null for the ceiling.</param>
/// <param name="CallsPerRequest">Calls; null for the ceiling.</param>
/// <param name="Bins">Latencies: how often (value) up to which nanoseconds (key).</param>
internal sealed record Measurement(
    int Restart,
    int Run,
    double Iops,
    double P50Ns,
    double P99Ns,
    double P999Ns,
    double CpuNsPerRequest,
    long? OwnMemoryBytes,
    double? GeneratorNs,
    double? CallsPerRequest,
    IReadOnlyDictionary<string, long>? Bins)
{
    /// <summary>Mean time of a request in each stage of our device, in nanoseconds; null where it was not asked for.</summary>
    public IReadOnlyDictionary<string, double>? Stages { get; init; }

    /// <summary>Takes it out of the JSON of <c>vblkflow bench</c>.</summary>
    /// <exception cref="CompareException">Not a single request came back.</exception>
    public static Measurement OfBench(string json, Cell cell, int restart, int run)
    {
        using JsonDocument document = JsonDocument.Parse(json);
        JsonElement job = document.RootElement.GetProperty("jobs")[0];
        JsonElement direction = job.GetProperty(cell.Writes ? "write" : "read");
        JsonElement own = job.GetProperty("vblkflow");
        JsonElement server = own.GetProperty("server");
        JsonElement latency = direction.GetProperty("clat_ns");
        if (!latency.TryGetProperty("percentile", out _))
        {
            throw new CompareException("Not a single request came back in the time that is counted: it is too short, or the machine too busy.");
        }

        return new Measurement(
            restart,
            run,
            direction.GetProperty("iops").GetDouble(),
            Percentile(latency, "50.000000"),
            Percentile(latency, "99.000000"),
            Percentile(latency, "99.900000"),
            server.GetProperty("cpu_ns_per_request").GetDouble(),
            server.GetProperty("rss_bytes").GetInt64() - server.GetProperty("rss_shared_memory_bytes").GetInt64(),
            own.GetProperty("generator").TryGetProperty("cost_ns_per_request", out JsonElement cost) ? cost.GetDouble() : null,
            own.GetProperty("calls_per_request").GetDouble(),
            latency.GetProperty("bins").EnumerateObject().ToDictionary(bin => bin.Name, bin => bin.Value.GetInt64()))
        {
            Stages = own.TryGetProperty("stages", out JsonElement stages)
                ? stages.EnumerateArray().ToDictionary(stage => stage.GetProperty("stage").GetString()!, stage => stage.GetProperty("mean_ns").GetDouble())
                : null,
        };
    }

    /// <summary>Takes it out of fio's JSON.</summary>
    /// <param name="json">What fio printed.</param>
    /// <param name="cell">The load.</param>
    /// <param name="restart">Number of the restart.</param>
    /// <param name="run">Number in it.</param>
    /// <param name="busyProcessors">How many processors its process kept busy; 0 if that is not known.</param>
    public static Measurement OfFio(string json, Cell cell, int restart, int run, double busyProcessors)
    {
        using JsonDocument document = JsonDocument.Parse(json[json.IndexOf('{', StringComparison.Ordinal)..]);
        JsonElement job = document.RootElement.GetProperty("jobs")[0];
        JsonElement direction = job.GetProperty(cell.Writes ? "write" : "read");
        JsonElement latency = direction.GetProperty("clat_ns");
        double iops = direction.GetProperty("iops").GetDouble();
        return new Measurement(
            restart,
            run,
            iops,
            Percentile(latency, "50.000000"),
            Percentile(latency, "99.000000"),
            Percentile(latency, "99.900000"),
            busyProcessors * 1e9 / Math.Max(1, iops),
            null,
            null,
            null,
            null);
    }

    private static double Percentile(JsonElement latency, string name) => latency.GetProperty("percentile").GetProperty(name).GetDouble();
}
