using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Wrapping;
using Xunit;
using static VirtioBlkFlow.Disks.DiskOutcome;

namespace VirtioBlkFlow.UnitTests.Disks.Wrapping;

public sealed class FaultTests
{
    private static readonly int[] s_seeds = [7, 7, 8];

    private readonly AnsweringDisk _inner = new();

    [Fact]
    public void A_rule_hits_its_operations_in_its_range_and_nothing_else()
    {
        using FaultDisk disk = Open(new FaultRule
        {
            Operations = [DiskOperation.Write, DiskOperation.Discard],
            OffsetBytes = 8192,
            LengthBytes = 4096,
            Outcome = NoSpace,
        });
        using var bench = new WrappingBench(disk);
        (DiskOperation Operation, ulong Offset, DiskOutcome Outcome)[] expected =
        [
            (DiskOperation.Write, 8192 - 1024, Done), (DiskOperation.Write, 8192 - 512, NoSpace), (DiskOperation.Write, 8192, NoSpace),
            (DiskOperation.Write, 8192 + 4096 - 512, NoSpace), (DiskOperation.Write, 8192 + 4096, Done), (DiskOperation.Read, 8192, Done),
            (DiskOperation.Discard, 8192 - 1024, Done), (DiskOperation.Discard, 8192 - 512, NoSpace), (DiskOperation.WriteZeroes, 8192, Done),
            (DiskOperation.Flush, 0, Done),
        ];
        for (int i = 0; i < expected.Length; i++)
        {
            bench.Submit(i, expected[i].Operation, expected[i].Offset);
        }

        Assert.Equal(expected.Select((one, slot) => (slot, one.Outcome)), bench.Ended);
        // What fails does not reach the disk.
        Assert.Equal(expected.Count(one => one.Outcome == Done), _inner.Requests.Count);
        Assert.Equal(4, disk.HitCount);
    }

    [Fact]
    public void The_same_seed_has_the_same_faults_and_about_as_many_as_asked_for()
    {
        bool[][] runs = [.. s_seeds.Select(seed =>
        {
            using FaultDisk disk = FaultDisk.Open(new AnsweringDisk(), new FaultDiskOptions(seed, [new FaultRule { Rate = 0.25, Outcome = Failed }]));
            using var bench = new WrappingBench(disk);
            var failed = new bool[4000];
            for (int i = 0; i < failed.Length; i++)
            {
                bench.Submit(0, DiskOperation.Read);
                failed[i] = Assert.Single(bench.Take()).Outcome == Failed;
            }

            return failed;
        })];
        Assert.Equal(runs[0], runs[1]);
        Assert.NotEqual(runs[0], runs[2]);
        // Six standard deviations around a thousand; and with a fixed seed always the same number.
        Assert.InRange(runs[0].Count(failed => failed), 1000 - 165, 1000 + 165);
    }

    [Fact]
    public void Two_queues_of_a_disk_have_different_faults()
    {
        using FaultDisk disk = Open(new FaultRule { Rate = 0.5, Outcome = Failed });
        var engine = new FakeEngine();
        using var one = new WrappingBench(disk, engine);
        using var other = new WrappingBench(disk, engine);
        for (int i = 0; i < WrappingBench.Slots; i++)
        {
            one.Submit(i, DiskOperation.Read);
            other.Submit(i, DiskOperation.Read);
        }

        Assert.NotEqual(one.Ended, other.Ended);
    }

    [Fact]
    public void A_rule_that_is_used_up_hits_no_more_and_the_next_one_has_its_turn()
    {
        using FaultDisk disk = Open(new FaultRule { Times = 2, Outcome = NoSpace }, new FaultRule { Times = 1, Outcome = Unsupported });
        using var bench = new WrappingBench(disk);
        for (int i = 0; i < 5; i++)
        {
            bench.Submit(i, DiskOperation.Flush);
        }

        Assert.Equal([NoSpace, NoSpace, Unsupported, Done, Done], bench.Ended.Select(one => one.Outcome));
    }

    [Fact]
    public void A_delay_comes_before_the_disk_and_before_the_error()
    {
        using FaultDisk disk = Open(
            new FaultRule { Operations = [DiskOperation.Read], Delay = DelayDistribution.Fixed(TimeSpan.FromMilliseconds(10)) },
            new FaultRule { Operations = [DiskOperation.Write], Delay = DelayDistribution.Fixed(TimeSpan.FromMilliseconds(20)), Outcome = Failed });
        using var bench = new WrappingBench(disk);
        bench.Submit(0, DiskOperation.Read);
        bench.Submit(1, DiskOperation.Write);
        bench.Pass(9.999);
        Assert.Empty(_inner.Requests);
        bench.Pass(0.001);
        Assert.Equal((0, Done), Assert.Single(bench.Take()));
        bench.Pass(10);
        Assert.Equal((1, Failed), Assert.Single(bench.Take()));
        Assert.Single(_inner.Requests);
    }

    [Fact]
    public void Delays_are_spread_as_asked_for()
    {
        var random = new Random(5);
        DelayDistribution uniform = DelayDistribution.Uniform(TimeSpan.FromMicroseconds(100), TimeSpan.FromMicroseconds(300));
        DelayDistribution exponential = DelayDistribution.Exponential(TimeSpan.FromMicroseconds(200));
        double[] even = [.. Enumerable.Range(0, 20_000).Select(_ => uniform.DrawNs(random) / 1000.0)];
        double[] bent = [.. Enumerable.Range(0, 20_000).Select(_ => exponential.DrawNs(random) / 1000.0)];
        Assert.InRange(even.Min(), 100, 101);
        Assert.InRange(even.Max(), 299, 300);
        Assert.InRange(even.Average(), 195, 205);
        Assert.InRange(bent.Average(), 190, 210);
        // The median of an exponential spread is the mean times ln 2.
        Assert.InRange(bent.Order().ElementAt(10_000), 130, 148);
        Assert.Throws<ArgumentOutOfRangeException>(() => DelayDistribution.Uniform(TimeSpan.FromSeconds(2), TimeSpan.FromSeconds(1)));
    }

    [Fact]
    public void A_hang_lasts_until_it_is_ended_and_then_goes_on_to_the_disk()
    {
        using FaultDisk disk = Open(new FaultRule { Operations = [DiskOperation.Write], Hangs = true, Times = 2 });
        using var bench = new WrappingBench(disk);
        bench.Submit(0, DiskOperation.Write);
        bench.Submit(1, DiskOperation.Write);
        bench.Submit(2, DiskOperation.Write);
        bench.Pass(1e9);
        Assert.Equal((2, Done), Assert.Single(bench.Take()));
        disk.EndHangs();
        bench.Pass(0);
        Assert.Equal([(0, Done), (1, Done)], bench.Take());
        Assert.All(_inner.Requests, one => Assert.Equal(1024u, one.LengthBytes));
    }

    [Fact]
    public void A_queue_that_drains_waits_for_no_hang_and_no_delay()
    {
        using FaultDisk disk = Open(
            new FaultRule { Operations = [DiskOperation.Write], Hangs = true },
            new FaultRule { Operations = [DiskOperation.Read], Delay = DelayDistribution.Fixed(TimeSpan.FromHours(1)) },
            new FaultRule { Operations = [DiskOperation.Discard], Hangs = true, Delay = DelayDistribution.Fixed(TimeSpan.FromHours(1)) });
        using var bench = new WrappingBench(disk);
        bench.Submit(0, DiskOperation.Write);
        bench.Submit(1, DiskOperation.Read);
        bench.Submit(2, DiskOperation.Discard);
        Assert.True(bench.Queue.EndHeld());
        Assert.False(bench.Queue.EndHeld());
        Assert.Equal([(0, Failed), (1, Done), (2, Failed)], bench.Take());
        Assert.Equal(2, _inner.EndHeldCount);
        bench.Pass(1e9);
        Assert.Empty(bench.Ended);
    }

    public static TheoryData<FaultRule> Meaningless =>
    [
        new FaultRule(),
        new FaultRule { Rate = 0, Outcome = Failed },
        new FaultRule { Rate = 1.5, Outcome = Failed },
        new FaultRule { Rate = double.NaN, Outcome = Failed },
        new FaultRule { Outcome = Done },
        new FaultRule { Hangs = true, Outcome = Failed },
        new FaultRule { Outcome = Failed, Times = 0 },
        new FaultRule { Outcome = Failed, LengthBytes = 0 },
    ];

    [Theory]
    [MemberData(nameof(Meaningless))]
    public void A_rule_that_means_nothing_is_refused(FaultRule rule)
    {
        Assert.Throws<DiskOpenException>(() => Open(rule));
        Assert.Equal(1, _inner.DisposeCount);
    }

    private FaultDisk Open(params FaultRule[] rules) => FaultDisk.Open(_inner, new FaultDiskOptions(1, rules));
}
