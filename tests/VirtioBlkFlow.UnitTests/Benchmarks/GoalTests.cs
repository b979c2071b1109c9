using VirtioBlkFlow.Benchmarks.Self;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Benchmarks;

/// <summary>When a goal counts as met, as missed, and when nothing is said.</summary>
public sealed class GoalTests
{
    [Theory]
    [InlineData(1.5, 1.9, "Met")]
    [InlineData(1.4, 1.9, "NotShown")]
    [InlineData(1.1, 1.4, "Missed")]
    public void A_lower_bound_is_judged_by_the_whole_interval(double low, double high, string verdict) =>
        Assert.Equal(verdict, Bound.AtLeast(1.5).Judge(low, high, 3).ToString());

    [Theory]
    [InlineData(0.9, 1.02, "Met")]
    [InlineData(0.9, 1.03, "NotShown")]
    [InlineData(1.03, 1.04, "Missed")]
    public void An_upper_bound_too(double low, double high, string verdict) => Assert.Equal(verdict, Bound.AtMost(1.02).Judge(low, high, 3).ToString());

    [Fact]
    public void Two_restarts_show_nothing()
    {
        Assert.Equal(GoalVerdict.NotShown, Bound.AtLeast(1).Judge(5, 6, 2));
        Assert.Equal(GoalVerdict.NotShown, Bound.AtLeast(1).Judge(0.1, 0.2, 2));
    }

    [Fact]
    public void Bounds_are_said_in_words()
    {
        Assert.Equal("at least 1.5", Bound.AtLeast(1.5).ToString());
        Assert.Equal("at most 1500000", Bound.AtMost(1.5e6).ToString());
    }

    [Fact]
    public void A_quantity_is_judged_by_its_worst_restart()
    {
        var quantity = new Quantity("start", "built", "ms", [90, 100, 130], Bound.AtMost(120));

        Assert.Equal((100.0, 90.0, 130.0), (quantity.Median, quantity.Smallest, quantity.Largest));
        Assert.Equal(GoalVerdict.NotShown, quantity.Verdict);
        Assert.Equal(GoalVerdict.Met, (quantity with { Values = [90, 100, 119] }).Verdict);
        Assert.Equal(GoalVerdict.Missed, (quantity with { Values = [121, 130, 140] }).Verdict);
        Assert.Null((quantity with { Bound = null }).Verdict);
    }
}
