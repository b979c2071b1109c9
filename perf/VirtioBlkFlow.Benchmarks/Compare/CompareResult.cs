using System.Text.Json;
using System.Text.Json.Serialization;

namespace VirtioBlkFlow.Benchmarks.Compare;

/// <summary>What the figures belong to.</summary>
internal sealed record Machine(
    string Cpu, int Cores, double MemoryGib, string Kernel, string FileSystem, string Runtime, string Commit, IReadOnlyDictionary<string, string> Versions, string LoadBefore);

/// <summary>How the measurement was made.</summary>
internal sealed record Method(int Restarts, int RunsPerRestart, double SecondsPerRun, string? ServerCpu, string? ClientCpu, long FileBytes, double ChanceOfAgreement);

/// <summary>One contestant in one cell.</summary>
internal sealed record ContestantResult(string Name, bool IsCeiling, string Command, IReadOnlyList<Measurement> Runs)
{
    /// <summary>Medians over all runs, for a table.</summary>
    public Medians Medians => new(
        Of(run => run.Iops), Of(run => run.P50Ns), Of(run => run.P99Ns), Of(run => run.P999Ns), Of(run => run.CpuNsPerRequest), Of(run => run.OwnMemoryBytes ?? 0));

    /// <summary>A figure of every run, restart by restart.</summary>
    public IReadOnlyList<double[]> ByRestart(Func<Measurement, double> figure) =>
        [.. Runs.GroupBy(run => run.Restart).OrderBy(group => group.Key).Select(group => group.Select(figure).ToArray())];

    private double Of(Func<Measurement, double> figure) => RatioEstimate.MedianOf(Runs.Select(figure));
}

/// <summary>Medians over the runs of a contestant.</summary>
internal sealed record Medians(double Iops, double P50Ns, double P99Ns, double P999Ns, double CpuNsPerRequest, double OwnMemoryBytes);

/// <summary>Ours divided by a peer's, figure by figure. For IOPS higher is better, for the others lower.</summary>
internal sealed record PeerRatios(string Peer, RatioEstimate Iops, RatioEstimate P50, RatioEstimate P99, RatioEstimate P999, RatioEstimate CpuPerRequest)
{
    /// <summary>Computes them.</summary>
    public static PeerRatios Of(ContestantResult ours, ContestantResult peer)
    {
        RatioEstimate Ratio(Func<Measurement, double> figure) => RatioEstimate.Of(ours.ByRestart(figure), peer.ByRestart(figure));
        return new PeerRatios(
            peer.Name, Ratio(run => run.Iops), Ratio(run => run.P50Ns), Ratio(run => run.P99Ns), Ratio(run => run.P999Ns), Ratio(run => run.CpuNsPerRequest));
    }
}

/// <summary>A cell with all that ran in it.</summary>
/// <param name="Name">The cell's.</param>
/// <param name="Cell">What it is.</param>
/// <param name="Contestants">Ours first.</param>
/// <param name="Ratios">Ours against each other one.</param>
/// <param name="Skipped">Contestants that could not run here, with the reason.</param>
internal sealed record CellResult(
    string Name, Cell Cell, IReadOnlyList<ContestantResult> Contestants, IReadOnlyList<PeerRatios> Ratios, IReadOnlyDictionary<string, string> Skipped);

/// <summary>A whole comparison, as the file has it; the schema is in perf/README.md.</summary>
internal sealed record CompareResult(int SchemaVersion, DateTimeOffset StartedAt, string Command, Machine Machine, Method Method, IReadOnlyList<CellResult> Cells)
{
    /// <summary>Version of the schema; changes when a field changes its meaning or goes.</summary>
    public const int CurrentSchema = 1;

    private static readonly JsonSerializerOptions s_json = new()
    {
        WriteIndented = true,
        PropertyNamingPolicy = JsonNamingPolicy.CamelCase,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.CamelCase) },
        Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    /// <summary>As text.</summary>
    public string ToJson() => JsonSerializer.Serialize(this, s_json) + "\n";
}
