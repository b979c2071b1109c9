using Xunit;

namespace IoUring.UnitTests;

/// <summary>Waking the thread of a ring from other threads: no wake is lost, none outlives the waker.</summary>
public unsafe class RingWakerTests
{
    private const ulong WakeUserData = 99;
    private const long Patience = OwnThread.PatienceNanoseconds;

    [Theory]
    [InlineData(RingTests.Shape.Default)]
    [InlineData(RingTests.Shape.DeferTaskrun)]
    [InlineData(RingTests.Shape.Plain)]
    public void A_wake_from_another_thread_ends_an_endless_wait(RingTests.Shape shape) => OwnThread.Run(() =>
    {
        using Ring ring = RingTests.Create(shape, submissionEntries: 4);
        using var waker = new RingWaker(ring, WakeUserData);
        int owner = LibC.gettid();
        OwnThread other = OwnThread.Start(() =>
        {
            LibC.AwaitSleepInEnter(owner);
            waker.Wake();
        });
        Assert.Equal(WaitOutcome.Ready, ring.SubmitAndWait(1));
        other.Join();
        Assert.Equal(WakeUserData, Assert.Single(RingTests.ReapAll(ring)).UserData);
    });

    [Theory]
    [InlineData(RingTests.Shape.Default)]
    [InlineData(RingTests.Shape.DeferTaskrun)]
    [InlineData(RingTests.Shape.Plain)]
    public void No_wake_is_lost_over_many_rounds(RingTests.Shape shape) => OwnThread.Run(() =>
    {
        const int Rounds = 1000;
        using Ring ring = RingTests.Create(shape, submissionEntries: 4);
        using var waker = new RingWaker(ring, WakeUserData);
        int asked = 0;
        using var answered = new SemaphoreSlim(0);
        OwnThread other = OwnThread.Start(() =>
        {
            for (int round = 1; round <= Rounds; round++)
            {
                Volatile.Write(ref asked, round);
                waker.Wake();
                Assert.True(answered.Wait(OwnThread.Patience));
            }
        });

        for (int seen = 0; seen < Rounds;)
        {
            Assert.Equal(WaitOutcome.Ready, ring.SubmitAndWait(1, Patience));
            foreach (CompletionEntry completion in RingTests.ReapAll(ring))
            {
                waker.OnCompletion(in completion);
            }

            // A wake may be seen twice, but never none.
            if (Volatile.Read(ref asked) > seen)
            {
                seen++;
                answered.Release();
            }
        }

        other.Join();
    });

    [Fact]
    public void A_multishot_poll_completes_at_each_write_though_nobody_reads_the_eventfd()
    {
        int eventFd = LibC.EventFd();
        using Ring ring = RingTests.Create(RingTests.Shape.Default, submissionEntries: 4);
        RingTests.Entry(ring)->PreparePollAdd(eventFd, SubmissionEntry.POLLIN, multishot: true, WakeUserData);
        ring.Submit();
        Assert.False(ring.HasCompletions);
        for (int i = 0; i < 100; i++)
        {
            LibC.Signal(eventFd);
            Assert.Equal(WaitOutcome.Ready, ring.SubmitAndWait(1, Patience));
            CompletionEntry completion = Assert.Single(RingTests.ReapAll(ring));
            Assert.Equal((WakeUserData, CompletionFlags.IORING_CQE_F_MORE), (completion.UserData, completion.Flags));
            Assert.Equal(WaitOutcome.TimedOut, ring.SubmitAndWait(1, timeoutNanoseconds: 0));
        }

        Syscalls.close(eventFd);
    }

    [Fact]
    public void A_removed_poll_says_so()
    {
        int eventFd = LibC.EventFd();
        using Ring ring = RingTests.Create(RingTests.Shape.Default, submissionEntries: 4);
        RingTests.Entry(ring)->PreparePollAdd(eventFd, SubmissionEntry.POLLIN, multishot: true, userData: 1);
        RingTests.Entry(ring)->PreparePollRemove(pollUserData: 1, userData: 2);
        Assert.Equal(WaitOutcome.Ready, ring.SubmitAndWait(2, Patience));
        Assert.Equal(
            [(1ul, -Syscalls.ECANCELED), (2ul, 0)],
            RingTests.ReapAll(ring).Select(completion => (completion.UserData, completion.Result)).Order().ToArray());

        const int NotFound = -2;
        RingTests.Entry(ring)->PreparePollRemove(pollUserData: 1, userData: 3);
        ring.SubmitAndWait(1, Patience);
        Assert.Equal(NotFound, Assert.Single(RingTests.ReapAll(ring)).Result);
        Syscalls.close(eventFd);
    }

    [Fact]
    public void Wakes_while_nobody_waits_give_at_least_one_completion()
    {
        using Ring ring = RingTests.Create(RingTests.Shape.Default, submissionEntries: 4);
        using var waker = new RingWaker(ring, WakeUserData);
        ring.Submit();
        for (int i = 0; i < 50; i++)
        {
            waker.Wake();
        }

        Assert.Equal(WaitOutcome.Ready, ring.SubmitAndWait(1, Patience));
        Assert.All(RingTests.ReapAll(ring), completion => Assert.Equal(WakeUserData, completion.UserData));
    }

    [Fact]
    public void A_wake_before_the_first_submission_is_kept()
    {
        using Ring ring = RingTests.Create(RingTests.Shape.Default, submissionEntries: 4);
        using var waker = new RingWaker(ring, WakeUserData);
        waker.Wake();
        Assert.Equal(WaitOutcome.Ready, ring.SubmitAndWait(1, Patience));
        Assert.Single(RingTests.ReapAll(ring));
    }

    [Fact]
    public void A_waker_whose_poll_has_ended_is_armed_again()
    {
        using Ring ring = RingTests.Create(RingTests.Shape.Default, submissionEntries: 4);
        using var waker = new RingWaker(ring, WakeUserData);
        EndPollByOverflow(ring, waker);

        // The eventfd was never read: the new poll completes at once, and from then on at each wake.
        Assert.Equal(1u, ring.PendingCount);
        for (int i = 0; i < 3; i++)
        {
            waker.Wake();
            Assert.Equal(WaitOutcome.Ready, ring.SubmitAndWait(1, Patience));
            Assert.All(RingTests.ReapAll(ring), completion =>
                Assert.Equal((WakeUserData, CompletionFlags.IORING_CQE_F_MORE), (completion.UserData, completion.Flags)));
        }
    }

    [Fact]
    public void A_disposed_waker_is_not_armed_again()
    {
        using Ring ring = RingTests.Create(RingTests.Shape.Default, submissionEntries: 4);
        var waker = new RingWaker(ring, WakeUserData);
        EndPollByOverflow(ring, waker, beforeItIsTold: waker.Dispose);
        Assert.Equal(0u, ring.PendingCount);
    }

    [Fact]
    public void A_cancelled_waker_is_not_armed_again_and_one_that_cannot_be_armed_is_an_error()
    {
        // Armed again and again, it would keep the owner busy for ever.
        using Ring ring = RingTests.Create(RingTests.Shape.Default, submissionEntries: 4);
        using var waker = new RingWaker(ring, WakeUserData);
        ring.Submit();

        waker.OnCompletion(new CompletionEntry { UserData = WakeUserData, Result = -Syscalls.ECANCELED });
        Assert.Equal(0u, ring.PendingCount);

        IoUringException error = Assert.Throws<IoUringException>(
            () => waker.OnCompletion(new CompletionEntry { UserData = WakeUserData, Result = -Syscalls.EINVAL }));
        Assert.Equal(Syscalls.EINVAL, error.Errno);
    }

    [Fact]
    public void A_waker_finds_a_place_in_a_full_queue()
    {
        using Ring ring = RingTests.Create(RingTests.Shape.Default, submissionEntries: 1);
        RingTests.Entry(ring)->PrepareNop(1);
        using var waker = new RingWaker(ring, WakeUserData);
        waker.Wake();
        Assert.Equal(WaitOutcome.Ready, ring.SubmitAndWait(2, Patience));
        Assert.Equal([1, WakeUserData], RingTests.ReapAll(ring).Select(completion => completion.UserData));
    }

    [Fact]
    public void Wakes_race_with_disposal_harmlessly()
    {
        using Ring ring = RingTests.Create(RingTests.Shape.Default, submissionEntries: 4);
        var waker = new RingWaker(ring, WakeUserData);
        bool hasEnded = false;
        using var running = new ManualResetEventSlim();
        OwnThread other = OwnThread.Start(() =>
        {
            while (!Volatile.Read(ref hasEnded))
            {
                waker.Wake();
                running.Set();
            }
        });
        Assert.True(running.Wait(OwnThread.Patience));
        waker.Dispose();
        waker.Dispose();
        waker.Wake();
        Volatile.Write(ref hasEnded, true);
        other.Join();
    }

    // A poll ends, without MORE, when its completion finds the queue full.
    private static void EndPollByOverflow(Ring ring, RingWaker waker, Action? beforeItIsTold = null)
    {
        ring.Submit();
        for (uint i = 0; i < ring.CompletionEntries; i++)
        {
            RingTests.Entry(ring)->PrepareNop(i);
            ring.Submit();
        }

        waker.Wake();
        CompletionEntry last = default;
        while (last.UserData != WakeUserData)
        {
            ring.SubmitAndWait(1, Patience);
            last = RingTests.ReapAll(ring)[^1];
        }

        Assert.Equal(CompletionFlags.None, last.Flags & CompletionFlags.IORING_CQE_F_MORE);
        beforeItIsTold?.Invoke();
        waker.OnCompletion(in last);
    }
}
