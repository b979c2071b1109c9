using System.Diagnostics;
using VirtioBlkFlow.Virtio.Inflight;
using VirtioBlkFlow.Virtio.Migration;

namespace VirtioBlkFlow.Virtio.Ring;

/// <summary>
/// The device side of a packed virtqueue (VIRTIO 1.4, "Packed Virtqueues"). Descriptors become available and used in one ring; a wrap
/// counter on either side tells the laps apart. The ring may have any size, so that offsets wrap by comparison.
/// </summary>
public sealed unsafe class PackedVirtqueue : Virtqueue
{
    private const ushort AvailableAndUsed = PackedRingLayout.VIRTQ_DESC_F_AVAIL | PackedRingLayout.VIRTQ_DESC_F_USED;

    // Fixed at construction.
    private readonly PackedInflightRecord? _record;

    // Changed only while nothing is in flight (ReplaceMemory, SetDirtyLog).
    private PackedRingLog? _ringLog;
    private byte* _ring;
    private byte* _driverEvent;
    private byte* _deviceEvent;

    // Owned by the queue's thread. A wrap counter is kept as the flags it stands for: what an available descriptor has in our present lap,
    // and what we write into a used one. Both toggle all their bits at the end of the ring.
    private readonly ChainEntry[] _entryOfSlot;
    private readonly ushort[] _freeSlots;
    private int _freeSlotCount;
    private uint _nextAvailable;
    private ushort _availableFlags;
    private uint _nextUsed;
    private ushort _usedFlags;
    private uint _entriesInFlight;
    private byte* _firstOfBatch;
    private ushort _firstOfBatchFlags;
    private int _entriesInBatch;
    private bool _callDecisionKnown;
    private bool _kicksSuppressed;

    /// <summary>Takes up a ring at the position the front-end gives; the ring itself does not tell.</summary>
    /// <exception cref="ArgumentException">No packed virtqueue can have this size or this position.</exception>
    internal PackedVirtqueue(VirtqueueSetup setup)
        : base(Checked(setup))
    {
        SetAddresses(setup.Addresses);
        (ushort available, ushort used) = setup.Position;
        if (available == 0 && used == 0 && IsNewRing())
        {
            available = used = PackedRingLayout.WrapBit;
        }

        if (setup.Inflight.Address != 0)
        {
            InflightDefect defect = PackedInflightRecord.TryOpen(
                setup.Inflight.Address, setup.Inflight.LengthBytes, QueueSize, setup.Addresses.DescriptorArea, AsPlace(used), out _record);
            if (defect != InflightDefect.None)
            {
                throw new InflightRecordException(defect);
            }

            used = AsPosition(_record!.Used);
            available = _record.NextAvailable is { } next ? AsPosition(next) : available;
        }

        _entryOfSlot = new ChainEntry[QueueSize];
        _freeSlots = new ushort[QueueSize];
        HashSet<ushort> recovered = RecoverChains();
        // The lowest numbers are given out first, and again: so that few slots are ever touched.
        for (int slot = QueueSize - 1; slot >= 0; slot--)
        {
            if (!recovered.Contains((ushort)slot))
            {
                _freeSlots[_freeSlotCount++] = (ushort)slot;
            }
        }

        _nextAvailable = OffsetOf(available);
        _availableFlags = (available & PackedRingLayout.WrapBit) != 0 ? PackedRingLayout.VIRTQ_DESC_F_AVAIL : PackedRingLayout.VIRTQ_DESC_F_USED;
        _nextUsed = OffsetOf(used);
        _usedFlags = (used & PackedRingLayout.WrapBit) != 0 ? AvailableAndUsed : (ushort)0;
        // What lies between the two is in flight for ever, as nobody is left to return it: our used descriptors must not overtake the driver.
        // But those of a predecessor, which we return for it.
        _entriesInFlight = EntriesBetween(used, available, QueueSize);
        // Whoever served the ring before may have left it at "no kicks".
        WriteDeviceEvent(0, PackedRingLayout.RING_EVENT_FLAGS_ENABLE);
    }

    // What the ring wants to know of a chain when it is used.
    private struct ChainEntry
    {
        // The driver's number for it.
        public ushort Id;

        // Descriptors of the ring it takes, at most 32768.
        public ushort Entries;
    }

    /// <inheritdoc/>
    public override RingPosition Position => new(AvailablePosition, UsedPosition);

    // Acquire: orders the read of the flags before the reads of the descriptors the driver wrote before them.
    private protected override bool RingHasAvailable =>
        (Volatile.Read(ref *(ushort*)(DescriptorAt(_nextAvailable) + PackedRingLayout.FlagsOffset)) & AvailableAndUsed) == _availableFlags;

    private ushort AvailablePosition =>
        (ushort)(_nextAvailable | (_availableFlags == PackedRingLayout.VIRTQ_DESC_F_AVAIL ? PackedRingLayout.WrapBit : 0u));

    private ushort UsedPosition => (ushort)(_nextUsed | (_usedFlags != 0 ? PackedRingLayout.WrapBit : 0u));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private protected override PopOutcome PeekRing(out ushort slot)
    {
        slot = 0;
        if (Defect != RingDefect.None)
        {
            return PopOutcome.Broken;
        }

        if (!RingHasAvailable)
        {
            return PopOutcome.Empty;
        }

        // With every descriptor in flight there is also no slot left, as each chain takes one of each at least.
        if (_entriesInFlight == (uint)QueueSize)
        {
            return Break(RingDefect.DescriptorInFlight);
        }

        slot = _freeSlots[_freeSlotCount - 1];
        return PopOutcome.Popped;
    }

    // Compiled on its own, as in SplitVirtqueue.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private protected override PopOutcome TakeFromRing(ushort slot, out DescriptorChain chain)
    {
        Debug.Assert(_freeSlots[_freeSlotCount - 1] == slot, "Only what PeekRing has just found can be taken.");
        ChainWalker walker = BeginWalk(slot);
        WalkOutcome walk = walker.WalkRing(
            _ring, _nextAvailable, (uint)QueueSize, (uint)QueueSize - _entriesInFlight, _record, out ushort id, out uint entries, out chain);
        PopOutcome outcome = EndWalk(slot, walk, walker.Defect);
        if (outcome == PopOutcome.Popped)
        {
            _freeSlotCount--;
            _entryOfSlot[slot] = new ChainEntry { Id = id, Entries = (ushort)entries };
            _entriesInFlight += entries;
            Advance(ref _nextAvailable, ref _availableFlags, entries);
            _record?.Take(slot);
        }
        else
        {
            _record?.Abandon();
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
        if (_firstOfBatch == null)
        {
            // Nothing was added, or IN_ORDER holds all of it back.
            return false;
        }

        _record?.BeforePublish();
        // Release: orders the data, the status bytes and the other used descriptors of the batch before the flags the driver polls.
        Volatile.Write(ref *(ushort*)(_firstOfBatch + PackedRingLayout.FlagsOffset), _firstOfBatchFlags);
        _record?.AfterPublish();
        _ringLog?.MarkDescriptor((ushort)((_firstOfBatch - _ring) / PackedRingLayout.DescriptorBytes));
        _firstOfBatch = null;
        int passed = _entriesInBatch;
        _entriesInBatch = 0;
        bool decisionKnown = _callDecisionKnown;
        _callDecisionKnown = true;
        // StoreLoad: the used flags before the driver's wish, against the driver that writes its wish and then re-reads the used flags.
        // Without it both could miss the other's store, and a call would be lost.
        Interlocked.MemoryBarrier();
        // Offset and flags in one load: a driver may be about to change both.
        uint wish = Volatile.Read(ref *(uint*)_driverEvent);
        switch ((ushort)(wish >> 16) & PackedRingLayout.EventFlagsMask)
        {
            case PackedRingLayout.RING_EVENT_FLAGS_DISABLE:
                return false;
            case PackedRingLayout.RING_EVENT_FLAGS_DESC when EventIndexNegotiated && decisionKnown:
                return PackedRingLayout.NeedEvent((ushort)wish, UsedPosition, passed, QueueSize);
            default:
                // ENABLE. DESC right after a start, when nobody knows what the driver last heard of. And what a driver must not write, DESC
                // without EVENT_IDX and the reserved 3: a call too many is allowed, a call too few would hang the guest.
                return true;
        }
    }

    /// <inheritdoc/>
    public override void SuppressKicks()
    {
        if (!_kicksSuppressed)
        {
            _kicksSuppressed = true;
            WriteDeviceEvent(0, PackedRingLayout.RING_EVENT_FLAGS_DISABLE);
        }
    }

    /// <inheritdoc/>
    public override bool RequestKicks()
    {
        _kicksSuppressed = false;
        if (EventIndexNegotiated)
        {
            WriteDeviceEvent(AvailablePosition, PackedRingLayout.RING_EVENT_FLAGS_DESC);
        }
        else
        {
            WriteDeviceEvent(0, PackedRingLayout.RING_EVENT_FLAGS_ENABLE);
        }

        // StoreLoad: our wish before the re-read of the descriptor's flags, against the driver that writes those flags and then reads our wish.
        Interlocked.MemoryBarrier();
        return RingHasAvailable;
    }

    /// <inheritdoc/>
    public override DriverEventFault CheckDriverEvent()
    {
        uint wish = Volatile.Read(ref *(uint*)_driverEvent);
        return ((ushort)(wish >> 16) & PackedRingLayout.EventFlagsMask) switch
        {
            PackedRingLayout.RING_EVENT_FLAGS_ENABLE or PackedRingLayout.RING_EVENT_FLAGS_DISABLE => DriverEventFault.None,
            PackedRingLayout.RING_EVENT_FLAGS_DESC => EventIndexNegotiated ? DriverEventFault.None : DriverEventFault.DescriptorWithoutEventIndex,
            _ => DriverEventFault.ReservedFlags,
        };
    }

    private protected override void SetAddresses(RingAddresses addresses)
    {
        Debug.Assert(_firstOfBatch == null, "A batch for the old ring was not published.");
        _ring = (byte*)addresses.DescriptorArea;
        _driverEvent = (byte*)addresses.DriverArea;
        _deviceEvent = (byte*)addresses.DeviceArea;
    }

    private protected override PopOutcome TakeRecovered(ushort slot, out DescriptorChain chain)
    {
        // The ring may have been overwritten: what the predecessor saved is what counts.
        SavedDescriptor[] saved = Array.Find(_record!.Recovered.ToArray(), recovered => recovered.Slot == slot)!.Descriptors;
        var descriptors = new PackedDescriptor[saved.Length];
        for (int i = 0; i < saved.Length; i++)
        {
            descriptors[i] = new PackedDescriptor
            {
                Address = saved[i].Address,
                LengthBytes = saved[i].LengthBytes,
                Id = saved[i].Id,
                Flags = saved[i].Flags,
            };
        }

        fixed (PackedDescriptor* list = descriptors)
        {
            ChainWalker walker = BeginWalk(slot);
            WalkOutcome walk = walker.WalkRing(
                (byte*)list, 0, (uint)QueueSize, (uint)descriptors.Length, record: null, out _, out _, out chain);
            return EndWalk(slot, walk, walker.Defect);
        }
    }

    private protected override void SetRingLog(DirtyLog? log, ulong? usedRingAddress, GuestMemory memory)
    {
        _ringLog = log != null && usedRingAddress is { } address
            ? new PackedRingLog(log, address, memory, (nint)_ring, (nint)_deviceEvent, QueueSize)
            : null;
        if (_record is { WroteRing: true })
        {
            // At the start, before anything else was written: what the recovery took back.
            _ringLog?.MarkRing();
        }
    }

    private protected override void ReturnAll(ReadOnlySpan<ReturnedChain> chains)
    {
        foreach (ref readonly ReturnedChain chain in chains)
        {
            Release(chain.Slot);
            WriteUsed(chain.Slot, chain.WrittenBytes);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private protected override void WriteUsed(ushort slot, uint writtenBytes)
    {
        _record?.AddToBatch(slot);
        ChainEntry entry = _entryOfSlot[slot];
        _freeSlots[_freeSlotCount++] = slot;
        byte* descriptor = DescriptorAt(_nextUsed);
        *(uint*)(descriptor + PackedRingLayout.LengthOffset) = writtenBytes;
        *(ushort*)(descriptor + PackedRingLayout.IdOffset) = entry.Id;
        // The length is valid only with WRITE, and WRITE stands there only if something was written.
        ushort flags = (ushort)(_usedFlags | (writtenBytes > 0 ? (uint)DescriptorFlags.VIRTQ_DESC_F_WRITE : 0));
        if (_firstOfBatch == null)
        {
            // Its flags come last, in PublishUsed: until then the driver looks no further than here.
            _firstOfBatch = descriptor;
            _firstOfBatchFlags = flags;
        }
        else
        {
            *(ushort*)(descriptor + PackedRingLayout.FlagsOffset) = flags;
            _ringLog?.MarkDescriptor((ushort)_nextUsed);
        }

        _entriesInBatch += entry.Entries;
        _entriesInFlight -= entry.Entries;
        Advance(ref _nextUsed, ref _usedFlags, entry.Entries);
    }

    private static VirtqueueSetup Checked(VirtqueueSetup setup)
    {
        if (setup.QueueSize < 0 || !PackedRingLayout.IsValidQueueSize((uint)setup.QueueSize))
        {
            throw new ArgumentException($"The size of a packed virtqueue is 1 to 32768, not {setup.QueueSize}.", nameof(setup));
        }

        if (OffsetOf(setup.Position.NextAvailable) >= setup.QueueSize || OffsetOf(setup.Position.NextUsed) >= setup.QueueSize)
        {
            throw new ArgumentException($"A packed virtqueue of {setup.QueueSize} entries has no {setup.Position}.", nameof(setup));
        }

        if (EntriesBetween(setup.Position.NextUsed, setup.Position.NextAvailable, setup.QueueSize) > (uint)setup.QueueSize)
        {
            throw new ArgumentException($"{setup.Position} has more in flight than the {setup.QueueSize} entries of the virtqueue.", nameof(setup));
        }

        return setup;
    }

    // From the used to the available position, on a line of two laps.
    private static uint EntriesBetween(ushort used, ushort available, int queueSize)
    {
        int distance = (int)OffsetOf(available) - (int)OffsetOf(used) + (((used ^ available) & PackedRingLayout.WrapBit) != 0 ? queueSize : 0);
        return (uint)(distance < 0 ? distance + (2 * queueSize) : distance);
    }

    private static uint OffsetOf(ushort position) => position & ~(uint)PackedRingLayout.WrapBit;

    private byte* DescriptorAt(uint offset) => _ring + (offset * PackedRingLayout.DescriptorBytes);

    // Entries are at most as many as the ring has, so that one subtraction is enough.
    private void Advance(ref uint offset, ref ushort wrapFlags, uint entries)
    {
        offset += entries;
        if (offset >= (uint)QueueSize)
        {
            offset -= (uint)QueueSize;
            wrapFlags ^= AvailableAndUsed;
        }
    }

    // Both halves in one store, so that a driver never reads an old offset with new flags. Flags in the upper half: little-endian.
    private void WriteDeviceEvent(ushort position, ushort flags)
    {
        Volatile.Write(ref *(uint*)_deviceEvent, position | ((uint)flags << 16));
        _ringLog?.MarkDeviceEvent();
    }

    // The slots of a predecessor's chains; their first turn comes before anything in the ring.
    private HashSet<ushort> RecoverChains()
    {
        if (_record == null)
        {
            return [];
        }

        foreach (RecoveredChain chain in _record.Recovered)
        {
            _entryOfSlot[chain.Slot] = new ChainEntry { Id = chain.BufferId, Entries = (ushort)chain.Descriptors.Length };
        }

        ushort[] slots = [.. _record.Recovered.ToArray().Select(chain => chain.Slot)];
        Recover(slots);
        return [.. slots];
    }

    // User Mode Linux sends base 0, as for a split ring, and means a new ring, whose wrap counters are 1. From who knows packed rings, 0 is
    // the end of a lap whose wrap counter was 1. The last chain of that lap ended with the ring and had at most as many entries, so it began in
    // that lap too. Where it began a device has set USED, and what the driver writes in the lap after has USED set as well; in a new ring no
    // descriptor has, made available or not (VIRTIO 1.4, "Packed Virtqueues", "Driver and Device Ring Wrap Counters"). The first
    // descriptor alone says nothing: it may lie within a chain that began in the lap before, and keep what the driver wrote.
    private bool IsNewRing()
    {
        for (uint i = 0; i < (uint)QueueSize; i++)
        {
            if ((Volatile.Read(ref *(ushort*)(DescriptorAt(i) + PackedRingLayout.FlagsOffset)) & PackedRingLayout.VIRTQ_DESC_F_USED) != 0)
            {
                return false;
            }
        }

        return true;
    }

    private static PackedPosition AsPlace(ushort position) => new((ushort)OffsetOf(position), (position & PackedRingLayout.WrapBit) != 0);

    private static ushort AsPosition(PackedPosition place) => (ushort)(place.Offset | (place.Wrap ? PackedRingLayout.WrapBit : 0u));
}
