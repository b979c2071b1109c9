using VirtioBlkFlow.Daemon.Bench;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Frontend.Load;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Daemon.Bench;

public sealed class BenchCommandTests
{
    [Fact]
    public void Without_options_it_reads_4_KiB_at_random_for_ten_seconds()
    {
        BenchOptions options = Read("a.sock");

        Assert.Equal("a.sock", options.SocketPath);
        Assert.Equal(new LoadOptions { BlockSizes = options.Load.BlockSizes }, options.Load);
        Assert.Equal([new WeightedSize(4096, 1)], options.Load.BlockSizes.Sizes);
        Assert.Equal((TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(10)), (options.Load.WarmUp, options.Load.Duration));
    }

    [Theory]
    [InlineData("read", true, 100)]
    [InlineData("write", true, 0)]
    [InlineData("rw", true, 50)]
    [InlineData("randread", false, 100)]
    [InlineData("randwrite", false, 0)]
    [InlineData("randrw", false, 50)]
    public void The_pattern_has_fio_s_names(string rw, bool sequential, int readPercent)
    {
        LoadOptions load = Read("a.sock", "--rw", rw, "--allow-writes").Load;

        Assert.Equal((sequential, readPercent), (load.Sequential, load.ReadPercent));
    }

    [Fact]
    public void Every_option_arrives()
    {
        BenchOptions options = Read(
            "a.sock", "--rw", "randrw", "--read-percent", "70", "--allow-writes", "--block-size", "4k:70/64K:30", "--queue-depth", "32", "--queues", "2",
            "--queue-size", "256", "--ring", "packed", "--no-indirect", "--no-event-idx", "--wait", "sleep", "--rate", "1000.5", "--arrivals", "poisson",
            "--warm-up", "500ms", "--time", "2m", "--count", "77", "--offset", "1M", "--size", "2G", "--verify", "--seed", "18446744073709551615",
            "--stall-timeout", "5s", "--server-pid", "12", "--json", "-", "--hgrm", "h.txt");

        Assert.Equal([new WeightedSize(4096, 70), new WeightedSize(65536, 30)], options.Load.BlockSizes.Sizes);
        Assert.Equal(
            new LoadOptions
            {
                ReadPercent = 70,
                AllowWrites = true,
                BlockSizes = options.Load.BlockSizes,
                QueueDepth = 32,
                QueueCount = 2,
                QueueSize = 256,
                Packed = true,
                Indirect = false,
                EventIndex = false,
                Wait = CompletionWait.Call,
                RatePerSecond = 1000.5,
                Arrivals = Arrivals.Poisson,
                WarmUp = TimeSpan.FromMilliseconds(500),
                Duration = TimeSpan.FromMinutes(2),
                RequestCount = 77,
                OffsetBytes = 1 << 20,
                SizeBytes = 2UL << 30,
                Verify = true,
                Seed = ulong.MaxValue,
                StallTimeout = TimeSpan.FromSeconds(5),
            },
            options.Load);
        Assert.Equal((12, "-", "h.txt", true), (options.ServerProcessId, options.JsonPath, options.HistogramPath, options.StdoutIsTaken));
    }

    [Fact]
    public void A_count_alone_has_no_end_in_time() => Assert.Null(Read("a.sock", "--count", "5").Load.Duration);

    [Theory]
    [InlineData("", "SOCKET")]
    [InlineData("a.sock --loopback", "SOCKET")]
    [InlineData("a.sock --rw write", "--allow-writes")]
    [InlineData("a.sock --rw randrw", "--allow-writes")]
    [InlineData("a.sock --rw sideways", "sideways")]
    [InlineData("a.sock --read-percent 50", "--rw rw")]
    [InlineData("a.sock --rw rw --allow-writes --read-percent 101", "0 to 100")]
    [InlineData("a.sock --block-size 4Q", "4K:70/64K:30")]
    [InlineData("a.sock --block-size 4K:x", "4K:70/64K:30")]
    [InlineData("a.sock --block-size 1000", "multiple of 512")]
    [InlineData("a.sock --queue-depth 0", "--queue-depth takes 1 to")]
    [InlineData("a.sock --queues 65", "--queues takes 1 to 64")]
    [InlineData("a.sock --queue-size 0", "--queue-size takes 1 to")]
    [InlineData("a.sock --ring round", "round")]
    [InlineData("a.sock --wait never", "never")]
    [InlineData("a.sock --rate 0", "--rate")]
    [InlineData("a.sock --arrivals poisson", "--rate")]
    [InlineData("a.sock --time 0s", "--time")]
    [InlineData("a.sock --time soon", "500ms")]
    [InlineData("a.sock --count 0", "--count")]
    [InlineData("a.sock --offset 100", "512")]
    [InlineData("a.sock --size 0", "--size")]
    [InlineData("a.sock --server-pid 0", "--server-pid")]
    [InlineData("a.sock --stall-timeout 0", "--stall-timeout")]
    [InlineData("a.sock --json - --hgrm -", "stdout")]
    public void What_makes_no_sense_is_named(string commandLine, string word)
    {
        (_, IReadOnlyList<string> errors) = BenchCommand.Parse(commandLine.Split(' ', StringSplitOptions.RemoveEmptyEntries));

        Assert.Contains(word, Assert.Single(errors.Take(1)), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("0", 0UL)]
    [InlineData("4096", 4096UL)]
    [InlineData("4k", 4096UL)]
    [InlineData("3T", 3UL << 40)]
    public void Sizes_are_powers_of_1024(string text, ulong bytes)
    {
        Assert.True(BenchText.TryParseSize(text, out ulong parsed));
        Assert.Equal(bytes, parsed);
    }

    [Theory]
    [InlineData("")]
    [InlineData("K")]
    [InlineData("-1")]
    [InlineData("1.5K")]
    [InlineData("99999999T")]
    public void Other_sizes_are_refused(string text) => Assert.False(BenchText.TryParseSize(text, out _));

    [Theory]
    [InlineData("10", 10_000)]
    [InlineData("1.5s", 1500)]
    [InlineData("250ms", 250)]
    [InlineData("2m", 120_000)]
    [InlineData("1h", 3_600_000)]
    public void Times_have_units(string text, double milliseconds)
    {
        Assert.True(BenchText.TryParseTime(text, out TimeSpan time));
        Assert.Equal(milliseconds, time.TotalMilliseconds);
    }

    [Theory]
    [InlineData("")]
    [InlineData("ms")]
    [InlineData("-1s")]
    [InlineData("1e9h")]
    [InlineData("9999999h")]
    public void Other_times_are_refused(string text) => Assert.False(BenchText.TryParseTime(text, out _));

    private static BenchOptions Read(params string[] arguments)
    {
        (BenchOptions? options, IReadOnlyList<string> errors) = BenchCommand.Parse(arguments);
        Assert.Empty(errors);
        return options!;
    }
}
