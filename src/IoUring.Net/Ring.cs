using System.Diagnostics;

namespace IoUring;

/// <summary>How a wait ended.</summary>
public enum WaitOutcome
{
    /// <summary>There are completions, or everything was submitted and nothing was to be waited for.</summary>
    Ready,

    /// <summary>The time was up.</summary>
    TimedOut,

    /// <summary>
    /// The kernel takes no more until completions are reaped (EBUSY) or memory is free (EAGAIN). What is left is submitted next time.
    /// </summary>
    Busy,
}

/// <summary>
/// An io_uring: a submission queue, a completion queue, registered files (io_uring(7)). Owned by one thread, the one that creates it:
/// with SINGLE_ISSUER the kernel itself insists. The hot path allocates nothing.
/// </summary>
[DebuggerDisplay("{SubmissionEntries} entries, {Flags}")]
public sealed unsafe partial class Ring : IDisposable
{
    private const long NanosecondsPerSecond = 1_000_000_000;

    // Fixed at construction.
    private readonly int _ownerThread = Environment.CurrentManagedThreadId;
    private readonly byte* _submissionMap;
    private readonly nuint _submissionMapBytes;
    private readonly byte* _completionMap;
    private readonly nuint _completionMapBytes;
    private readonly SubmissionEntry* _entries;
    private readonly nuint _entriesBytes;
    private readonly uint* _submissionHead;
    private readonly uint* _submissionTail;
    private readonly uint* _submissionFlags;
    private readonly uint* _submissionArray;
    private readonly uint _submissionMask;
    private readonly uint* _completionHead;
    private readonly uint* _completionTail;
    private readonly CompletionEntry* _completions;
    private readonly uint _completionMask;

    // Owned by the ring's thread.
    private int _descriptor;
    private uint _tail;
    private uint _publishedTail;
    private ulong _enterCount;

    private Ring(int descriptor, in RingParameters parameters)
    {
        _descriptor = descriptor;
        Flags = parameters.Flags;
        Features = parameters.Features;
        SubmissionEntries = parameters.SubmissionEntries;
        CompletionEntries = parameters.CompletionEntries;

        SubmissionOffsets submission = parameters.Submission;
        CompletionOffsets completion = parameters.Completion;
        bool hasArray = (Flags & SetupFlags.IORING_SETUP_NO_SQARRAY) == 0;
        _submissionMapBytes = hasArray ? submission.Array + (parameters.SubmissionEntries * sizeof(uint)) : submission.Flags + sizeof(uint);
        _completionMapBytes = completion.Entries + (parameters.CompletionEntries * (nuint)sizeof(CompletionEntry));
        try
        {
            if ((Features & RingFeatures.IORING_FEAT_SINGLE_MMAP) != 0)
            {
                _submissionMapBytes = _completionMapBytes = nuint.Max(_submissionMapBytes, _completionMapBytes);
                _submissionMap = _completionMap = Map(_submissionMapBytes, Syscalls.IORING_OFF_SQ_RING);
            }
            else
            {
                _submissionMap = Map(_submissionMapBytes, Syscalls.IORING_OFF_SQ_RING);
                _completionMap = Map(_completionMapBytes, Syscalls.IORING_OFF_CQ_RING);
            }

            _entriesBytes = parameters.SubmissionEntries * (nuint)sizeof(SubmissionEntry);
            _entries = (SubmissionEntry*)Map(_entriesBytes, Syscalls.IORING_OFF_SQES);
        }
        catch
        {
            Dispose();
            throw;
        }

        _submissionHead = (uint*)(_submissionMap + submission.Head);
        _submissionTail = (uint*)(_submissionMap + submission.Tail);
        _submissionFlags = (uint*)(_submissionMap + submission.Flags);
        _submissionArray = hasArray ? (uint*)(_submissionMap + submission.Array) : null;
        _submissionMask = *(uint*)(_submissionMap + submission.RingMask);
        _completionHead = (uint*)(_completionMap + completion.Head);
        _completionTail = (uint*)(_completionMap + completion.Tail);
        _completions = (CompletionEntry*)(_completionMap + completion.Entries);
        _completionMask = *(uint*)(_completionMap + completion.RingMask);
        _tail = _publishedTail = *_submissionTail;
    }

    /// <summary>The flags really in force.</summary>
    public SetupFlags Flags { get; }

    /// <summary>What the kernel can do.</summary>
    public RingFeatures Features { get; }

    /// <summary>Entries of the submission queue.</summary>
    public uint SubmissionEntries { get; }

    /// <summary>Entries of the completion queue.</summary>
    public uint CompletionEntries { get; }

    /// <summary>How often the kernel was entered; for tests and benchmarks.</summary>
    public ulong EnterCount => _enterCount;

    /// <summary>Entries taken and not yet handed to the kernel.</summary>
    public uint PendingCount
    {
        get
        {
            ThrowIfDisposed();
            // Acquire: the kernel has read an entry before it moves the head past it; only then may we overwrite it.
            return _tail - Volatile.Read(ref *_submissionHead);
        }
    }

    /// <summary>Whether completions can be reaped. Cheap enough to spin on.</summary>
    public bool HasCompletions => CompletionCount != 0;

    /// <summary>Whether the kernel holds completions that only a call gets out: after an overflow, or as cooperative task work.</summary>
    public bool NeedsEnter
    {
        get
        {
            ThrowIfDisposed();
            return (Volatile.Read(ref *_submissionFlags) & (Syscalls.IORING_SQ_CQ_OVERFLOW | Syscalls.IORING_SQ_TASKRUN)) != 0;
        }
    }

    private uint CompletionCount
    {
        get
        {
            ThrowIfDisposed();
            return ReadCompletionTail() - *_completionHead;
        }
    }

    /// <summary>Creates a ring, on the thread that will own it.</summary>
    /// <exception cref="IoUringException">The kernel refuses; the message says why and what to do.</exception>
    public static Ring Create(RingOptions options) =>
        TryCreate(options, out Ring? ring, out IoUringException? error) ? ring : throw error;

    /// <summary>Creates a ring, on the thread that will own it.</summary>
    /// <exception cref="ArgumentOutOfRangeException">No kernel takes such sizes.</exception>
    public static bool TryCreate(
        RingOptions options,
        [System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out Ring? ring,
        [System.Diagnostics.CodeAnalysis.NotNullWhen(false)] out IoUringException? error) =>
        TryCreate(options, RingSetup.CallKernel, out ring, out error);

    internal static bool TryCreate(
        RingOptions options,
        RingSetup.SetupCall setup,
        [System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out Ring? ring,
        [System.Diagnostics.CodeAnalysis.NotNullWhen(false)] out IoUringException? error)
    {
        ring = null;
        int descriptor = RingSetup.TrySetUp(options, setup, out RingParameters parameters);
        if (descriptor < 0)
        {
            error = IoUringException.FromSetup(-descriptor);
            return false;
        }

        if ((parameters.Features & RingFeatures.IORING_FEAT_EXT_ARG) == 0)
        {
            Syscalls.close(descriptor);
            error = new IoUringException("This kernel's io_uring has no timed wait (IORING_FEAT_EXT_ARG): Linux 5.11 or newer is needed.");
            return false;
        }

        try
        {
            ring = new Ring(descriptor, in parameters);
            error = null;
            return true;
        }
        catch (IoUringException mapping)
        {
            error = mapping;
            return false;
        }
    }

    /// <summary>Takes a free entry, zeroed. It goes to the kernel with the next submission.</summary>
    /// <returns>False when the queue is full: submit first.</returns>
    public bool TryGetEntry(out SubmissionEntry* entry)
    {
        AssertOwner();
        if (PendingCount > _submissionMask)
        {
            entry = null;
            return false;
        }

        uint index = _tail & _submissionMask;
        if (_submissionArray != null)
        {
            _submissionArray[index] = index;
        }

        entry = _entries + index;
        *entry = default;
        _tail++;
        return true;
    }

    /// <summary>Hands over what was prepared, without waiting. Enters the kernel only if there is a reason to.</summary>
    /// <param name="mostAtOnce">
    /// Entries of one call; with more there are several. The kernel holds the requests of a call to block devices back until it has prepared
    /// them all (blk_start_plug, from the third entry on).
    /// </param>
    public WaitOutcome Submit(uint mostAtOnce = uint.MaxValue)
    {
        PublishTail();
        while (true)
        {
            bool needsEnter = NeedsEnter;
            uint pending = PendingCount;
            if (pending == 0 && !needsEnter)
            {
                return WaitOutcome.Ready;
            }

            WaitOutcome outcome = Enter(Math.Min(pending, mostAtOnce), 0, needsEnter ? Syscalls.IORING_ENTER_GETEVENTS : 0, null);
            if (outcome != WaitOutcome.Ready || PendingCount == 0)
            {
                return outcome;
            }

            // More than go at once; and without SUBMIT_ALL the kernel stops behind an entry it refuses: on with the rest.
            if (PendingCount == pending)
            {
                return WaitOutcome.Busy;
            }
        }
    }

    /// <summary>Hands over what was prepared and waits for completions.</summary>
    /// <param name="minimumCompletions">How many must be there, those not yet reaped included; no more than the queue holds.</param>
    public WaitOutcome SubmitAndWait(uint minimumCompletions) => SubmitAndWait(minimumCompletions, timeoutNanoseconds: -1);

    /// <summary>Hands over what was prepared and waits for completions, but not for ever.</summary>
    /// <param name="minimumCompletions">How many must be there, those not yet reaped included; no more than the queue holds.</param>
    /// <param name="timeoutNanoseconds">Longest wait; negative for ever.</param>
    public WaitOutcome SubmitAndWait(uint minimumCompletions, long timeoutNanoseconds)
    {
        PublishTail();
        // The kernel waits for no more either.
        uint minimum = Math.Min(minimumCompletions, CompletionEntries);
        long now = timeoutNanoseconds < 0 ? 0 : Stopwatch.GetTimestamp();
        long deadline = timeoutNanoseconds < 0 || timeoutNanoseconds > long.MaxValue - now ? long.MaxValue : now + timeoutNanoseconds;
        while (true)
        {
            KernelTimespec timespec = default;
            var argument = new WaitArgument();
            if (deadline != long.MaxValue)
            {
                // After an interruption only the rest is left. Stopwatch counts nanoseconds of CLOCK_MONOTONIC, and so does the kernel.
                (timespec.Seconds, timespec.Nanoseconds) = Math.DivRem(Math.Max(0, deadline - now), NanosecondsPerSecond);
                argument.Timespec = (ulong)&timespec;
            }

            uint pending = PendingCount;
            WaitOutcome outcome = Enter(pending, minimum, Syscalls.IORING_ENTER_GETEVENTS | Syscalls.IORING_ENTER_EXT_ARG, &argument);
            if (outcome != WaitOutcome.Ready)
            {
                return outcome;
            }

            uint left = PendingCount;
            if (left == 0 || left == pending)
            {
                if (CompletionCount >= minimum)
                {
                    return left == 0 ? WaitOutcome.Ready : WaitOutcome.Busy;
                }

                // A wait that was interrupted, one that timed out while some completions were there, and one that timed out after a
                // submission look like success. Only the clock tells.
                now = Stopwatch.GetTimestamp();
                if (now >= deadline)
                {
                    return WaitOutcome.TimedOut;
                }
            }
        }
    }

    /// <summary>Takes completions out of the queue, in their order, and frees their places with one store.</summary>
    /// <returns>How many were taken.</returns>
    public int Reap(Span<CompletionEntry> destination)
    {
        AssertOwner();
        int count = (int)Math.Min(CompletionCount, (uint)destination.Length);
        uint head = *_completionHead;
        for (int i = 0; i < count; i++)
        {
            destination[i] = _completions[(head + (uint)i) & _completionMask];
        }

        if (count > 0)
        {
            // Release: our reads of the entries before the head that lets the kernel overwrite them.
            Volatile.Write(ref *_completionHead, head + (uint)count);
        }

        return count;
    }

    /// <summary>
    /// Closes the ring. Teardown order: unmap entries, unmap queues, close the descriptor, which ends polls and drops registered
    /// files. Memory of operations in flight must stay valid until their completions: drain before.
    /// </summary>
    public void Dispose()
    {
        if (_descriptor < 0)
        {
            return;
        }

        Unmap(_entries, _entriesBytes);
        if (_completionMap != _submissionMap)
        {
            Unmap(_completionMap, _completionMapBytes);
        }

        Unmap(_submissionMap, _submissionMapBytes);
        Syscalls.close(_descriptor);
        _descriptor = -1;
    }

    // Acquire: the kernel writes an entry before it moves the tail; our reads of the entry come after.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private uint ReadCompletionTail() => Volatile.Read(ref *_completionTail);

    private void PublishTail()
    {
        AssertOwner();
        ThrowIfDisposed();
        if (_publishedTail != _tail)
        {
            // Release: the entries before the tail that shows them to the kernel.
            Volatile.Write(ref *_submissionTail, _tail);
            _publishedTail = _tail;
        }
    }

    // One system call, and again if a signal came between. A wait that was interrupted returns instead: its time must be reckoned anew.
    private WaitOutcome Enter(uint entries, uint minimumCompletions, uint flags, WaitArgument* argument)
    {
        nuint argumentBytes = argument == null ? 0 : (nuint)sizeof(WaitArgument);
        while (true)
        {
            _enterCount++;
            nint result = Syscalls.Enter(
                Syscalls.SYS_io_uring_enter, _descriptor, entries, minimumCompletions, flags, argument, argumentBytes);
            if (result >= 0)
            {
                return WaitOutcome.Ready;
            }

            switch (Marshal.GetLastPInvokeError())
            {
                case Syscalls.EINTR when minimumCompletions > 0:
                    return WaitOutcome.Ready;
                case Syscalls.EINTR:
                    continue;
                case Syscalls.ETIME:
                    return WaitOutcome.TimedOut;
                case Syscalls.EAGAIN or Syscalls.EBUSY:
                    return WaitOutcome.Busy;
                case int errno:
                    throw IoUringException.From("io_uring_enter(2)", errno);
            }
        }
    }

    private byte* Map(nuint lengthBytes, long offset)
    {
        void* map = Syscalls.mmap(null, lengthBytes, Syscalls.PROT_READ_WRITE, Syscalls.MAP_SHARED_POPULATE, _descriptor, offset);
        return (nint)map != -1 ? (byte*)map : throw IoUringException.From("Mapping the ring", Marshal.GetLastPInvokeError());
    }

    private static void Unmap(void* map, nuint lengthBytes)
    {
        if (map != null)
        {
            Syscalls.munmap(map, lengthBytes);
        }
    }

    // The queues are unmapped: without this check a late call would read from nowhere.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void ThrowIfDisposed() => ObjectDisposedException.ThrowIf(_descriptor < 0, this);

    [Conditional("DEBUG")]
    private void AssertOwner() =>
        Debug.Assert(Environment.CurrentManagedThreadId == _ownerThread, "A ring belongs to the thread that made it.");
}
