using FsCheck;
using FsCheck.Fluent;
using VirtioBlkFlow.Frontend.Load;
using VirtioBlkFlow.UnitTests.Virtio;
using Xunit;
using Xunit.Abstractions;

namespace VirtioBlkFlow.UnitTests.Frontend.Load;

public sealed class LatencyHistogramTests(ITestOutputHelper output)
{
    private static readonly double[] s_percentiles = [0, 1, 25, 50, 90, 99, 99.9, 99.99, 100];

    [Fact]
    public void Every_percentile_is_that_of_the_sorted_values_to_one_part_in_128() =>
        SeededProperty.Check(output, 500, Prop.ForAll(Arb.From(Values()), values =>
        {
            LatencyHistogram histogram = Of(values);
            long[] sorted = [.. values.Order()];
            Assert.Equal(sorted[0], histogram.MinNs);
            Assert.Equal(sorted[^1], histogram.MaxNs);
            Assert.Equal(sorted.Length, histogram.Count);
            Assert.Equal(values.Average(), histogram.MeanNs, values.Average() * 1e-9);
            foreach (double percentile in s_percentiles)
            {
                long exact = sorted[Math.Max(1, (int)Math.Ceiling(percentile / 100 * sorted.Length)) - 1];
                Assert.InRange(histogram.ValueAt(percentile), exact, exact + (exact / 128));
            }
        }));

    [Fact]
    public void The_deviation_is_that_of_the_values_to_a_percent()
    {
        var random = new LoadRandom(3);
        long[] values = [.. Enumerable.Range(0, 10_000).Select(_ => 1000 + (long)random.Below(100_000))];
        double mean = values.Average();
        double exact = Math.Sqrt(values.Average(value => (value - mean) * (value - mean)));

        Assert.Equal(exact, Of(values).StandardDeviationNs, exact * 0.01);
    }

    [Fact]
    public void Two_added_are_as_one_that_saw_all() =>
        SeededProperty.Check(output, 100, Prop.ForAll(Arb.From(Values()), Arb.From(Values()), (first, second) =>
        {
            LatencyHistogram sum = Of(first);
            sum.Add(Of(second));
            LatencyHistogram whole = Of([.. first, .. second]);

            Assert.Equal(whole.Buckets, sum.Buckets);
            Assert.Equal((whole.Count, whole.MinNs, whole.MaxNs, whole.MeanNs), (sum.Count, sum.MinNs, sum.MaxNs, sum.MeanNs));
        }));

    [Fact]
    public void Buckets_hold_all_values_in_rising_order()
    {
        LatencyHistogram histogram = Of([7, 7, 255, 256, 257, 1000, 1003, 1004, 1L << 42]);

        Assert.Equal([(7, 2), (255, 1), (257, 2), (1003, 2), (1007, 1), (1L << 42, 1)], histogram.Buckets);
    }

    [Fact]
    public void What_is_out_of_range_counts_as_the_nearest_that_is_not()
    {
        LatencyHistogram histogram = Of([-5, long.MaxValue]);

        Assert.Equal((0, LatencyHistogram.MaxTrackedNs), (histogram.MinNs, histogram.MaxNs));
        Assert.Equal([(0, 1), (LatencyHistogram.MaxTrackedNs, 1)], histogram.Buckets);
    }

    [Fact]
    public void An_empty_one_says_zero()
    {
        var histogram = new LatencyHistogram();

        Assert.Equal((0L, 0L, 0L, 0.0, 0.0), (histogram.ValueAt(50), histogram.MinNs, histogram.MaxNs, histogram.MeanNs, histogram.StandardDeviationNs));
        Assert.Empty(histogram.Buckets);
    }

    private static LatencyHistogram Of(IEnumerable<long> values)
    {
        var histogram = new LatencyHistogram();
        foreach (long value in values)
        {
            histogram.Record(value);
        }

        return histogram;
    }

    // As likely of each length in binary: latencies spread over decades.
    private static Gen<long[]> Values() => Gen.Choose(0, int.MaxValue).Select(seed =>
    {
        var random = new LoadRandom((ulong)seed);
        return Enumerable.Range(0, 1 + (int)random.Below(300)).Select(_ => (long)(random.Next() >> (22 + (int)random.Below(42)))).ToArray();
    });
}
