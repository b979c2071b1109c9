using VirtioBlkFlow.Daemon.Control;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Daemon.Control;

/// <summary>What happened between two reports.</summary>
public sealed class StageSharesTests
{
    [Fact]
    public void Queues_are_put_together_and_what_was_before_is_taken_off()
    {
        QueueLatencyReport[] before = [Queue(0, [10, 10, 4], [100, 103, 1])];
        QueueLatencyReport[] now = [Queue(0, [10, 10, 5], [100, 103, 3]), Queue(1, [10, 10, 1], [200, 207, 1])];
        StageShare share = Assert.Single(StageShares.Of(now, before));
        // One of 10 ns and two of about 100 in the first queue, one of 10 and one of about 200 in the second.
        Assert.Equal("kernel", share.Stage);
        Assert.Equal(5u, share.Count);
        Assert.Equal(103u, share.P50Ns);
        Assert.Equal(207u, share.P99Ns);
        Assert.Equal((10 + 100 + 100 + 10 + 200) / 5.0, share.MeanNs);
    }

    [Fact]
    public void Nothing_new_is_nothing()
    {
        QueueLatencyReport[] now = [Queue(0, [10, 10, 5])];
        Assert.Equal([new StageShare("kernel", 0, 0, 0, 0)], StageShares.Of(now, now));
        Assert.Empty(StageShares.Of([], now));
    }

    private static QueueLatencyReport Queue(int number, params ulong[][] buckets)
    {
        ulong count = buckets.Aggregate(0UL, (sum, bucket) => sum + bucket[2]);
        ulong total = buckets.Aggregate(0UL, (sum, bucket) => sum + (bucket[0] * bucket[2]));
        return new QueueLatencyReport(number, [new StageReport("kernel", count, total, 0, 0, 0, 0, 0, buckets)]);
    }
}
