using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.Frontend.Load.Rings;

/// <summary>
/// The split form: a slot's descriptors are always the same ones, so that a request that repeats the shape of the one before costs one entry
/// of the available ring.
/// </summary>
internal unsafe struct SplitLoadRing : ILoadRing
{
    // Fixed at construction.
    private readonly RawSplitRing _raw;
    private readonly LoadRingLayout _layout;
    private readonly int _stride;
    private readonly bool _usesEventIndex;

    // Owned by the queue's thread.
    private ushort _availableIndex;
    private ushort _publishedIndex;
    private ushort _usedIndex;
    private ushort _usedLimit;

    /// <summary>Takes over a ring that nobody has used.</summary>
    public SplitLoadRing(RawSplitRing raw, LoadRingLayout layout)
    {
        _raw = raw;
        _layout = layout;
        _stride = layout.DescriptorsPerSlot;
        _usesEventIndex = layout.UsesEventIndex;
    }

    public readonly bool HasUsed => _usedIndex != _usedLimit || _raw.UsedIndex != _usedIndex;

    public readonly bool CallsLapse => _usesEventIndex;

    public readonly void SetChain(int slot, ReadOnlySpan<DriverBuffer> chain)
    {
        int first = slot * _stride;
        if (!_layout.IsIndirect)
        {
            for (int i = 0; i < chain.Length; i++)
            {
                _raw.WriteDescriptor(first + i, Describe(in chain[i], i + 1 < chain.Length, first + i + 1));
            }

            return;
        }

        int offset = slot * _layout.TableStride;
        byte* table = (byte*)_layout.TableHost + offset;
        for (int i = 0; i < chain.Length; i++)
        {
            RawSplitRing.WriteDescriptor(
                table + (i * SplitRingLayout.DescriptorBytes), Describe(in chain[i], i + 1 < chain.Length, i + 1));
        }

        _raw.WriteDescriptor(first, new Descriptor
        {
            Address = _layout.TableAddress + (ulong)offset,
            LengthBytes = (uint)(chain.Length * SplitRingLayout.DescriptorBytes),
            Flags = DescriptorFlags.VIRTQ_DESC_F_INDIRECT,
        });
    }

    public void Add(int slot) => _raw.WriteAvailableEntry(_availableIndex++, (ushort)(slot * _stride));

    public bool Publish()
    {
        ushort old = _publishedIndex;
        if (old == _availableIndex)
        {
            return false;
        }

        _publishedIndex = _availableIndex;
        _raw.AvailableIndex = _availableIndex;
        // Orders our store of the index before the load of what the device asks for: it stores that and then loads the index.
        Interlocked.MemoryBarrier();
        return _usesEventIndex
            ? SplitRingLayout.NeedEvent(_raw.AvailableEvent, _availableIndex, old)
            : (_raw.UsedFlags & SplitRingLayout.VIRTQ_USED_F_NO_NOTIFY) == 0;
    }

    public bool TryTake(out uint slot, out uint writtenBytes)
    {
        if (_usedIndex == _usedLimit)
        {
            _usedLimit = _raw.UsedIndex;
            if (_usedIndex == _usedLimit)
            {
                slot = writtenBytes = 0;
                return false;
            }
        }

        (uint head, writtenBytes) = _raw.ReadUsedElement(_usedIndex++);
        slot = _stride == 1 ? head : SlotOf(head);
        return true;
    }

    public void SuppressCalls()
    {
        if (_usesEventIndex)
        {
            // An index already passed. It lapses when the index has gone round: one call in 65536 chains, at most.
            _raw.UsedEvent = (ushort)(_usedIndex - 1);
        }
        else
        {
            _raw.AvailableFlags = SplitRingLayout.VIRTQ_AVAIL_F_NO_INTERRUPT;
        }
    }

    public bool RequestCalls()
    {
        if (_usesEventIndex)
        {
            _raw.UsedEvent = _usedIndex;
        }
        else
        {
            _raw.AvailableFlags = 0;
        }

        // Orders the wish before the last look: the device stores its index and then loads the wish.
        Interlocked.MemoryBarrier();
        return HasUsed;
    }

    // A head in the middle of a chain is a broken device's; it is told by a slot that cannot be.
    private readonly uint SlotOf(uint head)
    {
        (uint slot, uint rest) = Math.DivRem(head, (uint)_stride);
        return rest == 0 ? slot : uint.MaxValue;
    }

    private static Descriptor Describe(in DriverBuffer buffer, bool hasNext, int next) => new()
    {
        Address = buffer.GuestAddress,
        LengthBytes = buffer.LengthBytes,
        Flags = (buffer.DeviceWritable ? DescriptorFlags.VIRTQ_DESC_F_WRITE : 0) | (hasNext ? DescriptorFlags.VIRTQ_DESC_F_NEXT : 0),
        Next = hasNext ? (ushort)next : (ushort)0,
    };
}
