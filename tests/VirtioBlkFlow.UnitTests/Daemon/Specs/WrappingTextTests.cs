using VirtioBlkFlow.Daemon.Specs;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Wrapping;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Daemon.Specs;

/// <summary>Values of the keys about what wraps a disk: delays, faults, error policies, limits.</summary>
public sealed class WrappingTextTests
{
    [Theory]
    [InlineData("200us", 0, 200)]
    [InlineData("5ms", 0, 5000)]
    [InlineData("2s", 0, 2_000_000)]
    [InlineData("~5ms", 2, 5000)]
    public void A_delay_is_a_time_or_a_mean(string text, int spread, int microseconds)
    {
        Assert.True(DelayText.TryParse(text, out DelayDistribution? delay));
        Assert.Equal(((DelaySpread)spread, TimeSpan.FromMicroseconds(microseconds)), (delay!.Spread, delay.First));
    }

    [Fact]
    public void Two_times_are_bounds()
    {
        Assert.True(DelayText.TryParse("50us-1ms", out DelayDistribution? delay));
        Assert.Equal(DelayDistribution.Uniform(TimeSpan.FromMicroseconds(50), TimeSpan.FromMilliseconds(1)), delay);
    }

    [Theory]
    [InlineData("")]
    [InlineData("5")]
    [InlineData("ms")]
    [InlineData("5m")]
    [InlineData("5 ms")]
    [InlineData("-5ms")]
    [InlineData("5ms-")]
    [InlineData("5ms-1ms")]
    [InlineData("1ms-2ms-3ms")]
    [InlineData("~")]
    [InlineData("~1ms-2ms")]
    [InlineData("3601s")]
    [InlineData("1.5ms")]
    public void Anything_else_is_no_delay(string text) => Assert.False(DelayText.TryParse(text, out _));

    [Fact]
    public void A_fault_says_which_requests_it_hits_and_what_happens_to_them()
    {
        IReadOnlyList<FaultRule> rules = FaultText.TryParse("write:zeroes:rate=0.25:times=3:at=8/16:error+read:delay=1ms:nospace+hang")!;
        Assert.Equal(3, rules.Count);
        Assert.Equal([DiskOperation.Write, DiskOperation.WriteZeroes], rules[0].Operations!);
        Assert.Equal((0.25, 3L, 4096ul, 8192ul), (rules[0].Rate, rules[0].Times, rules[0].OffsetBytes, rules[0].LengthBytes));
        Assert.Equal((DiskOutcome.Failed, null, false), (rules[0].Outcome, rules[0].Delay, rules[0].Hangs));
        Assert.Equal([DiskOperation.Read], rules[1].Operations!);
        Assert.Equal((DiskOutcome.NoSpace, DelayDistribution.Fixed(TimeSpan.FromMilliseconds(1))), (rules[1].Outcome, rules[1].Delay));
        Assert.Equal((null, true, 1.0, null), (rules[2].Operations, rules[2].Hangs, rules[2].Rate, rules[2].Times));
    }

    [Theory]
    [InlineData("")]
    [InlineData("write")]
    [InlineData("error+")]
    [InlineData("explode:error")]
    [InlineData("error:nospace")]
    [InlineData("hang:error")]
    [InlineData("rate=0:error")]
    [InlineData("rate=1.1:error")]
    [InlineData("rate=-1:error")]
    [InlineData("rate=NaN:error")]
    [InlineData("times=0:error")]
    [InlineData("at=1/0:error")]
    [InlineData("at=18446744073709551615:error")]
    [InlineData("delay=soon")]
    [InlineData("hang=yes")]
    public void Anything_else_is_no_fault(string text) => Assert.Null(FaultText.TryParse(text));

    [Fact]
    public void An_error_policy_retries_and_then_reports_or_holds()
    {
        Assert.Equal(new ErrorPolicyOptions(), ErrorText.TryParse("report"));
        Assert.Equal(new ErrorPolicyOptions(Then: LastResort.Hold), ErrorText.TryParse("hold"));
        Assert.Equal(new ErrorPolicyOptions(Then: LastResort.HoldNoSpace), ErrorText.TryParse("hold-enospc"));
        Assert.Equal(new ErrorPolicyOptions(5, TimeSpan.FromMilliseconds(100)), ErrorText.TryParse("retry:5"));
        Assert.Equal(new ErrorPolicyOptions(5, TimeSpan.FromSeconds(2)), ErrorText.TryParse("retry:5:2s"));
        Assert.Equal(new ErrorPolicyOptions(5, TimeSpan.FromMilliseconds(100), LastResort.Hold), ErrorText.TryParse("retry:5:hold"));
        Assert.Equal(new ErrorPolicyOptions(5, TimeSpan.FromMilliseconds(1), LastResort.HoldNoSpace), ErrorText.TryParse("retry:5:1ms:hold-enospc"));
    }

    [Theory]
    [InlineData("")]
    [InlineData("retry")]
    [InlineData("retry:0")]
    [InlineData("retry:x")]
    [InlineData("retry:5:hold:1ms")]
    [InlineData("retry:5:1ms:hold:more")]
    [InlineData("hold:1ms")]
    [InlineData("stop")]
    public void Anything_else_is_no_policy(string text) => Assert.Null(ErrorText.TryParse(text));

    [Fact]
    public void Each_limit_reaches_its_place()
    {
        DiskSpec spec = new SpecReader(new DiskSpec()).ReadDisk(
            "null:1M,iops=1,iops-read=2,iops-write=3,bps=4K,bps-read=5K,bps-write=6K,burst=7,burst-bytes=8K,group=g");
        Assert.Equal(
            new ThrottleLimits
            {
                Iops = 1,
                ReadIops = 2,
                WriteIops = 3,
                BytesPerSecond = 4096,
                ReadBytesPerSecond = 5120,
                WriteBytesPerSecond = 6144,
                BurstRequests = 7,
                BurstBytes = 8192,
            },
            spec.Throttle);
        Assert.Equal("g", spec.ThrottleGroup);
    }
}
