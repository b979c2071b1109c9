using System.Runtime.InteropServices;
using VirtioBlkFlow.UnitTests;
using Xunit;

namespace IoUring.UnitTests;

/// <summary>Submitting and reaping, on every shape of ring the kernel may leave us with.</summary>
public unsafe class RingTests
{
    private const SetupFlags NoSqarray = SetupFlags.IORING_SETUP_NO_SQARRAY;

    public enum Shape
    {
        /// <summary>As this kernel gives it.</summary>
        Default,

        /// <summary>With an index array, as before Linux 6.6.</summary>
        IndexArray,

        /// <summary>Queues mapped one by one, as before Linux 5.4.</summary>
        TwoMappings,

        /// <summary>Both.</summary>
        IndexArrayAndTwoMappings,

        /// <summary>Completion work only when asked for.</summary>
        DeferTaskrun,

        /// <summary>No flag at all.</summary>
        Plain,
    }

    [Theory]
    [EveryShape]
    public void Completions_come_in_order_and_once_over_many_turns_of_the_queues(Shape shape) => OwnThread.Run(() =>
    {
        using Ring ring = Create(shape, submissionEntries: 4);
        Span<CompletionEntry> completions = stackalloc CompletionEntry[8];
        ulong expected = 0;
        for (ulong next = 0; next < 1000;)
        {
            for (ulong i = 0; i <= next % 4; i++)
            {
                Entry(ring)->PrepareNop(next++);
            }

            Assert.Equal(WaitOutcome.Ready, ring.SubmitAndWait((uint)(next - expected)));
            foreach (CompletionEntry completion in completions[..ring.Reap(completions)])
            {
                Assert.Equal((expected++, 0), (completion.UserData, completion.Result));
            }

            Assert.Equal(next, expected);
        }

        Assert.False(ring.HasCompletions);
    });

    [Theory]
    [EveryShape]
    public void A_refused_entry_does_not_hold_up_those_behind_it(Shape shape)
    {
        using Ring ring = Create(shape, submissionEntries: 8);
        foreach (ulong userData in (ulong[])[1, 2, 3, 4, 5])
        {
            SubmissionEntry* entry = Entry(ring);
            entry->PrepareNop(userData);
            if (userData is 2 or 3)
            {
                entry->Opcode = (Opcode)255;
            }
        }

        Assert.Equal(WaitOutcome.Ready, ring.Submit());
        Assert.Equal(0u, ring.PendingCount);
        Assert.Equal(
            [(1, 0), (2, -Syscalls.EINVAL), (3, -Syscalls.EINVAL), (4, 0), (5, 0)],
            ReapAll(ring).Select(completion => (completion.UserData, completion.Result)));
    }

    [Fact]
    public void A_refused_entry_holds_up_no_wait_either()
    {
        OwnThread.Run(() =>
        {
            using Ring ring = Create(Shape.Plain, submissionEntries: 8);
            Entry(ring)->Opcode = (Opcode)255;
            Entry(ring)->PrepareNop(2);
            Entry(ring)->PrepareNop(3);

            Assert.Equal(WaitOutcome.Ready, ring.SubmitAndWait(3, timeoutNanoseconds: 0));
            Assert.Equal([0, 2, 3], ReapAll(ring).Select(completion => completion.UserData));

            Entry(ring)->Opcode = (Opcode)255;
            Entry(ring)->PrepareNop(2);
            Assert.Equal(WaitOutcome.Ready, ring.SubmitAndWait(0));
            Assert.Equal(0u, ring.PendingCount);
        });
    }

    [Fact]
    public void An_entry_is_handed_out_zeroed()
    {
        using Ring ring = Create(Shape.Default, submissionEntries: 4);
        for (int i = 0; i < 12; i++)
        {
            SubmissionEntry* entry = Entry(ring);
            var bytes = new Span<byte>(entry, sizeof(SubmissionEntry));
            Assert.False(bytes.ContainsAnyExcept((byte)0));
            bytes.Fill(0xff);
            ring.SubmitAndWait(1, OwnThread.PatienceNanoseconds);
            Assert.Equal(-Syscalls.EINVAL, Assert.Single(ReapAll(ring)).Result);
        }
    }

    [Theory]
    [EveryShape]
    public void A_full_queue_hands_out_no_entry_until_submitted(Shape shape)
    {
        using Ring ring = Create(shape, submissionEntries: 4);
        for (uint i = 0; i < 4; i++)
        {
            Assert.Equal(i, ring.PendingCount);
            Entry(ring)->PrepareNop(i);
        }

        Assert.False(ring.TryGetEntry(out SubmissionEntry* none));
        Assert.True(none == null);
        Assert.Equal(4u, ring.PendingCount);

        Assert.Equal(WaitOutcome.Ready, ring.Submit());
        Assert.Equal(0u, ring.PendingCount);
        Assert.True(ring.TryGetEntry(out _));
    }

    [Fact]
    public void Nothing_to_submit_costs_no_system_call()
    {
        using Ring ring = Create(Shape.Default, submissionEntries: 4);
        Assert.Equal(WaitOutcome.Ready, ring.Submit());
        Assert.Equal(0ul, ring.EnterCount);

        Entry(ring)->PrepareNop(1);
        Entry(ring)->PrepareNop(2);
        Assert.Equal(WaitOutcome.Ready, ring.Submit());
        Assert.Equal(1ul, ring.EnterCount);
    }

    [Fact]
    public void Reaps_no_more_than_there_is_room_for()
    {
        using Ring ring = Create(Shape.Default, submissionEntries: 4);
        foreach (ulong userData in (ulong[])[1, 2, 3])
        {
            Entry(ring)->PrepareNop(userData);
        }

        ring.SubmitAndWait(3, OwnThread.PatienceNanoseconds);
        Span<CompletionEntry> two = stackalloc CompletionEntry[2];
        Assert.Equal(0, ring.Reap([]));
        Assert.Equal(2, ring.Reap(two));
        Assert.Equal((1ul, 2ul), (two[0].UserData, two[1].UserData));
        Assert.True(ring.HasCompletions);
        Assert.Equal(1, ring.Reap(two));
        Assert.Equal(3ul, two[0].UserData);
        Assert.False(ring.HasCompletions);
        Assert.Equal(0, ring.Reap(two));
    }

    [Theory]
    [EveryShape]
    public void More_completions_than_fit_are_all_delivered(Shape shape) => OwnThread.Run(() =>
    {
        using Ring ring = Create(shape, submissionEntries: 8);
        uint count = 5 * ring.CompletionEntries;
        var delivered = new List<ulong>();
        for (ulong userData = 0; userData < count; userData++)
        {
            SubmissionEntry* entry;
            while (!ring.TryGetEntry(out entry))
            {
                // Nobody reaps, unless the kernel insists.
                if (ring.Submit() == WaitOutcome.Busy)
                {
                    delivered.AddRange(ReapAll(ring).Select(completion => completion.UserData));
                }
            }

            entry->PrepareNop(userData);
        }

        Assert.Equal(WaitOutcome.Ready, ring.Submit());
        if (shape != Shape.DeferTaskrun)
        {
            Assert.True(ring.NeedsEnter, "An overflow must show.");
        }

        while (true)
        {
            delivered.AddRange(ReapAll(ring).Select(completion => completion.UserData));
            if (!ring.NeedsEnter)
            {
                break;
            }

            ring.Submit();
        }

        Assert.Equal(Enumerable.Range(0, (int)count).Select(i => (ulong)i), delivered);
    });

    [Fact]
    public void Tells_which_operations_the_kernel_knows()
    {
        using Ring ring = Create(Shape.Default, submissionEntries: 4);
        Assert.All(Enum.GetValues<Opcode>(), opcode => Assert.True(ring.Supports(opcode), opcode.ToString()));
        Assert.False(ring.Supports((Opcode)255));
    }

    [Fact]
    public void Disposing_twice_is_harmless()
    {
        Ring ring = Create(Shape.Default, submissionEntries: 4);
        ring.Dispose();
        ring.Dispose();
    }

    [Fact]
    public void Use_after_disposal_is_an_exception_and_no_stray_pointer()
    {
        Ring ring = Create(Shape.Default, submissionEntries: 4);
        Entry(ring)->PrepareNop(1);
        ring.Dispose();

        Assert.Throws<ObjectDisposedException>(() => ring.TryGetEntry(out _));
        Assert.Throws<ObjectDisposedException>(() => ring.Submit());
        Assert.Throws<ObjectDisposedException>(() => ring.SubmitAndWait(1));
        Assert.Throws<ObjectDisposedException>(() => ring.SubmitAndWait(1, timeoutNanoseconds: 0));
        Assert.Throws<ObjectDisposedException>(() => ring.Reap(new CompletionEntry[1]));
        Assert.Throws<ObjectDisposedException>(() => ring.PendingCount);
        Assert.Throws<ObjectDisposedException>(() => ring.HasCompletions);
        Assert.Throws<ObjectDisposedException>(() => ring.NeedsEnter);
        Assert.Throws<ObjectDisposedException>(() => ring.Supports(Opcode.IORING_OP_NOP));
        Assert.Throws<ObjectDisposedException>(() => ring.RegisterFiles(1));
        Assert.Throws<ObjectDisposedException>(() => ring.UpdateFile(0, -1));
    }

    [Theory]
    [EveryShape]
    public void The_hot_path_allocates_nothing(Shape shape) => OwnThread.Run(() =>
    {
        using Ring ring = Create(shape, submissionEntries: 8);
        using var waker = new RingWaker(ring, userData: 99);
        var completions = new CompletionEntry[16];
        const int Turns = 500;
        int taken = 0;

        void Turn()
        {
            for (ulong i = 0; i < 4; i++)
            {
                if (ring.TryGetEntry(out SubmissionEntry* entry))
                {
                    entry->PrepareNop(i);
                }
            }

            ring.Submit();
            ring.SubmitAndWait(4, timeoutNanoseconds: 1_000_000_000);
            taken += ring.Reap(completions);
            waker.Wake();
            ring.SubmitAndWait(1);
            taken += ring.Reap(completions);
            waker.OnCompletion(in completions[0]);
            ring.SubmitAndWait(1, timeoutNanoseconds: 0);
        }

        int turns = 0;
        long allocated = Allocations.LeastOf(() =>
        {
            for (int i = 0; i < Turns; i++)
            {
                Turn();
                turns++;
            }
        });
        Assert.Equal(0, allocated);
        Assert.Equal(5 * turns, taken);
    });

    [Fact]
    public void Another_thread_may_not_submit()
    {
        using Ring ring = Create(Shape.Default, submissionEntries: 4);
        Entry(ring)->PrepareNop(1);
        OwnThread other = OwnThread.Start(() => ring.Submit());

        // A debug build asserts; otherwise the kernel refuses (SINGLE_ISSUER, Linux 6.0) and the message says why.
        Exception failure = Assert.ThrowsAny<Exception>(other.Join);
        Assert.Contains("thread", failure.Message, StringComparison.Ordinal);
    }

    internal static Ring Create(Shape shape, uint submissionEntries)
    {
        SetupFlags flags = shape switch
        {
            Shape.IndexArray or Shape.IndexArrayAndTwoMappings => RingOptions.DefaultFlags & ~NoSqarray,
            Shape.DeferTaskrun => RingOptions.DefaultFlags | SetupFlags.IORING_SETUP_DEFER_TASKRUN,
            Shape.Plain => SetupFlags.None,
            _ => RingOptions.DefaultFlags,
        };
        bool twoMappings = shape is Shape.TwoMappings or Shape.IndexArrayAndTwoMappings;
        int Kernel(uint entries, ref RingParameters parameters)
        {
            int result = RingSetup.CallKernel(entries, ref parameters);
            parameters.Features &= twoMappings ? ~RingFeatures.IORING_FEAT_SINGLE_MMAP : ~RingFeatures.None;
            return result;
        }

        var options = new RingOptions { SubmissionEntries = submissionEntries, Flags = flags };
        Assert.True(Ring.TryCreate(options, Kernel, out Ring? ring, out IoUringException? error), error?.Message);
        return ring;
    }

    internal static SubmissionEntry* Entry(Ring ring)
    {
        Assert.True(ring.TryGetEntry(out SubmissionEntry* entry));
        return entry;
    }

    internal static List<CompletionEntry> ReapAll(Ring ring)
    {
        var completions = new List<CompletionEntry>();
        CollectionsMarshal.SetCount(completions, (int)ring.CompletionEntries);
        CollectionsMarshal.SetCount(completions, ring.Reap(CollectionsMarshal.AsSpan(completions)));
        return completions;
    }

    /// <summary>Every <see cref="Shape"/>.</summary>
    [AttributeUsage(AttributeTargets.Method)]
    private sealed class EveryShapeAttribute : Xunit.Sdk.DataAttribute
    {
        public override IEnumerable<object[]> GetData(System.Reflection.MethodInfo testMethod) =>
            Enum.GetValues<Shape>().Select(shape => new object[] { shape });
    }
}
