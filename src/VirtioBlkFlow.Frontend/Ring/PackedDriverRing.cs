using System.Diagnostics;
using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Virtio;

namespace VirtioBlkFlow.Frontend.Ring;

/// <summary>
/// The driver side of a packed virtqueue (VIRTIO 1.4, "Packed Virtqueues"). Owned by one thread. Nothing is allocated after construction.
/// </summary>
/// <remarks>
/// It keeps a copy of what each slot must hold, and compares: the device may write one slot for each chain, in the order of the ring, and
/// nothing else.
/// </remarks>
[DebuggerDisplay("size {QueueSize}, avail {_nextAvailable} {_availableWrap}, used {_nextUsed} {_usedWrap}, in flight {InFlightCount}")]
public sealed unsafe class PackedDriverRing : DriverRing
{
    private const int None = -1;

    // Fixed at construction.
    private readonly ulong _indirectTables;
    private readonly byte* _indirectTablesHost;
    private readonly ushort[] _idOfHead;

    // Owned by the driver's thread: what the slots must hold, and what is known of each chain, by its head.
    private readonly PackedSlot[] _expected;
    private readonly bool[] _isUncertain;
    private readonly Chain[] _chains;
    private readonly int[] _headOfId;
    private readonly ushort[] _freeHeads;
    private int _freeHeadCount;

    // Heads in the order they were added: a ring of its own.
    private readonly ushort[] _order;
    private int _orderFirst;
    private int _orderCount;

    private int _nextAvailable;
    private bool _availableWrap;
    private int _nextUsed;
    private bool _usedWrap;
    private int _addedSinceLastDecision;

    // The first slot added since the last publish: its flags are held back.
    private int _heldSlot = None;
    private ushort _heldSlotFlagsBefore;

    // IN_ORDER: chains left of a batch told of by one used descriptor.
    private int _batchLeft;
    private uint _batchLastLengthBytes;

    /// <summary>Places a ring in guest memory.</summary>
    /// <param name="memory">Where to.</param>
    /// <param name="queueSize">Slots: 1 to 32768.</param>
    /// <param name="features">What was negotiated.</param>
    /// <param name="options">What the driver does of its own will.</param>
    public PackedDriverRing(SharedMemory memory, int queueSize, VirtioFeatures features, DriverRingOptions? options = null)
        : base(queueSize, features, options ??= new DriverRingOptions())
    {
        ArgumentNullException.ThrowIfNull(memory);
        if (queueSize is < 1 or > RawPackedRing.MaxQueueSize)
        {
            throw new ArgumentOutOfRangeException(nameof(queueSize), queueSize, "The size of a packed virtqueue is 1 to 32768.");
        }

        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)options.StartOffset, (uint)queueSize, nameof(options));
        DescriptorAreaAddress = Place(memory, queueSize * RawPackedRing.SlotBytes, RawPackedRing.SlotBytes, out byte* slots);
        DriverAreaAddress = Place(memory, RawPackedRing.EventBytes, RawPackedRing.EventBytes, out byte* driverEvent);
        DeviceAreaAddress = Place(memory, RawPackedRing.EventBytes, RawPackedRing.EventBytes, out byte* deviceEvent);
        Places = new PackedRingPlaces((nint)slots, (nint)driverEvent, (nint)deviceEvent);
        Raw = new RawPackedRing(queueSize, Places);
        if (IndirectEntries > 0)
        {
            _indirectTables = Place(memory, checked(IndirectEntries * queueSize * RawPackedRing.SlotBytes), RawPackedRing.SlotBytes, out _indirectTablesHost);
        }

        _nextAvailable = _nextUsed = options.StartOffset;
        _availableWrap = _usedWrap = options.StartWrap;
        _expected = new PackedSlot[queueSize];
        _isUncertain = new bool[queueSize];
        for (int i = 0; i < queueSize; i++)
        {
            // As the laps before have left it: used, with the wrap counter of the lap that passed this slot last.
            bool wrap = i < options.StartOffset ? options.StartWrap : !options.StartWrap;
            _expected[i] = new PackedSlot(0, 0, 0, wrap ? RawPackedRing.AvailableAndUsed : (ushort)0);
            Raw.WriteSlot(i, in _expected[i]);
        }

        _idOfHead = MakeIds(queueSize, options);
        _headOfId = new int[ushort.MaxValue + 1];
        Array.Fill(_headOfId, None);
        for (int head = 0; head < queueSize; head++)
        {
            _headOfId[_idOfHead[head]] = head;
        }

        _chains = new Chain[queueSize];
        _order = new ushort[queueSize];
        _freeHeads = new ushort[queueSize];
        for (int i = 0; i < queueSize; i++)
        {
            _freeHeads[i] = (ushort)(queueSize - 1 - i);
        }

        _freeHeadCount = queueSize;
    }

    /// <inheritdoc/>
    public override ulong DescriptorAreaAddress { get; }

    /// <inheritdoc/>
    public override ulong DriverAreaAddress { get; }

    /// <inheritdoc/>
    public override ulong DeviceAreaAddress { get; }

    /// <summary>Where the areas are in this process.</summary>
    public PackedRingPlaces Places { get; }

    /// <summary>The ring as bare words, for breaking it.</summary>
    public RawPackedRing Raw { get; }

    /// <summary>Slot the next chain begins in.</summary>
    public int NextAvailable => _nextAvailable;

    /// <summary>The driver's wrap counter.</summary>
    public bool AvailableWrap => _availableWrap;

    /// <summary>Slot of the next used descriptor to take.</summary>
    public int NextUsed => _nextUsed;

    /// <summary>The wrap counter it has.</summary>
    public bool UsedWrap => _usedWrap;

    /// <inheritdoc/>
    public override bool HasUsed => _batchLeft > 0 || IsUsed(_nextUsed, Raw.ReadFlags(_nextUsed));

    /// <inheritdoc/>
    public override uint Base => HalfBase(_nextAvailable, _availableWrap) | (HalfBase(_nextUsed, _usedWrap) << 16);

    /// <inheritdoc/>
    public override uint BaseAfterCrash => HalfBase(_nextUsed, _usedWrap) | (HalfBase(_nextUsed, _usedWrap) << 16);

    /// <summary>The id a chain has on the wire.</summary>
    public ushort IdOf(ushort head) => _idOfHead[head];

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">Both: a packed chain is all direct or one indirect table.</exception>
    public override bool TryAddMixed(ReadOnlySpan<DriverBuffer> direct, ReadOnlySpan<DriverBuffer> indirect, out ushort head)
    {
        if (!direct.IsEmpty && !indirect.IsEmpty)
        {
            throw new ArgumentException("A chain of a packed ring is all direct, or one indirect table.", nameof(indirect));
        }

        int needed = indirect.IsEmpty ? direct.Length : 1;
        ArgumentOutOfRangeException.ThrowIfZero(needed, nameof(direct));
        ArgumentOutOfRangeException.ThrowIfGreaterThan(indirect.Length, IndirectEntries, nameof(indirect));
        head = 0;
        if (needed > FreeDescriptorCount)
        {
            return false;
        }

        head = _freeHeads[--_freeHeadCount];
        ushort id = _idOfHead[head];
        ulong writableBytes = 0;
        if (indirect.IsEmpty)
        {
            for (int i = 0; i < direct.Length; i++)
            {
                ushort next = i < direct.Length - 1 ? RawPackedRing.VIRTQ_DESC_F_NEXT : (ushort)0;
                writableBytes += WritableBytes(in direct[i]);
                AddSlot(direct[i].GuestAddress, direct[i].LengthBytes, id, (ushort)(next | WriteFlag(in direct[i])));
            }
        }
        else
        {
            ulong table = WriteIndirectTable(head, indirect, out writableBytes);
            AddSlot(table, (uint)(indirect.Length * RawPackedRing.SlotBytes), id, RawPackedRing.VIRTQ_DESC_F_INDIRECT);
        }

        _chains[head] = new Chain(needed, writableBytes);
        FreeDescriptorCount -= needed;
        InFlightCount++;
        int last = _orderFirst + _orderCount++;
        _order[last < QueueSize ? last : last - QueueSize] = head;
        return true;
    }

    /// <inheritdoc/>
    /// <exception cref="DeviceBrokeRingException">The device's event suppression holds what it must not.</exception>
    public override bool Publish()
    {
        int added = _addedSinceLastDecision;
        _addedSinceLastDecision = 0;
        if (_heldSlot != None)
        {
            // The release makes all that was added visible at once: the device looks at no slot before this one.
            Raw.WriteFlags(_heldSlot, _expected[_heldSlot].Flags);
            _heldSlot = None;
        }

        // StoreLoad: the flags before the device's wish, against the device that writes its wish and then re-reads the flags. Without
        // it both could miss the other's store, and a kick would be lost.
        Interlocked.MemoryBarrier();
        uint wish = Raw.DeviceEvent;
        switch (wish >> 16)
        {
            case RawPackedRing.RING_EVENT_FLAGS_ENABLE:
                return true;
            case RawPackedRing.RING_EVENT_FLAGS_DISABLE:
                return false;
            case RawPackedRing.RING_EVENT_FLAGS_DESC when UsesEventIndex:
                int offset = (int)(wish & 0x7fff);
                if (offset >= QueueSize)
                {
                    throw new DeviceBrokeRingException($"The device asks for a kick at slot {offset} of {QueueSize}.");
                }

                // On one line: a slot of the lap before lies a whole ring back. Example: size 4, the driver goes from slot 3 to slot 1 with
                // two slots, and the event is slot 3 of the old lap. Then 3 - 4 = -1, and -1 was passed on the way from -1 to 1.
                bool wrap = (wish & 0x8000) != 0;
                int position = wrap == _availableWrap ? offset : offset - QueueSize;
                return position < _nextAvailable && position >= _nextAvailable - added;
            default:
                throw new DeviceBrokeRingException($"The device's event flags are {wish >> 16}, with EVENT_IDX {(UsesEventIndex ? "on" : "off")}.");
        }
    }

    /// <inheritdoc/>
    public override bool TryTakeUsed(out UsedChain used)
    {
        used = default;
        if (_batchLeft > 0)
        {
            bool isLast = --_batchLeft == 0;
            used = new UsedChain(_order[_orderFirst], isLast ? _batchLastLengthBytes : 0, WasSkipped: !isLast);
            Free(used.Head);
            return true;
        }

        int slot = _nextUsed;
        ushort flags = Raw.ReadFlags(slot);
        if (!IsUsed(slot, flags))
        {
            return false;
        }

        PackedSlot written = Raw.ReadSlot(slot);
        int head = CheckUsed(slot, flags, written.Id);
        uint lengthBytes = CheckLength(head, flags, written.LengthBytes);
        _expected[slot] = written with { Flags = flags };
        _isUncertain[slot] = false;
        if (IsInOrder && head != _order[_orderFirst])
        {
            return TakeFirstOfBatch(slot, head, lengthBytes, out used);
        }

        used = new UsedChain((ushort)head, lengthBytes);
        CheckUntouched(slot, _chains[head].Slots);
        Free((ushort)head);
        return true;
    }

    /// <inheritdoc/>
    public override void SuppressCalls() => Raw.DriverEvent = RawPackedRing.Event(RawPackedRing.RING_EVENT_FLAGS_DISABLE);

    /// <inheritdoc/>
    public override bool RequestCalls(ushort afterChains = 0)
    {
        if (UsesEventIndex)
        {
            int offset = _nextUsed + Math.Min((int)afterChains, QueueSize - 1);
            bool wraps = offset >= QueueSize;
            Raw.DriverEvent = RawPackedRing.Event(RawPackedRing.RING_EVENT_FLAGS_DESC, wraps ? offset - QueueSize : offset, _usedWrap ^ wraps);
        }
        else
        {
            Raw.DriverEvent = RawPackedRing.Event(RawPackedRing.RING_EVENT_FLAGS_ENABLE);
        }

        // StoreLoad: our wish before the re-read of the flags, against the device that writes flags and then reads our wish.
        Interlocked.MemoryBarrier();
        return HasUsed;
    }

    /// <inheritdoc/>
    public override void AfterCrash()
    {
        // All that the device may write: what is in flight. The flags of each still tell whether it is used.
        for (int slot = _nextUsed, left = QueueSize - FreeDescriptorCount; left > 0; left--)
        {
            _isUncertain[slot] = true;
            slot = slot + 1 == QueueSize ? 0 : slot + 1;
        }
    }

    /// <summary>
    /// Compares every slot with what it must hold. Only while the device rests and all it used was taken.
    /// </summary>
    /// <exception cref="DeviceBrokeRingException">The device wrote where it must not.</exception>
    public void VerifyUntouched() => CheckUntouched(_nextUsed == 0 ? QueueSize - 1 : _nextUsed - 1, QueueSize + 1);

    private static ulong WritableBytes(in DriverBuffer buffer) => buffer.DeviceWritable ? buffer.LengthBytes : 0ul;

    private static ushort WriteFlag(in DriverBuffer buffer) => buffer.DeviceWritable ? RawPackedRing.VIRTQ_DESC_F_WRITE : (ushort)0;

    private static uint HalfBase(int offset, bool wrap) => (uint)offset | (wrap ? 0x8000u : 0);

    private static ushort[] MakeIds(int queueSize, DriverRingOptions options)
    {
        int candidates = options.BufferIds == BufferIds.Arbitrary ? ushort.MaxValue + 1 : queueSize;
        ushort[] ids = new ushort[candidates];
        for (int i = 0; i < candidates; i++)
        {
            ids[i] = (ushort)i;
        }

        if (options.BufferIds != BufferIds.Ascending)
        {
            new Random(options.Seed).Shuffle(ids);
        }

        return ids[..queueSize];
    }

    private bool IsUsed(int slot, ushort flags) => _isUncertain[slot]
        ? (flags & RawPackedRing.AvailableAndUsed) == (_usedWrap ? RawPackedRing.AvailableAndUsed : 0)
        : flags != FlagsBeforeUse(slot);

    // The slot held back still has the flags that the lap before left there.
    private ushort FlagsBeforeUse(int slot) => slot == _heldSlot ? _heldSlotFlagsBefore : _expected[slot].Flags;

    private void AddSlot(ulong address, uint lengthBytes, ushort id, ushort flags)
    {
        int slot = _nextAvailable;
        flags |= _availableWrap ? RawPackedRing.VIRTQ_DESC_F_AVAIL : RawPackedRing.VIRTQ_DESC_F_USED;
        var value = new PackedSlot(address, lengthBytes, id, flags);
        if (_heldSlot == None)
        {
            _heldSlot = slot;
            _heldSlotFlagsBefore = _isUncertain[slot] ? Raw.ReadFlags(slot) : _expected[slot].Flags;
            Raw.WriteAllButFlags(slot, in value);
        }
        else
        {
            Raw.WriteSlot(slot, in value);
        }

        _expected[slot] = value;
        _isUncertain[slot] = false;
        _addedSinceLastDecision++;
        if (++_nextAvailable == QueueSize)
        {
            _nextAvailable = 0;
            _availableWrap = !_availableWrap;
        }
    }

    private ulong WriteIndirectTable(ushort head, ReadOnlySpan<DriverBuffer> chain, out ulong writableBytes)
    {
        ulong offset = (ulong)head * (ulong)IndirectEntries * RawPackedRing.SlotBytes;
        byte* place = _indirectTablesHost + offset;
        writableBytes = 0;
        foreach (ref readonly DriverBuffer buffer in chain)
        {
            // In the order of the table; only WRITE means something there.
            RawPackedRing.WriteSlot(place, new PackedSlot(buffer.GuestAddress, buffer.LengthBytes, 0, WriteFlag(in buffer)));
            writableBytes += WritableBytes(in buffer);
            place += RawPackedRing.SlotBytes;
        }

        return _indirectTables + offset;
    }

    private int CheckUsed(int slot, ushort flags, ushort id)
    {
        ushort due = _usedWrap ? RawPackedRing.AvailableAndUsed : (ushort)0;
        if ((flags & RawPackedRing.AvailableAndUsed) != due)
        {
            throw new DeviceBrokeRingException($"Used flags: slot {slot} went to flags 0x{flags:x4}, where AVAIL and USED must be {(_usedWrap ? 1 : 0)}.");
        }

        if ((flags & ~(RawPackedRing.AvailableAndUsed | RawPackedRing.VIRTQ_DESC_F_WRITE)) != 0)
        {
            throw new DeviceBrokeRingException($"Used flags: slot {slot} has flags 0x{flags:x4}, of which some are reserved in a used descriptor.");
        }

        int head = _headOfId[id];
        return head != None && _chains[head].Slots != 0
            ? head
            : throw new DeviceBrokeRingException($"Used id: slot {slot} returns buffer {id}, which is not in flight.");
    }

    private uint CheckLength(int head, ushort flags, uint lengthBytes)
    {
        if ((flags & RawPackedRing.VIRTQ_DESC_F_WRITE) == 0)
        {
            // Nothing was written, so the length means nothing.
            return 0;
        }

        ulong writableBytes = _chains[head].WritableBytes;
        return writableBytes != 0 && lengthBytes <= writableBytes
            ? lengthBytes
            : throw new DeviceBrokeRingException(
                $"Used length: buffer {_idOfHead[head]} came back with WRITE and {lengthBytes} bytes, of {writableBytes} that could be written.");
    }

    // The device writes the slot of the used descriptor only: those behind it, as many as the chain had, are skipped as they are.
    private void CheckUntouched(int slot, int count)
    {
        for (int i = 1; i < count; i++)
        {
            slot = slot + 1 == QueueSize ? 0 : slot + 1;
            if (Raw.ReadSlot(slot) != _expected[slot] && slot != _heldSlot && !_isUncertain[slot])
            {
                throw new DeviceBrokeRingException($"Used offset: slot {slot} should have been skipped, but holds {Raw.ReadSlot(slot)} instead of {_expected[slot]}.");
            }
        }
    }

    // One used descriptor, with the id of the batch's last chain, stands for all of them (VIRTIO 1.4, "In-order use of descriptors").
    private bool TakeFirstOfBatch(int slot, int last, uint lengthBytes, out UsedChain used)
    {
        if (!AcceptsInOrderBatches)
        {
            throw new DeviceBrokeRingException($"IN_ORDER: slot {slot} returns buffer {_idOfHead[last]} where {_idOfHead[_order[_orderFirst]]} was due.");
        }

        int count = 1;
        int slots = _chains[_order[_orderFirst]].Slots;
        for (int place = _orderFirst; _order[place] != last; count++)
        {
            place = place + 1 == QueueSize ? 0 : place + 1;
            slots += _chains[_order[place]].Slots;
        }

        CheckUntouched(slot, slots);
        _batchLeft = count - 1;
        _batchLastLengthBytes = lengthBytes;
        used = new UsedChain(_order[_orderFirst], 0, WasSkipped: true);
        Free(used.Head);
        return true;
    }

    private void Free(ushort head)
    {
        int slots = _chains[head].Slots;
        _chains[head] = default;
        _freeHeads[_freeHeadCount++] = head;
        FreeDescriptorCount += slots;
        InFlightCount--;
        _nextUsed += slots;
        if (_nextUsed >= QueueSize)
        {
            _nextUsed -= QueueSize;
            _usedWrap = !_usedWrap;
        }

        // Out of order the queue of heads is not read, but must not overflow.
        _orderFirst = _orderFirst + 1 == QueueSize ? 0 : _orderFirst + 1;
        _orderCount--;
    }

    // Slots 0: not in flight.
    private readonly record struct Chain(int Slots, ulong WritableBytes);
}
