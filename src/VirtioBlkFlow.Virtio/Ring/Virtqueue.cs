using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using VirtioBlkFlow.Virtio.Inflight;
using VirtioBlkFlow.Virtio.Migration;

namespace VirtioBlkFlow.Virtio.Ring;

/// <summary>What a pop found.</summary>
public enum PopOutcome
{
    /// <summary>A chain.</summary>
    Popped,

    /// <summary>Nothing available.</summary>
    Empty,

    /// <summary>A chain is available, but the memory to list its pieces is all in use: try again after a completion.</summary>
    Later,

    /// <summary>The driver broke the ring: see <see cref="Virtqueue.Defect"/>. It stays broken.</summary>
    Broken,
}

/// <summary>
/// The device side of a virtqueue, split or packed (VIRTIO 1.4, "Virtqueues"). Owned by one thread. The ring is memory shared with a
/// hostile driver: what it polls is read with acquire, every descriptor is copied once, everything is checked on the copy.
/// </summary>
/// <remarks>
/// A chain in flight is known by its slot, a number below the queue size. In a split ring that is its head; in a packed ring it is a
/// number of our own, because a driver may give a buffer any id of 16 bits.
/// </remarks>
[DebuggerDisplay("size {QueueSize}, at {Position}, in flight {InFlightCount}, {Defect}")]
public abstract unsafe class Virtqueue : IDisposable
{
    /// <summary>
    /// Descriptors in the longest chain we take: the kernel's 1024 pieces in one transfer (UIO_MAXIOV), plus 64 for a header in
    /// one-byte pieces and a status. seg_max is far below.
    /// </summary>
    public const int MaxChainLength = 1024 + 64;

    // Fixed at construction.
    private readonly bool _indirectNegotiated;
    private readonly IovecArena _arena;
    private readonly InOrderQueue? _inOrder;

    // Changed only while nothing is in flight (ReplaceMemory).
    private GuestMemory _memory;

    // Changed only while nothing is in flight (SetDirtyLog); null while nothing is logged.
    private ChainLog? _chainLog;

    // Owned by the queue's thread.
    private readonly ChainState[] _states;

    // Chains a predecessor had in flight, in its order; they come before those of the ring. Null once all were popped.
    private ushort[]? _recovered;
    private int _recoveredTaken;

    private protected Virtqueue(VirtqueueSetup setup)
    {
        QueueSize = setup.QueueSize;
        EventIndexNegotiated = (setup.Features & VirtioFeatures.VIRTIO_RING_F_EVENT_IDX) != 0;
        _indirectNegotiated = (setup.Features & VirtioFeatures.VIRTIO_RING_F_INDIRECT_DESC) != 0;
        _inOrder = (setup.Features & VirtioFeatures.VIRTIO_F_IN_ORDER) != 0 ? new InOrderQueue(QueueSize) : null;
        _arena = new IovecArena(QueueSize);
        _states = new ChainState[QueueSize];
        _memory = setup.Memory;
    }

    private enum ChainState : byte
    {
        Free,
        InFlight,

        // Completed, but with IN_ORDER an older chain is not.
        HeldBack,
    }

    /// <summary>Entries in the ring.</summary>
    public int QueueSize { get; }

    /// <summary>Where fetching and returning stand: what GET_VRING_BASE answers after a drain.</summary>
    public abstract RingPosition Position { get; }

    /// <summary>Chains popped and not yet written to the ring as used.</summary>
    public int InFlightCount { get; private set; }

    /// <summary>Why the ring is broken, if it is.</summary>
    public RingDefect Defect { get; private set; }

    /// <summary>Whether there is something to pop. Cheap enough to spin on.</summary>
    public bool HasAvailable => _recovered != null || RingHasAvailable;

    private protected abstract bool RingHasAvailable { get; }

    private protected bool EventIndexNegotiated { get; }

    /// <summary>Takes up a ring: a packed one if VIRTIO_F_RING_PACKED was negotiated, else a split one.</summary>
    /// <exception cref="ArgumentException">No such ring can have this size or this position.</exception>
    /// <exception cref="InflightRecordException">The record of chains in flight is not one this queue can go on from.</exception>
    public static Virtqueue Create(VirtqueueSetup setup) =>
        (setup.Features & VirtioFeatures.VIRTIO_F_RING_PACKED) != 0 ? new PackedVirtqueue(setup) : new SplitVirtqueue(setup);

    /// <summary>Pops the next chain.</summary>
    public PopOutcome TryPop(out DescriptorChain chain)
    {
        PopOutcome outcome = TryPeek(out ushort slot);
        if (outcome != PopOutcome.Popped)
        {
            chain = default;
            return outcome;
        }

        return TryTake(slot, out chain);
    }

    /// <summary>
    /// Pops chains until there are no more, or no more room: one call for a batch, as a call for each chain costs as much as what is done in it.
    /// </summary>
    /// <param name="slots">Where the slots of the chains go, in the order the driver made them available.</param>
    /// <param name="chains">Where the chains go, in the same order; as much room as for slots.</param>
    /// <param name="count">How many were popped.</param>
    /// <returns>Why there are no more; <see cref="PopOutcome.Popped"/> if there was no more room.</returns>
    public PopOutcome Pop(Span<ushort> slots, DescriptorChain* chains, out int count) =>
        _recovered == null && _chainLog == null ? PopRing(slots, chains, out count) : PopWithCare(slots, chains, out count);

    /// <summary>
    /// Returns a chain and releases its pieces. The driver does not see it before <see cref="PublishUsed"/>, and with IN_ORDER not before
    /// all chains made available earlier are returned as well.
    /// </summary>
    /// <param name="slot">The slot of a chain that was popped.</param>
    /// <param name="writtenBytes">Bytes written from the first writable byte on, without a gap.</param>
    /// <param name="touchedBytes">
    /// Bytes from the first writable byte on among which some may have been written, the status byte apart: at least what a dirty log must
    /// mark, also after a transfer that failed half-way.
    /// </param>
    public void AddUsed(ushort slot, uint writtenBytes, uint touchedBytes)
    {
        RequireInFlight(slot);
        // Its buffers were written, and the driver does not know yet: the moment to mark them.
        _chainLog?.MarkCompleted(slot, touchedBytes, _memory);
        if (_inOrder != null)
        {
            ReturnInOrder(_inOrder, slot, writtenBytes);
        }
        else
        {
            Return(slot, writtenBytes);
        }
    }

    /// <summary>Returns chains, one after the other, as <see cref="AddUsed(ushort, uint, uint)"/> does each.</summary>
    public void AddUsed(ReadOnlySpan<ReturnedChain> chains)
    {
        if (_chainLog == null && _inOrder == null)
        {
            ReturnAll(chains);
            return;
        }

        foreach (ref readonly ReturnedChain chain in chains)
        {
            AddUsed(chain.Slot, chain.WrittenBytes, chain.TouchedBytes);
        }
    }

    /// <summary>
    /// Makes all used elements written so far visible with one store, and decides whether the driver wants a call.
    /// </summary>
    /// <returns>True when the driver must be called.</returns>
    public abstract bool PublishUsed();

    /// <summary>Asks the driver for no kicks while we look at the ring anyway.</summary>
    public abstract void SuppressKicks();

    /// <summary>
    /// Asks the driver for a kick at the next chain.
    /// </summary>
    /// <returns>True when a chain became available meanwhile: then do not sleep, no kick may come for it.</returns>
    public abstract bool RequestKicks();

    /// <summary>
    /// Looks whether what the driver says about calls makes sense. Nothing depends on it: where it makes none, calls are made or left out as
    /// is safe.
    /// </summary>
    public abstract DriverEventFault CheckDriverEvent();

    /// <summary>
    /// Swaps in new memory. Only while nothing is in flight; positions in the ring stay as they are.
    /// </summary>
    public void ReplaceMemory(GuestMemory memory, RingAddresses addresses)
    {
        Debug.Assert(InFlightCount == 0, "A request still uses the old memory.");
        _memory = memory;
        SetAddresses(addresses);
    }

    /// <summary>
    /// Begins or ends to mark what this queue writes into guest memory. Only while nothing is in flight.
    /// </summary>
    /// <param name="log">The log, which all queues share; null for none.</param>
    /// <param name="usedRingAddress">
    /// The address under which writes to the ring itself are marked (vhost-user, "Migration"); null if they are not to be.
    /// </param>
    public void SetDirtyLog(DirtyLog? log, ulong? usedRingAddress)
    {
        Debug.Assert(InFlightCount == 0, "A chain in flight would escape the log.");
        _chainLog?.Dispose();
        _chainLog = log == null ? null : new ChainLog(log, QueueSize);
        SetRingLog(log, log == null ? null : usedRingAddress, _memory);
    }

    /// <summary>Frees the native memory of pieces. Nothing may be in flight.</summary>
    public void Dispose()
    {
        _arena.Dispose();
        _chainLog?.Dispose();
        GC.SuppressFinalize(this);
    }

    // Finds out which slot the next chain of the ring gets; 0 unless there is one.
    private protected abstract PopOutcome PeekRing(out ushort slot);

    // Pops the chain that PeekRing has just found.
    private protected abstract PopOutcome TakeFromRing(ushort slot, out DescriptorChain chain);

    // All that PeekRing and TakeFromRing find, with nothing recovered and nothing logged. This stands in both rings word for word, and ReturnAll nearly so:
    // only where the class is known are the calls in the loop no calls through it, and that is what they are for.
    private protected abstract PopOutcome PopRing(Span<ushort> slots, DescriptorChain* chains, out int count);

    // Returns chains with nothing logged and in any order.
    private protected abstract void ReturnAll(ReadOnlySpan<ReturnedChain> chains);

    // Walks a chain of a predecessor again. Nothing in the ring moves, and its record has the chain already.
    private protected abstract PopOutcome TakeRecovered(ushort slot, out DescriptorChain chain);

    private protected abstract void SetAddresses(RingAddresses addresses);

    private protected abstract void SetRingLog(DirtyLog? log, ulong? usedRingAddress, GuestMemory memory);

    // Writes the used element of a chain where the ring wants it next.
    private protected abstract void WriteUsed(ushort slot, uint writtenBytes);

    // Called by the constructors, with what the record says.
    private protected void Recover(ushort[] slots) => _recovered = slots.Length == 0 ? null : slots;

    private protected bool IsFree(ushort slot) => _states[slot] == ChainState.Free;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private protected ChainWalker BeginWalk(ushort slot) => new(_memory, _arena, slot, _indirectNegotiated);

    // What follows from how a walk ended.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private protected PopOutcome EndWalk(ushort slot, WalkOutcome outcome, RingDefect defect)
    {
        if (outcome == WalkOutcome.Complete)
        {
            _states[slot] = ChainState.InFlight;
            InFlightCount++;
            _inOrder?.Add(slot);
            return PopOutcome.Popped;
        }

        _arena.Release(slot);
        return outcome == WalkOutcome.NoListFree ? PopOutcome.Later : Break(defect);
    }

    private protected PopOutcome Break(RingDefect defect)
    {
        Defect = defect;
        return PopOutcome.Broken;
    }

    // Lets go of a chain whose used element is about to be written.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private protected void Release(ushort slot)
    {
        RequireInFlight(slot);
        Free(slot);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void RequireInFlight(ushort slot)
    {
        if (_states[slot] != ChainState.InFlight)
        {
            // Each request completes exactly once; anything else is our bug and would corrupt the guest.
            FailUsedTwice(slot);
        }
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private PopOutcome PopWithCare(Span<ushort> slots, DescriptorChain* chains, out int count)
    {
        count = 0;
        while (count < slots.Length)
        {
            PopOutcome outcome = TryPeek(out ushort slot);
            if (outcome == PopOutcome.Popped)
            {
                outcome = TryTake(slot, out chains[count]);
            }

            if (outcome != PopOutcome.Popped)
            {
                return outcome;
            }

            slots[count++] = slot;
        }

        return PopOutcome.Popped;
    }

    // Finds out which slot the next chain gets; 0 unless there is one.
    internal PopOutcome TryPeek(out ushort slot)
    {
        if (_recovered is { } recovered)
        {
            slot = recovered[_recoveredTaken];
            return Defect == RingDefect.None ? PopOutcome.Popped : PopOutcome.Broken;
        }

        return PeekRing(out slot);
    }

    private PopOutcome TryTake(ushort slot, out DescriptorChain chain) =>
        _recovered == null && _chainLog == null ? TakeFromRing(slot, out chain) : TakeWithCare(slot, out chain);

    // The rare ways to take a chain: left behind by a predecessor, or to be logged.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private PopOutcome TakeWithCare(ushort slot, out DescriptorChain chain)
    {
        PopOutcome outcome = _recovered == null ? TakeFromRing(slot, out chain) : TakeRecovered(slot, out chain);
        if (outcome != PopOutcome.Popped)
        {
            return outcome;
        }

        if (_recovered != null && ++_recoveredTaken == _recovered.Length)
        {
            _recovered = null;
        }

        _chainLog?.Remember(slot, in chain);
        return outcome;
    }

    // Apart, so that the check stays small; seen not to return, so that nothing is kept for after it.
    [DoesNotReturn]
    private static void FailUsedTwice(ushort slot)
    {
        Environment.FailFast($"Slot {slot} was completed twice.");
        throw new UnreachableException();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void Return(ushort slot, uint writtenBytes)
    {
        Free(slot);
        WriteUsed(slot, writtenBytes);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void Free(ushort slot)
    {
        _states[slot] = ChainState.Free;
        InFlightCount--;
        _arena.Release(slot);
    }

    // VIRTIO 1.4, "In-order use of descriptors": used in the order made available. A device may write one element for a whole run of chains,
    // but then the driver must take all of them but the last as written in full; our reads that failed were not. So each gets its own.
    private void ReturnInOrder(InOrderQueue inOrder, ushort slot, uint writtenBytes)
    {
        _states[slot] = ChainState.HeldBack;
        inOrder.HoldBack(slot, writtenBytes);
        while (inOrder.TryPeekOldest(out ushort oldest) && _states[oldest] == ChainState.HeldBack)
        {
            Return(oldest, inOrder.RemoveOldest());
        }
    }
}
