using System.Globalization;

namespace VirtioBlkFlow.Benchmarks.Compare;

/// <summary>Results for people.</summary>
internal static class CompareReport
{
    /// <summary>A cell: who reached what, and ours as ratios of it.</summary>
    public static void WriteCell(TextWriter output, CellResult cell)
    {
        foreach (ContestantResult contestant in cell.Contestants)
        {
            WriteContestant(output, contestant);
        }

        foreach (PeerRatios ratios in cell.Ratios)
        {
            Line(output, $"  / {ratios.Peer,-20} IOPS {Describe(ratios.Iops)}; p99 {Describe(ratios.P99)}; CPU {Describe(ratios.CpuPerRequest)}");
        }
    }

    /// <summary>One line of what a contestant reached.</summary>
    public static void WriteContestant(TextWriter output, ContestantResult contestant)
    {
        Medians medians = contestant.Medians;
        string memory = contestant.IsCeiling ? "" : $"  {medians.OwnMemoryBytes / 1048576:F0} MiB";
        Line(output, $"  {contestant.Name,-22} {medians.Iops,10:F0} IOPS  p50 {medians.P50Ns / 1e3,8:F2}  p99 {medians.P99Ns / 1e3,8:F2}  p99.9 {medians.P999Ns / 1e3,8:F2} µs  CPU {medians.CpuNsPerRequest,7:F0} ns{memory}");
    }

    /// <summary>A ratio in words: with its interval, or that nothing can be said.</summary>
    public static string Describe(RatioEstimate ratio)
    {
        string figures = string.Create(CultureInfo.InvariantCulture, $"{ratio.Median:F2}x [{ratio.Low:F2} {ratio.High:F2}]");
        return ratio.Verdict == Verdict.NoDifferenceSeen ? $"{figures} no difference seen" : figures;
    }

    private static void Line(TextWriter output, FormattableString text) => output.WriteLine(text.ToString(CultureInfo.InvariantCulture));
}
