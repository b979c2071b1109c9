using System.Globalization;
using VirtioBlkFlow.Benchmarks.Compare;

namespace VirtioBlkFlow.Benchmarks.Self;

/// <summary>Results for people.</summary>
internal static class SelfReport
{
    // Threads that are named: who runs less often is not what matters.
    private const int MostThreads = 4;

    /// <summary>A cell: what each variant reached, how it relates to the base, and what the goals say.</summary>
    public static void WriteCell(TextWriter output, SelfCellResult cell)
    {
        foreach (ContestantResult variant in cell.Variants)
        {
            CompareReport.WriteContestant(output, variant);
        }

        foreach (VariantRatios ratios in cell.Ratios)
        {
            string name = $"{ratios.Variant} / {cell.Variants[0].Name}";
            Line(output, $"  {name,-22} IOPS {Describe(ratios.Iops)}; p50 {Describe(ratios.P50)}; p99 {Describe(ratios.P99)}; CPU {Describe(ratios.CpuPerRequest)}");
        }

        foreach (GoalResult goal in cell.Goals)
        {
            Line(output, $"  goal: {NameOf(goal.Figure)} of {goal.Variant} {goal.Bound}, seen {goal.Seen:F3}: {Describe(goal.Verdict)}");
        }

        WriteQuantities(output, cell.Quantities);
    }

    /// <summary>Figures that are no ratios, a line each, and threads that ran.</summary>
    public static void WriteQuantities(TextWriter output, IReadOnlyList<Quantity> quantities)
    {
        foreach (Quantity quantity in quantities)
        {
            string goal = quantity is { Bound: { } bound, Verdict: { } verdict } ? $"; goal: {bound}: {Describe(verdict)}" : "";
            Line(output, $"  {quantity.Name,-22} {quantity.Subject,-12} {quantity.Median,12:0.###} {quantity.Unit} [{quantity.Smallest:0.###} {quantity.Largest:0.###}]{goal}");
            foreach ((string thread, double perSecond) in Busiest(quantity))
            {
                Line(output, $"    {thread,-20} {perSecond,12:0.###} a second");
            }
        }
    }

    /// <summary>The threads that ran most, with the mean over all restarts.</summary>
    public static IReadOnlyList<(string Thread, double PerSecond)> Busiest(Quantity quantity) => quantity.Threads is not { } restarts
        ? []
        :
        [
            .. restarts.SelectMany(threads => threads).GroupBy(wakes => wakes.Thread)
                .Select(group => (group.Key, group.Sum(wakes => wakes.PerSecond) / restarts.Count))
                .OrderByDescending(thread => thread.Item2).Take(MostThreads),
        ];

    private static string Describe(RatioEstimate ratio) => CompareReport.Describe(ratio);

    private static string Describe(GoalVerdict verdict) => verdict switch
    {
        GoalVerdict.Met => "met",
        GoalVerdict.Missed => "missed",
        _ => "not shown",
    };

    private static string NameOf(Figure figure) => figure switch
    {
        Figure.Iops => "IOPS",
        Figure.CpuPerRequest => "CPU per request",
        _ => figure.ToString().ToLowerInvariant(),
    };

    private static void Line(TextWriter output, FormattableString text) => output.WriteLine(text.ToString(CultureInfo.InvariantCulture));
}
