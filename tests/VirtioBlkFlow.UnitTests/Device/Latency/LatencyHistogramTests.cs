using FsCheck;
using FsCheck.Fluent;
using VirtioBlkFlow.Device.Latency;
using VirtioBlkFlow.UnitTests.Virtio;
using Xunit;
using Xunit.Abstractions;

namespace VirtioBlkFlow.UnitTests.Device.Latency;

/// <summary>Histograms against a list of all values.</summary>
public sealed class LatencyHistogramTests(ITestOutputHelper output)
{
    private const LatencyStage Stage = LatencyStage.Parse;

    [Fact]
    public void A_histogram_says_what_a_sorted_list_says_to_the_precision_of_a_bucket() => SeededProperty.Check(
        output,
        500,
        Prop.ForAll(Entries().ToArbitrary(), Gen.Choose(0, 1000).ToArbitrary(), (entries, permille) =>
        {
            var histograms = new StageHistograms();
            Record(histograms, entries);
            LatencyHistogram histogram = histograms.Copy(Stage);
            long[] sorted = [.. entries.SelectMany(entry => Enumerable.Repeat(entry.Nanoseconds, entry.Requests)).Order()];
            Assert.Equal((ulong)sorted.Length, histogram.Count);
            Assert.Equal((ulong)sorted.Sum(), histogram.SumNanoseconds);
            long exact = sorted[Math.Max(1, (int)Math.Ceiling(permille / 1000.0 * sorted.Length)) - 1];
            long said = histogram.QuantileNanoseconds(permille / 1000.0);
            Assert.InRange(said, exact, exact + (exact / LogLinearScale.StepsPerOctave));
            Assert.InRange(histogram.MaxNanoseconds, sorted[^1], sorted[^1] + (sorted[^1] / LogLinearScale.StepsPerOctave));
            Assert.Equal((ulong)sorted.Count(value => value <= said), histogram.CountUpTo(said));
            Assert.Equal(sorted.Average(), histogram.MeanNanoseconds, tolerance: 1e-6 * sorted[^1]);
            foreach (LatencyBucket bucket in histogram.Buckets())
            {
                Assert.Equal((ulong)sorted.Count(value => value >= bucket.LowestNanoseconds && value <= bucket.HighestNanoseconds), bucket.Count);
            }

            Assert.Equal(histogram.Count, histogram.Buckets().Aggregate(0UL, (sum, bucket) => sum + bucket.Count));
        }));

    [Fact]
    public void What_came_since_an_earlier_look_and_that_look_are_the_whole() => SeededProperty.Check(
        output,
        200,
        Prop.ForAll(Entries().ToArbitrary(), Entries().ToArbitrary(), (first, second) =>
        {
            var histograms = new StageHistograms();
            Record(histograms, first);
            LatencyHistogram earlier = histograms.Copy(Stage);
            Record(histograms, second);
            LatencyHistogram later = histograms.Copy(Stage);
            var alone = new StageHistograms();
            Record(alone, second);
            RequireEqual(alone.Copy(Stage), later.Since(earlier));
            RequireEqual(later, earlier.Plus(later.Since(earlier)));
            RequireEqual(LatencyHistogram.Empty, later.Since(later));
        }));

    [Fact]
    public void Stages_do_not_mix()
    {
        var histograms = new StageHistograms();
        foreach (LatencyStage stage in Enum.GetValues<LatencyStage>())
        {
            // The ends of the scale, which border on the neighbours' counters.
            histograms.Record(stage, 0, (uint)stage + 1);
            histograms.Record(stage, long.MaxValue, (uint)stage + 1);
        }

        Assert.Equal(StageHistograms.StageCount, Enum.GetValues<LatencyStage>().Length);
        foreach (LatencyStage stage in Enum.GetValues<LatencyStage>())
        {
            Assert.Equal(
                [new(0, 0, (ulong)stage + 1), new(LogLinearScale.LowestOf(LogLinearScale.BucketCount - 1), LogLinearScale.LimitNanoseconds - 1, (ulong)stage + 1)],
                histograms.Copy(stage).Buckets());
        }
    }

    [Fact]
    public void A_histogram_of_nothing_has_nothing_to_say()
    {
        Assert.Equal(0u, LatencyHistogram.Empty.Count);
        Assert.Equal(0, LatencyHistogram.Empty.MeanNanoseconds);
        Assert.Equal(0, LatencyHistogram.Empty.QuantileNanoseconds(0.99));
        Assert.Equal(0, LatencyHistogram.Empty.MaxNanoseconds);
        Assert.Empty(LatencyHistogram.Empty.Buckets());
        Assert.Throws<ArgumentOutOfRangeException>(() => LatencyHistogram.Empty.QuantileNanoseconds(1.1));
    }

    private static Gen<Entry[]> Entries() =>
        (from nanoseconds in Gen.OneOf(Gen.Choose(0, 100), Gen.Choose(0, 100_000), Gen.Choose(0, int.MaxValue))
         from requests in Gen.Choose(1, 40)
         select new Entry(nanoseconds, requests)).NonEmptyListOf().Select(entries => entries.ToArray());

    private static void Record(StageHistograms histograms, Entry[] entries)
    {
        foreach (Entry entry in entries)
        {
            histograms.Record(Stage, entry.Nanoseconds, (uint)entry.Requests);
        }
    }

    private static void RequireEqual(LatencyHistogram expected, LatencyHistogram actual)
    {
        Assert.Equal(expected.SumNanoseconds, actual.SumNanoseconds);
        Assert.Equal(expected.Buckets(), actual.Buckets());
    }

    internal sealed record Entry(long Nanoseconds, int Requests);
}
