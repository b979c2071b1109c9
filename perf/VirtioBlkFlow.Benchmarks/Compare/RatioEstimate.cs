namespace VirtioBlkFlow.Benchmarks.Compare;

/// <summary>Whether a ratio says anything.</summary>
internal enum Verdict
{
    /// <summary>The interval has 1 in it, or there is too little to say.</summary>
    NoDifferenceSeen,

    /// <summary>All of the interval is above 1.</summary>
    Higher,

    /// <summary>All of the interval is below 1.</summary>
    Lower,
}

/// <summary>Ours divided by theirs: the median over restarts, and how far to trust it.</summary>
/// <param name="Median">Median over restarts of the ratio of the medians of their runs.</param>
/// <param name="Low">Lower end of the 95 % bootstrap interval.</param>
/// <param name="High">Upper end.</param>
/// <param name="Smallest">Smallest ratio of a restart.</param>
/// <param name="Largest">Largest ratio of a restart.</param>
/// <param name="Verdict">What that says.</param>
internal sealed record RatioEstimate(double Median, double Low, double High, double Smallest, double Largest, Verdict Verdict)
{
    private const int Resamples = 4000;

    /// <summary>Two restarts that agree prove nothing.</summary>
    private const int LeastRestarts = 3;

    /// <summary>
    /// Estimates. Restarts are what varies most, so whole restarts are drawn, and within each its runs.
    /// </summary>
    /// <param name="ours">Values of each run of each restart.</param>
    /// <param name="theirs">The peer's, of the same restarts: each pair ran one after the other.</param>
    public static RatioEstimate Of(IReadOnlyList<double[]> ours, IReadOnlyList<double[]> theirs)
    {
        if (ours.Count != theirs.Count || ours.Count == 0)
        {
            throw new ArgumentException("Both need the same restarts, at least one.", nameof(theirs));
        }

        double[] ratios = [.. ours.Zip(theirs, (one, other) => MedianOf(one) / MedianOf(other))];
        // Fixed, so that the same data gives the same answer.
        var random = new Random(1);
        double[] medians = new double[Resamples];
        double[] drawn = new double[ours.Count];
        for (int i = 0; i < Resamples; i++)
        {
            for (int j = 0; j < drawn.Length; j++)
            {
                int restart = random.Next(drawn.Length);
                drawn[j] = MedianOf(Draw(ours[restart], random)) / MedianOf(Draw(theirs[restart], random));
            }

            medians[i] = MedianOf(drawn);
        }

        Array.Sort(medians);
        double low = medians[(int)(0.025 * (Resamples - 1))];
        double high = medians[(int)(0.975 * (Resamples - 1))];
        Verdict verdict = ours.Count < LeastRestarts ? Verdict.NoDifferenceSeen
            : low > 1 ? Verdict.Higher
            : high < 1 ? Verdict.Lower
            : Verdict.NoDifferenceSeen;
        return new RatioEstimate(MedianOf(ratios), low, high, ratios.Min(), ratios.Max(), verdict);
    }

    /// <summary>
    /// How often so many restarts lie all on one side of 1 where there is no difference: the least a verdict can be wrong, whatever the interval.
    /// </summary>
    public static double ChanceOfAgreement(int restarts) => Math.Pow(2, 1 - restarts);

    /// <summary>The median.</summary>
    public static double MedianOf(IEnumerable<double> values)
    {
        double[] sorted = [.. values.Order()];
        int middle = sorted.Length / 2;
        return sorted.Length % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
    }

    private static double[] Draw(double[] values, Random random)
    {
        double[] drawn = new double[values.Length];
        for (int i = 0; i < drawn.Length; i++)
        {
            drawn[i] = values[random.Next(values.Length)];
        }

        return drawn;
    }
}
