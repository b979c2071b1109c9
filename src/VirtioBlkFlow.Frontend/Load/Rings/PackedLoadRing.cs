using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.Frontend.Load.Rings;

/// <summary>The packed form. A chain's descriptors move around the ring with every request; the buffer id is the slot.</summary>
internal unsafe struct PackedLoadRing : ILoadRing
{
    // Fixed at construction.
    private readonly RawPackedRing _raw;
    private readonly LoadRingLayout _layout;
    private readonly int _queueSize;
    private readonly bool _usesEventIndex;

    // Owned by the queue's thread. The descriptors of each slot as they go into the ring, but for the wrap bits; and how many there are.
    private readonly PackedSlot[] _chains;
    private readonly int[] _chainLengths;
    private int _nextAvailable;
    private bool _availableWrap = true;
    private int _nextUsed;
    private bool _usedWrap = true;

    // The first descriptor since the last publish: its flags are written last, so that the device sees all or nothing.
    private int _heldPlace = -1;
    private ushort _heldFlags;
    private int _addedDescriptors;

    /// <summary>Takes over a ring that nobody has used.</summary>
    public PackedLoadRing(RawPackedRing raw, LoadRingLayout layout)
    {
        _raw = raw;
        _layout = layout;
        _queueSize = layout.QueueSize;
        _usesEventIndex = layout.UsesEventIndex;
        _chains = new PackedSlot[layout.Depth * layout.DescriptorsPerSlot];
        _chainLengths = new int[layout.Depth];
    }

    public readonly bool HasUsed
    {
        get
        {
            int bits = _raw.ReadFlags(_nextUsed) & RawPackedRing.AvailableAndUsed;
            return bits == (_usedWrap ? RawPackedRing.AvailableAndUsed : 0);
        }
    }

    public readonly bool CallsLapse => false;

    public readonly void SetChain(int slot, ReadOnlySpan<DriverBuffer> chain)
    {
        if (!_layout.IsIndirect)
        {
            for (int i = 0; i < chain.Length; i++)
            {
                ushort next = i + 1 < chain.Length ? RawPackedRing.VIRTQ_DESC_F_NEXT : (ushort)0;
                _chains[(slot * _layout.ChainLength) + i] = Describe(in chain[i], (ushort)slot, next);
            }

            _chainLengths[slot] = chain.Length;
            return;
        }

        int offset = slot * _layout.TableStride;
        byte* table = (byte*)_layout.TableHost + offset;
        for (int i = 0; i < chain.Length; i++)
        {
            RawPackedRing.WriteSlot(table + (i * RawPackedRing.SlotBytes), Describe(in chain[i], 0, 0));
        }

        _chains[slot] = new PackedSlot(
            _layout.TableAddress + (ulong)offset, (uint)(chain.Length * RawPackedRing.SlotBytes), (ushort)slot, RawPackedRing.VIRTQ_DESC_F_INDIRECT);
        _chainLengths[slot] = 1;
    }

    public void Add(int slot)
    {
        int first = slot * _layout.DescriptorsPerSlot;
        int count = _chainLengths[slot];
        for (int i = 0; i < count; i++)
        {
            PackedSlot descriptor = _chains[first + i];
            ushort flags = (ushort)(descriptor.Flags | (_availableWrap ? RawPackedRing.VIRTQ_DESC_F_AVAIL : RawPackedRing.VIRTQ_DESC_F_USED));
            _raw.WriteAllButFlags(_nextAvailable, in descriptor);
            if (_heldPlace < 0)
            {
                _heldPlace = _nextAvailable;
                _heldFlags = flags;
            }
            else
            {
                _raw.WriteFlags(_nextAvailable, flags);
            }

            if (++_nextAvailable == _queueSize)
            {
                _nextAvailable = 0;
                _availableWrap = !_availableWrap;
            }
        }

        _addedDescriptors += count;
    }

    public bool Publish()
    {
        if (_heldPlace < 0)
        {
            return false;
        }

        _raw.WriteFlags(_heldPlace, _heldFlags);
        int passed = _addedDescriptors;
        _heldPlace = -1;
        _addedDescriptors = 0;
        // Orders our store of the flags before the load of what the device asks for: it stores that and then loads the flags.
        Interlocked.MemoryBarrier();
        uint wish = _raw.DeviceEvent;
        ushort position = (ushort)(_nextAvailable | (_availableWrap ? PackedRingLayout.WrapBit : 0));
        return ((wish >> 16) & PackedRingLayout.EventFlagsMask) switch
        {
            RawPackedRing.RING_EVENT_FLAGS_DISABLE => false,
            RawPackedRing.RING_EVENT_FLAGS_DESC when _usesEventIndex => PackedRingLayout.NeedEvent((ushort)wish, position, passed, _queueSize),
            _ => true,
        };
    }

    public bool TryTake(out uint slot, out uint writtenBytes)
    {
        if (!HasUsed)
        {
            slot = writtenBytes = 0;
            return false;
        }

        PackedSlot used = _raw.ReadSlot(_nextUsed);
        slot = used.Id;
        writtenBytes = used.LengthBytes;
        // A slot that cannot be is the caller's complaint, and the end of the ring.
        _nextUsed += slot < (uint)_chainLengths.Length ? _chainLengths[slot] : 1;
        if (_nextUsed >= _queueSize)
        {
            _nextUsed -= _queueSize;
            _usedWrap = !_usedWrap;
        }

        return true;
    }

    public readonly void SuppressCalls() => _raw.DriverEvent = RawPackedRing.Event(RawPackedRing.RING_EVENT_FLAGS_DISABLE);

    public readonly bool RequestCalls()
    {
        _raw.DriverEvent = _usesEventIndex
            ? RawPackedRing.Event(RawPackedRing.RING_EVENT_FLAGS_DESC, _nextUsed, _usedWrap)
            : RawPackedRing.Event(RawPackedRing.RING_EVENT_FLAGS_ENABLE);
        // Orders the wish before the last look: the device stores its flags and then loads the wish.
        Interlocked.MemoryBarrier();
        return HasUsed;
    }

    private static PackedSlot Describe(in DriverBuffer buffer, ushort id, ushort flags) => new(
        buffer.GuestAddress, buffer.LengthBytes, id, (ushort)(flags | (buffer.DeviceWritable ? RawPackedRing.VIRTQ_DESC_F_WRITE : 0)));
}
