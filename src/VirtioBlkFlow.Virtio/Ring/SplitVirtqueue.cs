using System.Diagnostics;
using VirtioBlkFlow.Virtio.Inflight;
using VirtioBlkFlow.Virtio.Migration;

namespace VirtioBlkFlow.Virtio.Ring;

/// <summary>The device side of a split virtqueue (VIRTIO 1.4, "Split Virtqueues"). A slot is the head of a chain.</summary>
public sealed unsafe class SplitVirtqueue : Virtqueue
{
    // Fixed at construction.
    private readonly ushort _mask;
    private readonly SplitInflightRecord? _record;

    // Changed only while nothing is in flight (ReplaceMemory).
    private byte* _descriptors;
    private byte* _available;
    private byte* _used;

    // Changed only while nothing is in flight (SetDirtyLog).
    private SplitRingLog? _ringLog;

    // Owned by the queue's thread.
    private ushort _nextAvailable;
    private ushort _availableSeen;
    private ushort _usedIndex;
    private ushort _usedIndexAtLastDecision;
    private bool _callDecisionKnown;
    private bool _kicksSuppressed;

    /// <summary>
    /// Takes up a ring. The used index is read from the ring itself, as the front-end's base is only about the available side
    /// (vhost-user, "Front-end message types", SET_VRING_BASE).
    /// </summary>
    /// <exception cref="ArgumentException">No split virtqueue can have this size.</exception>
    internal SplitVirtqueue(VirtqueueSetup setup)
        : base(Checked(setup))
    {
        _mask = (ushort)(QueueSize - 1);
        SetAddresses(setup.Addresses);
        _nextAvailable = setup.Position.NextAvailable;
        _availableSeen = _nextAvailable;
        _usedIndex = Volatile.Read(ref *(ushort*)(_used + SplitRingLayout.IndexOffset));
        _usedIndexAtLastDecision = _usedIndex;
        if (setup.Inflight.Address != 0)
        {
            InflightDefect defect = SplitInflightRecord.TryOpen(
                setup.Inflight.Address, setup.Inflight.LengthBytes, QueueSize, _usedIndex, out _record);
            if (defect != InflightDefect.None)
            {
                throw new InflightRecordException(defect);
            }

            _nextAvailable = _record!.NextAvailable ?? _nextAvailable;
            _availableSeen = _nextAvailable;
            Recover(_record.Recovered.ToArray());
        }

        if (EventIndexNegotiated)
        {
            // A ring that was served without EVENT_IDX before may still say "no kicks" (VIRTIO 1.4, "Used Buffer Notification Suppression").
            Volatile.Write(ref *(ushort*)(_used + SplitRingLayout.FlagsOffset), (ushort)0);
        }
    }

    /// <inheritdoc/>
    public override RingPosition Position => new(_nextAvailable, _usedIndex);

    private protected override bool RingHasAvailable => ReadAvailableIndex() != _nextAvailable;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private protected override PopOutcome PeekRing(out ushort slot)
    {
        slot = 0;
        if (_availableSeen == _nextAvailable)
        {
            if (Defect != RingDefect.None)
            {
                return PopOutcome.Broken;
            }

            _availableSeen = ReadAvailableIndex();
            ushort backlog = (ushort)(_availableSeen - _nextAvailable);
            if (backlog == 0)
            {
                return PopOutcome.Empty;
            }

            if (backlog > QueueSize)
            {
                return BreakRing(RingDefect.AvailableIndexJumped);
            }
        }

        // Ordered after the acquire of avail.idx: the driver wrote the entry before it moved the index.
        ushort head = Volatile.Read(ref *(ushort*)(_available + SplitRingLayout.RingOffset + (2 * (_nextAvailable & _mask))));
        if (head >= QueueSize || !IsFree(head))
        {
            return BreakRing(head >= QueueSize ? RingDefect.HeadOutOfRange : RingDefect.HeadInFlight);
        }

        slot = head;
        return PopOutcome.Popped;
    }

    // Compiled on its own: inlined into a caller, the walk uses up what the compiler is ready to inline, and its translations become calls.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private protected override PopOutcome TakeFromRing(ushort slot, out DescriptorChain chain)
    {
        Debug.Assert(IsFree(slot), "Only what PeekRing has just found can be taken.");
        ChainWalker walker = BeginWalk(slot);
        WalkOutcome walk = walker.WalkTable(_descriptors, slot, (uint)QueueSize, out chain);
        PopOutcome outcome = EndWalk(slot, walk, walker.Defect);
        if (outcome == PopOutcome.Popped)
        {
            _nextAvailable++;
            _record?.Take(slot);
        }
        else if (outcome == PopOutcome.Broken)
        {
            _availableSeen = _nextAvailable;
        }

        return outcome;
    }

    private protected override PopOutcome PopRing(Span<ushort> slots, DescriptorChain* chains, out int count)
    {
        int popped = 0;
        PopOutcome outcome = PopOutcome.Popped;
        while (popped < slots.Length)
        {
            outcome = PeekRing(out ushort slot);
            if (outcome == PopOutcome.Popped)
            {
                outcome = TakeFromRing(slot, out chains[popped]);
            }

            if (outcome != PopOutcome.Popped)
            {
                break;
            }

            slots[popped++] = slot;
        }

        count = popped;
        return outcome;
    }

    /// <inheritdoc/>
    public override bool PublishUsed()
    {
        if (_usedIndex == _usedIndexAtLastDecision)
        {
            // Nothing was added, or IN_ORDER holds all of it back.
            return false;
        }

        _record?.BeforePublish();
        // Release: orders the elements, the data and the status bytes before the index the driver polls.
        Volatile.Write(ref *(ushort*)(_used + SplitRingLayout.IndexOffset), _usedIndex);
        _record?.AfterPublish(_usedIndex);
        if (_ringLog != null)
        {
            MarkPublished(_ringLog);
        }

        // StoreLoad: the index before the driver's wish, against the driver that writes its wish and then re-reads the index.
        // Without it both could miss the other's store, and a call would be lost.
        Interlocked.MemoryBarrier();
        ushort old = _usedIndexAtLastDecision;
        bool oldKnown = _callDecisionKnown;
        _usedIndexAtLastDecision = _usedIndex;
        _callDecisionKnown = true;
        if (!EventIndexNegotiated)
        {
            ushort flags = Volatile.Read(ref *(ushort*)(_available + SplitRingLayout.FlagsOffset));
            return (flags & SplitRingLayout.VIRTQ_AVAIL_F_NO_INTERRUPT) == 0;
        }

        // After a (re)start nobody knows which index the driver last heard of: call once in any case.
        ushort usedEvent = Volatile.Read(ref *(ushort*)(_available + SplitRingLayout.UsedEventOffset(QueueSize)));
        return !oldKnown || SplitRingLayout.NeedEvent(usedEvent, _usedIndex, old);
    }

    /// <inheritdoc/>
    // With EVENT_IDX there is nothing to write: avail_event stays behind.
    public override void SuppressKicks()
    {
        if (_kicksSuppressed)
        {
            return;
        }

        _kicksSuppressed = true;
        if (!EventIndexNegotiated)
        {
            Volatile.Write(ref *(ushort*)(_used + SplitRingLayout.FlagsOffset), SplitRingLayout.VIRTQ_USED_F_NO_NOTIFY);
            _ringLog?.MarkFlags();
        }
    }

    /// <inheritdoc/>
    public override bool RequestKicks()
    {
        _kicksSuppressed = false;
        if (EventIndexNegotiated)
        {
            Volatile.Write(ref *(ushort*)(_used + SplitRingLayout.AvailableEventOffset(QueueSize)), _nextAvailable);
            _ringLog?.MarkAvailableEvent();
        }
        else
        {
            Volatile.Write(ref *(ushort*)(_used + SplitRingLayout.FlagsOffset), (ushort)0);
            _ringLog?.MarkFlags();
        }

        // StoreLoad: our wish before the re-read of avail.idx, against the driver that moves avail.idx and then reads our wish.
        Interlocked.MemoryBarrier();
        return RingHasAvailable;
    }

    /// <inheritdoc/>
    public override DriverEventFault CheckDriverEvent()
    {
        ushort flags = Volatile.Read(ref *(ushort*)(_available + SplitRingLayout.FlagsOffset));
        return flags == 0 ? DriverEventFault.None
            : EventIndexNegotiated ? DriverEventFault.FlagsWithEventIndex
            : flags > SplitRingLayout.VIRTQ_AVAIL_F_NO_INTERRUPT ? DriverEventFault.ReservedFlags
            : DriverEventFault.None;
    }

    private protected override void SetAddresses(RingAddresses addresses)
    {
        _descriptors = (byte*)addresses.DescriptorArea;
        _available = (byte*)addresses.DriverArea;
        _used = (byte*)addresses.DeviceArea;
    }

    private protected override PopOutcome TakeRecovered(ushort slot, out DescriptorChain chain)
    {
        ChainWalker walker = BeginWalk(slot);
        WalkOutcome walk = walker.WalkTable(_descriptors, slot, (uint)QueueSize, out chain);
        return EndWalk(slot, walk, walker.Defect);
    }

    private protected override void SetRingLog(DirtyLog? log, ulong? usedRingAddress, GuestMemory memory) =>
        _ringLog = log != null && usedRingAddress is { } address ? new SplitRingLog(log, address, QueueSize) : null;

    private protected override void ReturnAll(ReadOnlySpan<ReturnedChain> chains)
    {
        // In variables: what is written through a pointer might be any of our fields, and they would be read again for each chain.
        byte* elements = _used + SplitRingLayout.RingOffset;
        SplitInflightRecord? record = _record;
        int mask = _mask;
        ushort index = _usedIndex;
        foreach (ref readonly ReturnedChain chain in chains)
        {
            Release(chain.Slot);
            record?.AddToBatch(chain.Slot);
            WriteElement(elements, index++ & mask, chain.Slot, chain.WrittenBytes);
        }

        _usedIndex = index;
    }

    private protected override void WriteUsed(ushort slot, uint writtenBytes)
    {
        _record?.AddToBatch(slot);
        WriteElement(_used + SplitRingLayout.RingOffset, _usedIndex++ & _mask, slot, writtenBytes);
    }

    // struct virtq_used_elem: le32 id, le32 len.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void WriteElement(byte* elements, int place, ushort slot, uint writtenBytes) =>
        Unsafe.WriteUnaligned(elements + (SplitRingLayout.UsedElementBytes * place), slot | ((ulong)writtenBytes << 32));

    // What was published since the last decision about a call.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private void MarkPublished(SplitRingLog log)
    {
        for (ushort index = _usedIndexAtLastDecision; index != _usedIndex; index++)
        {
            log.MarkElement(index);
        }

        log.MarkIndex();
    }

    // Acquire: orders the read of the index before the reads of ring entries and descriptors the driver wrote before moving it.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private ushort ReadAvailableIndex() => Volatile.Read(ref *(ushort*)(_available + SplitRingLayout.IndexOffset));

    private static VirtqueueSetup Checked(VirtqueueSetup setup) =>
        setup.QueueSize > 0 && SplitRingLayout.IsValidQueueSize((uint)setup.QueueSize)
            ? setup
            : throw new ArgumentException($"The size of a split virtqueue is a power of two up to 32768, not {setup.QueueSize}.", nameof(setup));

    // Nothing seen counts any more: the next look comes to the defect.
    private PopOutcome BreakRing(RingDefect defect)
    {
        _availableSeen = _nextAvailable;
        return Break(defect);
    }
}
