using System.Diagnostics;
using VirtioBlkFlow.Device.Latency;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Device.Latency;

/// <summary>How nanoseconds are divided into buckets.</summary>
public sealed class LogLinearScaleTests
{
    [Fact]
    public void Buckets_follow_one_another_without_a_gap_from_0_to_the_limit()
    {
        long next = 0;
        for (int i = 0; i < LogLinearScale.BucketCount; i++)
        {
            Assert.Equal(next, LogLinearScale.LowestOf(i));
            Assert.Equal(i, LogLinearScale.IndexOf(LogLinearScale.LowestOf(i)));
            Assert.Equal(i, LogLinearScale.IndexOf(LogLinearScale.HighestOf(i)));
            next = LogLinearScale.HighestOf(i) + 1;
        }

        Assert.Equal(LogLinearScale.LimitNanoseconds, next);
    }

    [Fact]
    public void A_bucket_is_never_wider_than_a_32nd_of_what_is_in_it()
    {
        for (int i = 0; i < LogLinearScale.BucketCount; i++)
        {
            long width = LogLinearScale.HighestOf(i) - LogLinearScale.LowestOf(i);
            Assert.True(width * LogLinearScale.StepsPerOctave <= LogLinearScale.LowestOf(i), $"Bucket {i} begins at {LogLinearScale.LowestOf(i)} and is {width + 1} wide.");
        }
    }

    [Theory]
    [InlineData(100, 82)]
    [InlineData(101, 82)]
    [InlineData(64, 64)]
    [InlineData(0, 0)]
    [InlineData(-5, 0)]
    [InlineData(long.MinValue, 0)]
    [InlineData(LogLinearScale.LimitNanoseconds, LogLinearScale.BucketCount - 1)]
    [InlineData(long.MaxValue, LogLinearScale.BucketCount - 1)]
    public void Any_value_has_a_bucket(long nanoseconds, int index) => Assert.Equal(index, LogLinearScale.IndexOf(nanoseconds));

    [Fact]
    public void The_clock_counts_nanoseconds() => Assert.Equal(1_000_000_000, Stopwatch.Frequency);
}
