namespace VirtioBlkFlow.Benchmarks.Ratio;

/// <summary>The median of a sample and how far to trust it.</summary>
/// <param name="Median">The median.</param>
/// <param name="LowerQuartile">A quarter of the values lies below.</param>
/// <param name="UpperQuartile">A quarter of the values lies above.</param>
/// <param name="IntervalLow">Lower end of the 95 % bootstrap interval of the median.</param>
/// <param name="IntervalHigh">Upper end.</param>
internal sealed record Sample(double Median, double LowerQuartile, double UpperQuartile, double IntervalLow, double IntervalHigh)
{
    private const int Resamples = 2000;

    public static Sample Of(IEnumerable<double> values)
    {
        double[] sorted = [.. values.Order()];
        var random = new Random(1);
        double[] medians = new double[Resamples];
        double[] resample = new double[sorted.Length];
        for (int i = 0; i < Resamples; i++)
        {
            for (int j = 0; j < resample.Length; j++)
            {
                resample[j] = sorted[random.Next(sorted.Length)];
            }

            Array.Sort(resample);
            medians[i] = QuantileOf(resample, 0.5);
        }

        Array.Sort(medians);
        return new Sample(
            QuantileOf(sorted, 0.5), QuantileOf(sorted, 0.25), QuantileOf(sorted, 0.75), QuantileOf(medians, 0.025), QuantileOf(medians, 0.975));
    }

    private static double QuantileOf(double[] sorted, double quantile)
    {
        double place = quantile * (sorted.Length - 1);
        int below = (int)place;
        int above = Math.Min(below + 1, sorted.Length - 1);
        return sorted[below] + ((sorted[above] - sorted[below]) * (place - below));
    }
}
