using VirtioBlkFlow.Benchmarks.Compare;
using VirtioBlkFlow.Frontend.Load;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Benchmarks;

/// <summary>When a ratio is said to be one, and when nothing is said.</summary>
public sealed class RatioEstimateTests
{
    [Fact]
    public void A_clear_difference_is_named_with_its_interval()
    {
        RatioEstimate ratio = RatioEstimate.Of([[210, 200], [190, 195], [220, 205]], [[100, 101], [98, 100], [99, 102]]);

        Assert.Equal(Verdict.Higher, ratio.Verdict);
        Assert.InRange(ratio.Median, 1.9, 2.15);
        Assert.True(ratio.Low <= ratio.Median && ratio.Median <= ratio.High, $"{ratio}");
        Assert.True(ratio.Smallest >= 1.9 && ratio.Largest <= 2.2, $"{ratio}");
        Assert.Equal(Verdict.Lower, RatioEstimate.Of([[100], [100], [99]], [[200], [210], [190]]).Verdict);
    }

    [Fact]
    public void Restarts_that_disagree_show_nothing_whatever_their_runs_say()
    {
        // Within each restart the runs agree to a percent; the restarts do not.
        RatioEstimate ratio = RatioEstimate.Of([[200, 201, 202], [100, 101, 100], [60, 61, 60]], [[100, 101, 100], [100, 100, 101], [100, 101, 100]]);

        Assert.Equal(Verdict.NoDifferenceSeen, ratio.Verdict);
        Assert.True(ratio.Low < 1 && ratio.High > 1, $"{ratio}");
    }

    [Fact]
    public void Two_restarts_show_nothing() =>
        Assert.Equal(Verdict.NoDifferenceSeen, RatioEstimate.Of([[200], [200]], [[100], [100]]).Verdict);

    [Fact]
    public void The_same_data_gives_the_same_answer()
    {
        double[][] ours = [[3, 4], [5, 6], [4, 4]];
        double[][] theirs = [[4, 4], [4, 5], [3, 5]];

        Assert.Equal(RatioEstimate.Of(ours, theirs), RatioEstimate.Of(ours, theirs));
    }

    [Fact]
    public void Where_there_is_no_difference_one_is_rarely_seen()
    {
        const int Comparisons = 200;
        const int Restarts = 8;
        var random = new LoadRandom(20);
        double[][] Draw() => [.. Enumerable.Range(0, Restarts).Select(_ => new[] { 1 + (0.2 * random.NextDouble()), 1 + (0.2 * random.NextDouble()) })];

        int seen = Enumerable.Range(0, Comparisons).Count(_ => RatioEstimate.Of(Draw(), Draw()).Verdict != Verdict.NoDifferenceSeen);

        // 5 % are due; a bootstrap of eight restarts is somewhat too sure of itself.
        Assert.InRange(seen, 1, Comparisons * 15 / 100);
    }

    [Fact]
    public void Three_restarts_agree_by_chance_one_time_in_four() => Assert.Equal(0.25, RatioEstimate.ChanceOfAgreement(3));

    [Fact]
    public void A_ratio_in_words_says_when_nothing_was_seen()
    {
        Assert.Equal("2.00x [1.90 2.10]", CompareReport.Describe(new RatioEstimate(2, 1.9, 2.1, 1.9, 2.1, Verdict.Higher)));
        Assert.Equal("1.01x [0.90 1.10] no difference seen", CompareReport.Describe(new RatioEstimate(1.01, 0.9, 1.1, 0.9, 1.1, Verdict.NoDifferenceSeen)));
    }
}
