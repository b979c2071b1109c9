using System.Globalization;
using VirtioBlkFlow.Frontend.Load;

namespace VirtioBlkFlow.Daemon.Bench;

/// <summary>
/// A distribution as HdrHistogram's <c>outputPercentileDistribution</c> prints it, which its plotters read: value, percentile, count up to
/// there, 1 / (1 − percentile). Values are microseconds.
/// </summary>
internal static class PercentileText
{
    // Five steps from each percentile half the distance to 100: 0, 10, 20 … 50, 55 … 75, 77.5 and so on. HdrHistogram's default.
    private const int StepsPerHalf = 5;

    private const double NsPerUnit = 1000;

    /// <summary>Writes all of it.</summary>
    public static void Write(TextWriter output, LatencyHistogram latencies)
    {
        output.Write("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
        double level = 0;
        long seen = 0;
        foreach ((long highestNs, long count) in latencies.Buckets)
        {
            seen += count;
            double percentile = 100.0 * seen / latencies.Count;
            while (level <= percentile && seen < latencies.Count)
            {
                WriteLine(output, highestNs, level, seen);
                level = NextLevel(level);
            }

            if (seen == latencies.Count)
            {
                for (; level < 100.0 - (100.0 / latencies.Count / 2); level = NextLevel(level))
                {
                    WriteLine(output, highestNs, level, seen);
                }

                WriteLine(output, highestNs, 100, seen);
            }
        }

        output.Write(Format($"#[Mean    = {latencies.MeanNs / NsPerUnit,12:F3}, StdDeviation   = {latencies.StandardDeviationNs / NsPerUnit,12:F3}]\n"));
        output.Write(Format($"#[Max     = {latencies.MaxNs / NsPerUnit,12:F3}, Total count    = {latencies.Count,12}]\n"));
        output.Write(Format($"#[Buckets = {36,12}, SubBuckets     = {256,12}]\n"));
        output.Flush();
    }

    private static double NextLevel(double level)
    {
        double halvings = Math.Floor(Math.Log2(100 / (100 - level))) + 1;
        return level + (100 / (StepsPerHalf * Math.Pow(2, halvings)));
    }

    private static void WriteLine(TextWriter output, long valueNs, double percentile, long seen) => output.Write(percentile < 100
        ? Format($"{valueNs / NsPerUnit,12:F3} {percentile / 100,2:F12} {seen,10} {1 / (1 - (percentile / 100)),14:F2}\n")
        : Format($"{valueNs / NsPerUnit,12:F3} {1.0,2:F12} {seen,10}\n"));

    private static string Format(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
