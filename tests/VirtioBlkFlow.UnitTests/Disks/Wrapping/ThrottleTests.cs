using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Wrapping;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Disks.Wrapping;

public sealed class ThrottleTests
{
    private readonly AnsweringDisk _inner = new();

    [Fact]
    public void A_burst_passes_at_once_and_the_rest_at_the_rate()
    {
        using var disk = new ThrottleDisk(_inner, new ThrottleGroup(new ThrottleLimits { Iops = 1000, BurstRequests = 5 }));
        using var bench = new WrappingBench(disk);
        for (int i = 0; i < 20; i++)
        {
            bench.Submit(i, i % 2 == 0 ? DiskOperation.Read : DiskOperation.Write);
        }

        Assert.Equal(5, bench.Ended.Count);
        for (int i = 6; i <= 20; i++)
        {
            bench.Pass(0.999);
            Assert.Equal(i - 1, bench.Ended.Count);
            bench.Pass(0.001);
            Assert.Equal(i, bench.Ended.Count);
        }

        // In the order they came.
        Assert.Equal(Enumerable.Range(0, 20), bench.Ended.Select(one => one.Slot));
    }

    [Fact]
    public void A_rest_fills_the_bucket_again_and_no_fuller()
    {
        using var disk = new ThrottleDisk(_inner, new ThrottleGroup(new ThrottleLimits { Iops = 1000, BurstRequests = 5 }));
        using var bench = new WrappingBench(disk);
        for (int rest = 0; rest < 3; rest++)
        {
            for (int i = 0; i < 10; i++)
            {
                bench.Submit(i, DiskOperation.Read);
            }

            Assert.Equal(5, bench.Ended.Count);
            bench.Pass(5);
            Assert.Equal(10, bench.Take().Length);
            bench.Pass(rest == 0 ? 5 : 60_000);
        }
    }

    [Fact]
    public void Bytes_count_by_length_and_one_larger_than_the_bucket_waits_for_a_full_one()
    {
        using var disk = new ThrottleDisk(_inner, new ThrottleGroup(new ThrottleLimits { BytesPerSecond = 1 << 20, BurstBytes = 64 << 10 }));
        using var bench = new WrappingBench(disk);
        bench.Submit(0, DiskOperation.Write, lengthBytes: 48 << 10);
        bench.Submit(1, DiskOperation.Write, lengthBytes: 16 << 10);
        Assert.Equal(2, bench.Ended.Count);
        bench.Submit(2, DiskOperation.Read, lengthBytes: 32 << 10);
        bench.Pass(31.2);
        Assert.Equal(2, bench.Ended.Count);
        // 32 KiB of 1 MiB in a second: 31.25 ms.
        bench.Pass(0.06);
        Assert.Equal(3, bench.Ended.Count);
        bench.Submit(3, DiskOperation.Read, lengthBytes: 512 << 10);
        bench.Pass(62);
        Assert.Equal(3, bench.Ended.Count);
        bench.Pass(0.6);
        Assert.Equal(4, bench.Ended.Count);
        // What it took on credit the next one waits for.
        bench.Submit(4, DiskOperation.Read, lengthBytes: 512);
        bench.Pass(400);
        Assert.Equal(4, bench.Ended.Count);
        bench.Pass(50);
        Assert.Equal(5, bench.Ended.Count);
    }

    [Fact]
    public void Reads_and_writes_have_limits_of_their_own()
    {
        using var disk = new ThrottleDisk(_inner, new ThrottleGroup(new ThrottleLimits { ReadIops = 10, WriteBytesPerSecond = 1024, BurstRequests = 1, BurstBytes = 1024 }));
        using var bench = new WrappingBench(disk);
        for (int i = 0; i < 3; i++)
        {
            bench.Submit(i, DiskOperation.Read);
            bench.Submit(8 + i, DiskOperation.Write);
            bench.Submit(16 + i, DiskOperation.Discard);
        }

        Assert.Equal([0, 8, 16, 17, 18], bench.Take().Select(one => one.Slot));
        bench.Pass(200);
        Assert.Equal([1, 2], bench.Take().Select(one => one.Slot));
        bench.Pass(1800);
        Assert.Equal([9, 10], bench.Take().Select(one => one.Slot));
    }

    [Theory]
    [InlineData(DiskOperation.Flush)]
    [InlineData(DiskOperation.ZoneReport)]
    public void What_moves_no_data_and_changes_none_never_waits(DiskOperation operation)
    {
        using var disk = new ThrottleDisk(_inner, new ThrottleGroup(new ThrottleLimits { Iops = 1, BytesPerSecond = 1 }));
        using var bench = new WrappingBench(disk);
        for (int i = 0; i < 10; i++)
        {
            bench.Submit(i, operation);
        }

        Assert.Equal(10, bench.Ended.Count);
    }

    [Fact]
    public void Disks_of_one_group_share_what_it_allows()
    {
        var group = new ThrottleGroup(new ThrottleLimits { Iops = 1000, BurstRequests = 4 });
        using var one = new ThrottleDisk(_inner, group);
        using var other = new ThrottleDisk(new AnsweringDisk(), group);
        var engine = new FakeEngine();
        using var first = new WrappingBench(one, engine);
        using var second = new WrappingBench(other, engine);
        for (int i = 0; i < 10; i++)
        {
            first.Submit(i, DiskOperation.Read);
            second.Submit(i, DiskOperation.Write);
        }

        Assert.Equal((2, 2), (first.Ended.Count, second.Ended.Count));
        engine.Pass(TimeSpan.FromMilliseconds(8));
        Assert.Equal((6, 6), (first.Ended.Count, second.Ended.Count));
    }

    [Fact]
    public void Other_limits_hold_at_once_also_for_what_waits()
    {
        var group = new ThrottleGroup(new ThrottleLimits { Iops = 1, BurstRequests = 1 });
        using var disk = new ThrottleDisk(_inner, group);
        using var bench = new WrappingBench(disk);
        for (int i = 0; i < 10; i++)
        {
            bench.Submit(i, DiskOperation.Read);
        }

        Assert.Single(bench.Take());
        int wakes = bench.Engine.Wakes;
        group.Limits = new ThrottleLimits { Iops = 1000, BurstRequests = 3 };
        Assert.Equal(wakes + 1, bench.Engine.Wakes);
        bench.Pass(0);
        Assert.Equal([1, 2, 3], bench.Take().Select(one => one.Slot));
        bench.Pass(2);
        Assert.Equal([4, 5], bench.Take().Select(one => one.Slot));
        group.Limits = new ThrottleLimits();
        bench.Pass(0);
        Assert.Equal([6, 7, 8, 9], bench.Take().Select(one => one.Slot));
        bench.Pass(1_000_000);
        Assert.Empty(bench.Ended);
    }

    [Fact]
    public void A_queue_that_drains_waits_for_no_limit()
    {
        using var disk = new ThrottleDisk(_inner, new ThrottleGroup(new ThrottleLimits { Iops = 1, BurstRequests = 1 }));
        using var bench = new WrappingBench(disk);
        for (int i = 0; i < 5; i++)
        {
            bench.Submit(i, DiskOperation.Read);
        }

        Assert.True(bench.Queue.EndHeld());
        Assert.False(bench.Queue.EndHeld());
        Assert.Equal([0, 1, 2, 3, 4], bench.Take().Select(one => one.Slot));
        Assert.Equal(2, _inner.EndHeldCount);
        // Their times have gone with them.
        bench.Submit(0, DiskOperation.Read);
        bench.Queue.EndHeld();
        bench.Pass(1_000_000);
        Assert.Single(bench.Ended);
    }

    [Fact]
    public void A_limit_of_nothing_is_refused_and_the_old_one_stays()
    {
        var limits = new ThrottleLimits { Iops = 5 };
        var group = new ThrottleGroup(limits);
        Assert.Throws<DiskOpenException>(() => group.Limits = new ThrottleLimits { ReadIops = 0 });
        Assert.Same(limits, group.Limits);
        Assert.Throws<DiskOpenException>(() => new ThrottleGroup(new ThrottleLimits { BurstBytes = 0 }));
    }

    [Fact]
    public void Many_threads_take_from_one_bucket_and_every_token_counts()
    {
        const int Threads = 4;
        const int Takes = 20_000;
        var bucket = new TokenBucket(perSecond: 1_000_000, burst: 1);
        long[] last = new long[Threads];
        Thread[] threads = [.. Enumerable.Range(0, Threads).Select(number => new Thread(() =>
        {
            for (int i = 0; i < Takes; i++)
            {
                last[number] = bucket.Take(1, nowNs: 0);
            }
        }))];
        Array.ForEach(threads, thread => thread.Start());
        Array.ForEach(threads, thread => thread.Join());
        // One token each microsecond, the first one at once.
        Assert.Equal((Threads * Takes - 1) * 1000L, last.Max());
        Assert.Equal(Threads * Takes * 1000L, bucket.Take(1, 0));
    }
}
