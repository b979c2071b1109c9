using VirtioBlkFlow.Frontend.Load;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Frontend.Load;

/// <summary>The whole generator against a device on its own thread: every form of ring, every kind of load.</summary>
public sealed class LoopbackTests
{
    private const int DiskBytes = 4 << 20;

    private static readonly LoadOptions s_usual = new()
    {
        WarmUp = TimeSpan.Zero,
        Duration = null,
        RequestCount = 5000,
        AllowWrites = true,
        Seed = 11,
        StallTimeout = TimeSpan.FromSeconds(10),
    };

    public static TheoryData<bool, bool, bool, bool, int> Shapes()
    {
        var shapes = new TheoryData<bool, bool, bool, bool, int>();
        foreach (bool packed in new[] { false, true })
        {
            foreach (bool indirect in new[] { false, true })
            {
                foreach (bool sequential in new[] { false, true })
                {
                    shapes.Add(packed, indirect, true, sequential, 1);
                    shapes.Add(packed, indirect, false, sequential, 37);
                }
            }
        }

        return shapes;
    }

    [Theory]
    [MemberData(nameof(Shapes))]
    public void Reads_and_writes_of_mixed_sizes_carry_the_right_data_through_every_ring(bool packed, bool indirect, bool eventIndex, bool sequential, int depth)
    {
        byte[] disk = new byte[DiskBytes];
        LoadOptions options = s_usual with
        {
            Packed = packed,
            Indirect = indirect,
            EventIndex = eventIndex,
            Sequential = sequential,
            QueueDepth = depth,
            ReadPercent = 50,
            BlockSizes = new BlockSizeMix(new WeightedSize(512, 5), new WeightedSize(4096, 5), new WeightedSize(12288, 2)),
            Verify = true,
        };

        // Segments of 4 KiB: the largest requests are cut in three.
        LoadResult result = Run(options, disk, segmentBytes: 4096);

        Assert.Equal(5000, result.Total.RequestCount);
        Assert.True(result.Total.Write.Latency.Count > 2000 && result.Total.Read.Latency.Count > 2000);
        Assert.True(result.Total.CheckedSectors > 0);
        Assert.Equal(0, result.Total.OddLengths);
        Assert.Equal((packed, indirect, eventIndex), (result.Target.IsPacked, result.Target.IsIndirect, result.Target.UsesEventIndex));
    }

    [Fact]
    public void What_one_run_wrote_another_can_check_as_long_as_nobody_spoils_it()
    {
        byte[] disk = new byte[DiskBytes];
        LoadOptions write = s_usual with { Sequential = true, ReadPercent = 0, Verify = true, RequestCount = DiskBytes / 4096, QueueDepth = 4, QueueCount = 2 };
        LoadOptions read = write with { ReadPercent = 100, Sequential = false, QueueCount = 1 };
        LoadResult written = Run(write, disk);

        Assert.Equal(DiskBytes / 512, written.Total.CheckedSectors);
        Assert.Equal(0, Run(read, disk).Total.UncheckedSectors);
        Assert.Throws<LoadException>(() => Run(read with { Seed = 12 }, disk));
        Array.Clear(disk, DiskBytes / 2, 4096);
        LoadException complaint = Assert.Throws<LoadException>(() => Run(read with { Sequential = true }, disk));
        Assert.Contains($"sector {DiskBytes / 2 / 512} ", complaint.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Writes_that_are_lost_are_found_when_all_is_read_back()
    {
        // A device that moves nothing answers OK.
        using var run = LoadRun.Loopback(s_usual with { ReadPercent = 0, Verify = true, RequestCount = 10 }, diskSectors: 8192);

        LoadException complaint = Assert.Throws<LoadException>(() => run.Run(null, CancellationToken.None));
        Assert.Contains("Wrong data", complaint.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(Arrivals.Even)]
    [InlineData(Arrivals.Poisson)]
    public void An_open_loop_makes_as_many_requests_as_are_due_and_counts_what_it_cannot_begin(Arrivals arrivals)
    {
        // Far above what any machine does: the loop-back device answers one burst at a time, so the queue is full nearly always.
        LoadOptions options = s_usual with
        {
            RatePerSecond = 1e9,
            Arrivals = arrivals,
            RequestCount = null,
            Duration = TimeSpan.FromMilliseconds(50),
            QueueDepth = 2,
        };

        QueueTally total = Run(options, new byte[DiskBytes]).Total;

        long due = total.RequestCount + total.NeverBegun;
        Assert.True(total.RequestCount > 0 && total.NeverBegun > 0, $"{total.RequestCount} begun, {total.NeverBegun} not");
        // 50 ms at a request each nanosecond; a thread that is not scheduled at the end sees more.
        Assert.True(due > 45_000_000, $"{due} were due");
        // Latency counts from when a request was due: the last of those begun waited for most of the run.
        Assert.True(total.Read.Latency.MaxNs > 25_000_000, $"the longest took {total.Read.Latency.MaxNs} ns");
    }

    [Fact]
    public void An_open_loop_within_reach_makes_exactly_the_requests_that_are_due()
    {
        LoadOptions options = s_usual with { RatePerSecond = 2000, RequestCount = 100, QueueDepth = 64 };

        QueueTally total = Run(options, new byte[DiskBytes]).Total;

        Assert.Equal((100, 0), (total.RequestCount, total.NeverBegun));
        // The hundredth is due 49.5 ms after the first.
        Assert.True(total.ElapsedNs >= 49_500_000, $"{total.ElapsedNs} ns");
    }

    [Fact]
    public void Nothing_of_the_warm_up_is_counted()
    {
        LoadOptions options = s_usual with { WarmUp = TimeSpan.FromMilliseconds(50), RequestCount = 7, QueueDepth = 4, QueueCount = 2 };

        LoadResult result = Run(options, new byte[DiskBytes]);

        Assert.Equal(7, result.Total.RequestCount);
        Assert.Equal([4, 3], result.Queues.Select(queue => queue.RequestCount));
        Assert.Equal(7 * 4096, result.Total.Read.Bytes);
        Assert.True(result.Total.ElapsedNs < 50_000_000 || result.Total.Read.Latency.MaxNs > 1_000_000, $"{result.Total.ElapsedNs} ns");
    }

    [Fact]
    public void A_run_that_is_stopped_says_so_and_what_it_had_counted()
    {
        using var stop = new CancellationTokenSource();
        using var run = LoadRun.Loopback(s_usual with { RequestCount = null, Duration = TimeSpan.FromHours(1) }, diskSectors: 8192);

        LoadResult result = run.Run(StopWhenCounting, stop.Token);

        Assert.True(result.WasStopped);
        Assert.True(result.Total.RequestCount > 0);

        void StopWhenCounting(LoadProgress progress)
        {
            if (progress.RequestCount > 0)
            {
                stop.Cancel();
            }
        }
    }

    [Fact]
    public void A_request_allocates_nothing()
    {
        using var run = LoadRun.Loopback(s_usual with { RequestCount = 200_000, QueueDepth = 32, WarmUp = TimeSpan.FromMilliseconds(1) }, diskSectors: 8192);

        Assert.Equal(0, run.Run(null, CancellationToken.None).Total.AllocatedBytes);
    }

    public static TheoryData<LoadOptions, string> Misfits => new()
    {
        { s_usual with { AllowWrites = false, ReadPercent = 50 }, "writes" },
        { s_usual with { RequestCount = null }, "end" },
        { s_usual with { QueueDepth = 0 }, "depth" },
        { s_usual with { BlockSizes = BlockSizeMix.Of(8 << 20) }, "too small" },
        { s_usual with { QueueCount = 64, BlockSizes = BlockSizeMix.Of(128 << 10) }, "too small" },
        { s_usual with { OffsetBytes = DiskBytes }, "not within" },
        { s_usual with { SizeBytes = DiskBytes + 512 }, "not within" },
        { s_usual with { OffsetBytes = 100 }, "512" },
        { s_usual with { QueueSize = 100 }, "power of two" },
        { s_usual with { QueueDepth = 64, QueueSize = 128, Indirect = false }, "192 descriptors" },
        { s_usual with { QueueDepth = 8192, BlockSizes = BlockSizeMix.Of(4 << 20) }, "memory" },
    };

    [Theory]
    [MemberData(nameof(Misfits))]
    public void Options_that_do_not_fit_are_refused_in_words(LoadOptions options, string word) => Assert.Contains(
        word, Assert.Throws<LoadException>(() => Run(options, new byte[DiskBytes])).Message, StringComparison.Ordinal);

    private static LoadResult Run(LoadOptions options, byte[] disk, uint segmentBytes = uint.MaxValue)
    {
        using var run = LoadRun.Loopback(options, disk, segmentBytes);
        return run.Run(null, CancellationToken.None);
    }
}
