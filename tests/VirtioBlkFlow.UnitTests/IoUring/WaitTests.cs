using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Runtime.Versioning;
using Xunit;

namespace IoUring.UnitTests;

/// <summary>Waiting: as long as asked, no longer, whatever comes between.</summary>
[SupportedOSPlatform("linux")]
public unsafe class WaitTests
{
    private const long Millisecond = 1_000_000;

    [Theory]
    [InlineData(RingTests.Shape.Default)]
    [InlineData(RingTests.Shape.DeferTaskrun)]
    [InlineData(RingTests.Shape.Plain)]
    public void A_short_wait_times_out_and_not_early(RingTests.Shape shape) => OwnThread.Run(() =>
    {
        using Ring ring = RingTests.Create(shape, submissionEntries: 4);
        foreach (long timeoutNanoseconds in (long[])[0, 1, 999, 200_001, 5 * Millisecond, 20 * Millisecond])
        {
            AssertTimesOut(ring, 1, timeoutNanoseconds);
        }
    });

    [Fact]
    public void A_wait_for_two_times_out_though_one_is_there() => OwnThread.Run(() =>
    {
        // The kernel answers such a time-out with success, because the queue is not empty.
        using Ring ring = RingTests.Create(RingTests.Shape.Default, submissionEntries: 4);
        RingTests.Entry(ring)->PrepareNop(1);
        AssertTimesOut(ring, 2, 20 * Millisecond);
        AssertTimesOut(ring, 2, 0);
        Assert.Equal(1ul, Assert.Single(RingTests.ReapAll(ring)).UserData);
    });

    [Fact]
    public void A_wait_that_submits_times_out_all_the_same() => OwnThread.Run(() =>
    {
        // The kernel answers with the number submitted, not with the time-out.
        int eventFd = LibC.EventFd();
        using Ring ring = RingTests.Create(RingTests.Shape.Default, submissionEntries: 4);
        RingTests.Entry(ring)->PreparePollAdd(eventFd, SubmissionEntry.POLLIN, multishot: false, userData: 1);
        AssertTimesOut(ring, 1, 20 * Millisecond);
        Assert.Equal(0u, ring.PendingCount);
        Syscalls.close(eventFd);
    });

    [Fact]
    public void Completions_that_are_there_end_a_wait_at_once()
    {
        using Ring ring = RingTests.Create(RingTests.Shape.Default, submissionEntries: 4);
        RingTests.Entry(ring)->PrepareNop(1);
        RingTests.Entry(ring)->PrepareNop(2);
        Assert.Equal(WaitOutcome.Ready, ring.SubmitAndWait(2, 3600_000 * Millisecond));
        Assert.Equal(WaitOutcome.Ready, ring.SubmitAndWait(2));
        Assert.Equal(WaitOutcome.Ready, ring.SubmitAndWait(2, timeoutNanoseconds: 0));
        Assert.Equal(2, RingTests.ReapAll(ring).Count);
    }

    [Fact]
    public void The_longest_time_is_no_time_out() => OwnThread.Run(() =>
    {
        using Ring ring = RingTests.Create(RingTests.Shape.Default, submissionEntries: 4);
        using var waker = new RingWaker(ring, userData: 1);
        int owner = LibC.gettid();
        OwnThread other = OwnThread.Start(() =>
        {
            LibC.AwaitSleepInEnter(owner);
            waker.Wake();
        });
        Assert.Equal(WaitOutcome.Ready, ring.SubmitAndWait(1, long.MaxValue));
        other.Join();
    });

    [Fact]
    public void A_wait_for_more_than_the_queue_holds_ends_when_it_is_full() => OwnThread.Run(() =>
    {
        using Ring ring = RingTests.Create(RingTests.Shape.Default, submissionEntries: 4);
        for (uint i = 0; i < ring.CompletionEntries; i++)
        {
            RingTests.Entry(ring)->PrepareNop(i);
            ring.Submit();
        }

        Assert.Equal(WaitOutcome.Ready, ring.SubmitAndWait(ring.CompletionEntries + 1));
    });

    [Fact]
    public void Signals_neither_shorten_nor_lengthen_a_timed_wait() => OwnThread.Run(() =>
    {
        const long TimeoutNanoseconds = 200 * Millisecond;
        using PosixSignalRegistration handler = HandleSignals();
        using Ring ring = RingTests.Create(RingTests.Shape.Default, submissionEntries: 4);
        using var ended = new ManualResetEventSlim();
        int owner = LibC.gettid();
        OwnThread other = OwnThread.Start(() =>
        {
            // One signal every few milliseconds: a wait that begins anew after each of them never ends.
            LibC.AwaitSleepInEnter(owner);
            var clock = Stopwatch.StartNew();
            while (!ended.Wait(millisecondsTimeout: 5))
            {
                Assert.True(clock.Elapsed < OwnThread.Patience / 2, "The wait did not end.");
                Signal(owner);
            }
        });

        AssertTimesOut(ring, 1, TimeoutNanoseconds);
        ended.Set();
        other.Join();
        Assert.True(ring.EnterCount > 1, "No signal interrupted the wait.");
    });

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Signals_neither_end_a_wait_nor_lose_or_repeat_what_it_submits(bool isTimed) => OwnThread.Run(() =>
    {
        int eventFd = LibC.EventFd();
        using PosixSignalRegistration handler = HandleSignals();
        using Ring ring = RingTests.Create(RingTests.Shape.Default, submissionEntries: 4);
        int owner = LibC.gettid();
        OwnThread other = OwnThread.Start(() =>
        {
            for (int i = 0; i < 5; i++)
            {
                Interrupt(owner);
            }

            LibC.AwaitSleepInEnter(owner);
            LibC.Signal(eventFd);
        });

        RingTests.Entry(ring)->PrepareNop(1);
        RingTests.Entry(ring)->PreparePollAdd(eventFd, SubmissionEntry.POLLIN, multishot: false, userData: 2);
        RingTests.Entry(ring)->PrepareNop(3);
        Assert.Equal(WaitOutcome.Ready, ring.SubmitAndWait(3, isTimed ? 3600_000 * Millisecond : -1));
        other.Join();

        Assert.Equal(0u, ring.PendingCount);
        Assert.True(ring.EnterCount > 1, "No signal interrupted the wait.");
        Assert.Equal([1, 3, 2], RingTests.ReapAll(ring).Select(completion => completion.UserData));
        Assert.Equal(WaitOutcome.TimedOut, ring.SubmitAndWait(1, timeoutNanoseconds: 0));
        Syscalls.close(eventFd);
    });

    [Fact]
    public void Garbage_collections_do_not_disturb_a_wait() => OwnThread.Run(() =>
    {
        using Ring ring = RingTests.Create(RingTests.Shape.Default, submissionEntries: 4);
        int owner = LibC.gettid();
        OwnThread other = OwnThread.Start(() =>
        {
            LibC.AwaitSleepInEnter(owner);
            for (int i = 0; i < 3; i++)
            {
                GC.Collect();
            }
        });
        AssertTimesOut(ring, 1, 100 * Millisecond);
        other.Join();
    });

    [Fact]
    public void The_clock_counts_nanoseconds_as_the_deadlines_assume() => Assert.Equal(1_000_000_000, Stopwatch.Frequency);

    private static void AssertTimesOut(Ring ring, uint minimumCompletions, long timeoutNanoseconds)
    {
        long start = Stopwatch.GetTimestamp();
        Assert.Equal(WaitOutcome.TimedOut, ring.SubmitAndWait(minimumCompletions, timeoutNanoseconds));
        long elapsed = Stopwatch.GetTimestamp() - start;
        Assert.True(elapsed >= timeoutNanoseconds, $"A wait of {timeoutNanoseconds} ns ended after {elapsed} ns.");
    }

    // Ignored signals interrupt nothing; a handled one interrupts the call its thread sleeps in.
    private static PosixSignalRegistration HandleSignals() => PosixSignalRegistration.Create(PosixSignal.SIGWINCH, _ => { });

    private static void Interrupt(int thread)
    {
        LibC.AwaitSleepInEnter(thread);
        Signal(thread);
    }

    private static void Signal(int thread) => Assert.Equal(0, LibC.tgkill(Environment.ProcessId, thread, LibC.SIGWINCH));
}
