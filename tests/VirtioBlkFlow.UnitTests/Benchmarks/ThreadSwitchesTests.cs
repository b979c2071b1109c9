using VirtioBlkFlow.Benchmarks.Self;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Benchmarks;

/// <summary>Who ran in an idle process.</summary>
public sealed class ThreadSwitchesTests
{
    [Fact]
    public void The_kernel_s_text_is_read()
    {
        // As Linux 6.12 writes it, cut to what counts.
        const string Status = "Name:\t.NET Finalizer\nUmask:\t0022\nState:\tS (sleeping)\nvoluntary_ctxt_switches:\t17\nnonvoluntary_ctxt_switches:\t3\n";

        Assert.Equal(new ThreadSwitches(".NET Finalizer", 17, 3), ThreadSwitches.Parse(Status));
        Assert.Throws<FormatException>(() => ThreadSwitches.Parse("Name:\tx\n"));
    }

    [Fact]
    public void Only_threads_that_ran_are_told_the_busiest_first()
    {
        var before = new Dictionary<int, ThreadSwitches> { [1] = new("main", 5, 5), [2] = new("timer", 10, 0), [3] = new("gone", 1, 1) };
        var after = new Dictionary<int, ThreadSwitches> { [1] = new("main", 5, 5), [2] = new("timer", 30, 2), [4] = new("new", 0, 1) };

        IReadOnlyList<ThreadWakes> wakes = ThreadSwitches.Between(before, after, 10);

        Assert.Equal([new ThreadWakes("timer", 2, 0.2), new ThreadWakes("new", 0, 0.1)], wakes);
        Assert.Equal(2.2, wakes[0].PerSecond, 1e-9);
    }

    [Fact]
    public void The_threads_of_this_process_are_found() => Assert.NotEmpty(ThreadSwitches.OfProcess(Environment.ProcessId));

    [Fact]
    public void A_report_has_the_mean_over_restarts()
    {
        var quantity = new Quantity("idle-switches", "adaptive", "perSecond", [2, 0], null)
        {
            Threads = [[new ThreadWakes("a", 1, 0), new ThreadWakes("a", 0.5, 0), new ThreadWakes("b", 0.5, 0)], []],
        };

        Assert.Equal([("a", 0.75), ("b", 0.25)], SelfReport.Busiest(quantity));
    }
}
