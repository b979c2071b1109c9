using System.Text.Json;
using System.Text.Json.Serialization;
using VirtioBlkFlow.Benchmarks.Compare;

namespace VirtioBlkFlow.Benchmarks.Self;

/// <summary>How the measurement was made.</summary>
internal sealed record SelfMethod(
    int Restarts,
    int RunsPerRestart,
    double SecondsPerRun,
    double SettleSeconds,
    double IdleSeconds,
    string? ServerCpu,
    string? ClientCpu,
    long FileBytes,
    double ChanceOfAgreement);

/// <summary>A variant divided by the base of its cell. For IOPS higher is better, for the others lower.</summary>
internal sealed record VariantRatios(string Variant, RatioEstimate Iops, RatioEstimate P50, RatioEstimate P99, RatioEstimate CpuPerRequest)
{
    /// <summary>Computes them.</summary>
    public static VariantRatios Of(ContestantResult variant, ContestantResult against)
    {
        RatioEstimate Ratio(Func<Measurement, double> figure) => RatioEstimate.Of(variant.ByRestart(figure), against.ByRestart(figure));
        return new VariantRatios(variant.Name, Ratio(run => run.Iops), Ratio(run => run.P50Ns), Ratio(run => run.P99Ns), Ratio(run => run.CpuNsPerRequest));
    }

    /// <summary>One of them.</summary>
    public RatioEstimate Get(Figure figure) => figure switch
    {
        Figure.Iops => Iops,
        Figure.P50 => P50,
        Figure.P99 => P99,
        _ => CpuPerRequest,
    };
}

/// <summary>A goal beside the ratio that was seen.</summary>
internal sealed record GoalResult(string Variant, Figure Figure, Bound Bound, double Seen, double Low, double High, GoalVerdict Verdict)
{
    /// <summary>Judges.</summary>
    public static GoalResult Of(VariantRatios ratios, RatioGoal goal, int restarts)
    {
        RatioEstimate seen = ratios.Get(goal.Figure);
        return new GoalResult(ratios.Variant, goal.Figure, goal.Bound, seen.Median, seen.Low, seen.High, goal.Bound.Judge(seen.Low, seen.High, restarts));
    }
}

/// <summary>A figure that is no ratio, once for each restart.</summary>
/// <param name="Name">What it is.</param>
/// <param name="Subject">Of whom.</param>
/// <param name="Unit">ms, bytes, percent or perSecond.</param>
/// <param name="Values">Restart by restart.</param>
/// <param name="Bound">What it has to keep; null where it is for information.</param>
internal sealed record Quantity(string Name, string Subject, string Unit, IReadOnlyList<double> Values, Bound? Bound)
{
    /// <summary>Median of the restarts.</summary>
    public double Median => RatioEstimate.MedianOf(Values);

    /// <summary>Smallest of the restarts.</summary>
    public double Smallest => Values.Min();

    /// <summary>Largest of the restarts.</summary>
    public double Largest => Values.Max();

    /// <summary>Whether every restart keeps the bound, or none does; null without one.</summary>
    public GoalVerdict? Verdict => Bound?.Judge(Smallest, Largest, Values.Count);

    /// <summary>Threads that ran, in each restart; null where that was not looked at.</summary>
    public IReadOnlyList<IReadOnlyList<ThreadWakes>>? Threads { get; init; }

    /// <summary>What each of some neighbours adds to the memory of a process.</summary>
    /// <param name="alone">The process without them, with memory of each run.</param>
    /// <param name="together">With them.</param>
    /// <param name="count">How many they are.</param>
    /// <param name="bound">The most it may be, in bytes.</param>
    public static Quantity BytesPerNeighbour(ContestantResult alone, ContestantResult together, int count, double bound)
    {
        IReadOnlyList<double[]> without = alone.ByRestart(run => run.OwnMemoryBytes ?? 0);
        IReadOnlyList<double[]> with = together.ByRestart(run => run.OwnMemoryBytes ?? 0);
        return new Quantity(
            "bytes-per-idle-disk",
            together.Name,
            "bytes",
            [.. with.Zip(without, (more, less) => (RatioEstimate.MedianOf(more) - RatioEstimate.MedianOf(less)) / count)],
            Bound.AtMost(bound));
    }
}

/// <summary>A cell with all that ran in it.</summary>
/// <param name="Name">The cell's.</param>
/// <param name="Changed">What its variants change.</param>
/// <param name="Variants">The base first.</param>
/// <param name="Ratios">The others divided by the base.</param>
/// <param name="Goals">Goals of these ratios.</param>
/// <param name="Quantities">Figures that are no ratios.</param>
/// <param name="Skipped">Variants that failed, with the reason.</param>
internal sealed record SelfCellResult(
    string Name,
    string Changed,
    IReadOnlyList<ContestantResult> Variants,
    IReadOnlyList<VariantRatios> Ratios,
    IReadOnlyList<GoalResult> Goals,
    IReadOnlyList<Quantity> Quantities,
    IReadOnlyDictionary<string, string> Skipped)
{
    /// <summary>Puts it together from what was measured.</summary>
    /// <param name="cell">The cell.</param>
    /// <param name="variants">Of those that did not fail, in the cell's order.</param>
    /// <param name="skipped">Those that did.</param>
    /// <param name="restarts">How many restarts there were.</param>
    public static SelfCellResult Of(SelfCell cell, IReadOnlyList<ContestantResult> variants, IReadOnlyDictionary<string, string> skipped, int restarts)
    {
        ContestantResult? against = variants.FirstOrDefault(variant => variant.Name == cell.Base.Name);
        ContestantResult[] others = against is null ? [] : [.. variants.Where(variant => variant != against)];
        VariantRatios[] ratios = [.. others.Select(variant => VariantRatios.Of(variant, against!))];
        return new SelfCellResult(
            cell.Name,
            cell.Changed,
            variants,
            ratios,
            [.. from ratio in ratios from goal in cell.Goals select GoalResult.Of(ratio, goal, restarts)],
            cell.MostBytesPerNeighbour is { } most
                ? [.. others.Select(variant => Quantity.BytesPerNeighbour(against!, variant, SelfCellTable.NeighbourCount, most))]
                : [],
            skipped);
    }
}

/// <summary>All of it, as the file has it; the schema is in perf/README.md.</summary>
internal sealed record SelfResult(
    int SchemaVersion, DateTimeOffset StartedAt, string Command, Machine Machine, SelfMethod Method, IReadOnlyList<SelfCellResult> Cells, IReadOnlyList<Quantity> Alone)
{
    /// <summary>Version of the schema; changes when a field changes its meaning or goes.</summary>
    public const int CurrentSchema = 2;

    private static readonly JsonSerializerOptions s_json = new()
    {
        WriteIndented = true,
        PropertyNamingPolicy = JsonNamingPolicy.CamelCase,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.CamelCase) },
        // A ratio to a base that took no CPU time at all, as the kernel counts it in a very short run.
        NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals,
        Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    /// <summary>As text.</summary>
    public string ToJson() => JsonSerializer.Serialize(this, s_json) + "\n";
}
