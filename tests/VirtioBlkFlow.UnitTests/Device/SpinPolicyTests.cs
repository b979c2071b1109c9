using System.Diagnostics;
using VirtioBlkFlow.Device.Reactor;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Device;

/// <summary>When a thread with nothing to do spins, and when it sleeps at once.</summary>
public sealed class SpinPolicyTests
{
    // Longer than any thread that runs takes from one look to the next.
    private static readonly long s_longAgoTicks = Stopwatch.Frequency;

    // A moment that is not long ago for a while yet: a test's thread may be off its processor at any point.
    private static long JustNow => Stopwatch.GetTimestamp() + (60 * Stopwatch.Frequency);

    private readonly SpinPolicy _adaptive = new(PollMode.Adaptive);

    [Fact]
    public void After_spins_for_nothing_ever_more_idles_go_without_up_to_a_limit()
    {
        foreach (int skips in new[] { 1, 2, 4, 8, 16, 32, 64, 128, 256, 256, 256 })
        {
            Assert.True(_adaptive.ShouldSpin(hasReturned: true));
            _adaptive.OnFruitless();
            Assert.Equal(skips, SkippedIdles(hasReturned: true));
        }
    }

    [Fact]
    public void A_success_ends_the_skipping()
    {
        FailTimes(5, hasReturned: true);
        Assert.Equal(16, SkippedIdles(hasReturned: true));
        _adaptive.OnFound(JustNow);
        Assert.True(_adaptive.ShouldSpin(hasReturned: true));
        _adaptive.OnFruitless();
        Assert.Equal(1, SkippedIdles(hasReturned: true));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_disk_that_is_slow_does_not_make_it_give_up_a_driver_that_is_quick_nor_the_other_way_round(bool slowIsDriver)
    {
        FailTimes(5, hasReturned: slowIsDriver);
        for (int i = 0; i < 100; i++)
        {
            Assert.True(_adaptive.ShouldSpin(hasReturned: !slowIsDriver));
            _adaptive.OnFound(JustNow);
        }

        Assert.True(SkippedIdles(hasReturned: slowIsDriver) > 0);
    }

    [Fact]
    public void What_was_found_while_the_thread_did_not_run_counts_as_nothing()
    {
        FailTimes(3, hasReturned: true);
        Assert.Equal(4, SkippedIdles(hasReturned: true));
        _adaptive.OnFound(Stopwatch.GetTimestamp() - s_longAgoTicks);
        Assert.Equal(8, SkippedIdles(hasReturned: true));
    }

    [Fact]
    public void What_was_there_before_the_spin_teaches_nothing()
    {
        FailTimes(3, hasReturned: true);
        Assert.Equal(4, SkippedIdles(hasReturned: true));
        _adaptive.OnFound(lookedAt: 0);
        Assert.True(_adaptive.ShouldSpin(hasReturned: true));
        _adaptive.OnFruitless();
        Assert.Equal(8, SkippedIdles(hasReturned: true));
    }

    [Fact]
    public void After_many_successes_one_is_still_looked_at_now_and_then()
    {
        int until = 0;
        do
        {
            Assert.InRange(++until, 1, 100);
            Assert.True(_adaptive.ShouldSpin(hasReturned: true));
            _adaptive.OnFound(until == 1 ? JustNow : Stopwatch.GetTimestamp() - s_longAgoTicks);
        }
        while (_adaptive.ShouldSpin(hasReturned: true));
    }

    [Fact]
    public void Always_and_never_learn_nothing()
    {
        var always = new SpinPolicy(PollMode.Always);
        var never = new SpinPolicy(PollMode.Never);
        for (int i = 0; i < 10; i++)
        {
            Assert.True(always.ShouldSpin(hasReturned: i % 2 == 0));
            always.OnFruitless();
            Assert.False(never.ShouldSpin(hasReturned: i % 2 == 0));
        }

        Assert.Equal(long.MaxValue, always.Deadline());
    }

    private void FailTimes(int times, bool hasReturned)
    {
        for (int i = 0; i < times; i++)
        {
            SkippedIdles(hasReturned);
            _adaptive.OnFruitless();
        }
    }

    // Up to and without the first that spins; it has then been asked for.
    private int SkippedIdles(bool hasReturned)
    {
        int skipped = 0;
        while (!_adaptive.ShouldSpin(hasReturned))
        {
            skipped++;
        }

        return skipped;
    }
}
