using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Ring;

namespace VirtioBlkFlow.UnitTests.Frontend;

/// <summary>
/// The device side of a packed virtqueue in the plainest words of the specification (VIRTIO 1.4, "Packed Virtqueues"): it trusts the driver,
/// allocates, and is slow. It is what the driver's ring is checked against, and shares no line with it but the raw words.
/// </summary>
internal sealed class PackedModelDevice(SharedMemory memory, RawPackedRing ring, bool eventIndex, int offset = 0, bool wrap = true)
    : IModelDevice
{
    private int _nextAvailable = offset;
    private bool _availableWrap = wrap;
    private int _usedOffset = offset;
    private bool _usedWrap = wrap;
    private int _usedSinceDecision;

    public int NextAvailable => _nextAvailable;

    public bool AvailableWrap => _availableWrap;

    /// <summary>Where the next used descriptor goes.</summary>
    public int UsedOffset => _usedOffset;

    public bool UsedWrap => _usedWrap;

    /// <summary>What a next incarnation goes on from, with some chains fetched and not used.</summary>
    public IModelDevice Successor(IEnumerable<ModelChain> inFlight)
    {
        var next = new PackedModelDevice(memory, ring, eventIndex, _usedOffset, _usedWrap);
        (next._nextAvailable, next._availableWrap) = (_usedOffset, _usedWrap);
        foreach (ModelChain chain in inFlight)
        {
            Advance(ref next._nextAvailable, ref next._availableWrap, chain.Slots);
        }

        return next;
    }

    public bool TryPop(out ModelChain chain)
    {
        chain = null!;
        if (!IsAvailable())
        {
            return false;
        }

        var buffers = new List<DriverBuffer>();
        int slots = 0;
        PackedSlot slot;
        do
        {
            slot = ring.ReadSlot(_nextAvailable);
            Add(buffers, in slot);
            slots++;
            Advance(ref _nextAvailable, ref _availableWrap, 1);
        }
        while ((slot.Flags & RawPackedRing.VIRTQ_DESC_F_NEXT) != 0);

        chain = new ModelChain(slot.Id, slots, buffers);
        return true;
    }

    /// <summary>Uses chains as one batch: the first one's flags last, so that the driver sees all or none.</summary>
    /// <returns>Whether the driver wants a call.</returns>
    public bool Use(params ReadOnlySpan<(ModelChain Chain, uint WrittenBytes)> batch)
    {
        int first = _usedOffset;
        ushort firstFlags = 0;
        for (int i = 0; i < batch.Length; i++)
        {
            (ModelChain chain, uint writtenBytes) = batch[i];
            ushort flags = Flags(writtenBytes > 0);
            ring.WriteAllButFlags(_usedOffset, ring.ReadSlot(_usedOffset) with { Id = chain.Id, LengthBytes = writtenBytes });
            if (i == 0)
            {
                firstFlags = flags;
            }
            else
            {
                ring.WriteFlags(_usedOffset, flags);
            }

            AdvanceUsed(chain.Slots);
        }

        ring.WriteFlags(first, firstFlags);
        return NeedsCall();
    }

    /// <summary>IN_ORDER: one used descriptor, with the id of the last chain, for all of them.</summary>
    public void UseAsOne(IReadOnlyList<ModelChain> batch, uint writtenBytes)
    {
        int first = _usedOffset;
        ushort flags = Flags(writtenBytes > 0);
        ring.WriteAllButFlags(first, ring.ReadSlot(first) with { Id = batch[^1].Id, LengthBytes = writtenBytes });
        AdvanceUsed(batch.Sum(chain => chain.Slots));
        ring.WriteFlags(first, flags);
    }

    public void SuppressKicks() => ring.DeviceEvent = RawPackedRing.Event(RawPackedRing.RING_EVENT_FLAGS_DISABLE);

    /// <summary>Asks for a kick at the next slot to come.</summary>
    /// <returns>True when something came meanwhile.</returns>
    public bool RequestKicks()
    {
        ring.DeviceEvent = eventIndex
            ? RawPackedRing.Event(RawPackedRing.RING_EVENT_FLAGS_DESC, _nextAvailable, _availableWrap)
            : RawPackedRing.Event(RawPackedRing.RING_EVENT_FLAGS_ENABLE);
        Interlocked.MemoryBarrier();
        return IsAvailable();
    }

    private static void Advance(ref int offset, ref bool wrap, int slots, int size)
    {
        offset += slots;
        if (offset >= size)
        {
            offset -= size;
            wrap = !wrap;
        }
    }

    private void Advance(ref int offset, ref bool wrap, int slots) => Advance(ref offset, ref wrap, slots, ring.QueueSize);

    private bool IsAvailable()
    {
        ushort flags = ring.ReadFlags(_nextAvailable);
        bool available = (flags & RawPackedRing.VIRTQ_DESC_F_AVAIL) != 0;
        bool used = (flags & RawPackedRing.VIRTQ_DESC_F_USED) != 0;
        return available == _availableWrap && used != _availableWrap;
    }

    private unsafe void Add(List<DriverBuffer> buffers, in PackedSlot slot)
    {
        if ((slot.Flags & RawPackedRing.VIRTQ_DESC_F_INDIRECT) == 0)
        {
            buffers.Add(new DriverBuffer(slot.Address, slot.LengthBytes, (slot.Flags & RawPackedRing.VIRTQ_DESC_F_WRITE) != 0));
            return;
        }

        for (uint place = 0; place < slot.LengthBytes; place += 16)
        {
            byte* entry = memory.Host(slot.Address + place, 16);
            buffers.Add(new DriverBuffer(*(ulong*)entry, *(uint*)(entry + 8), (*(ushort*)(entry + 14) & 2) != 0));
        }
    }

    private ushort Flags(bool wrote) =>
        (ushort)((_usedWrap ? 0x8080 : 0) | (wrote ? RawPackedRing.VIRTQ_DESC_F_WRITE : 0));

    private void AdvanceUsed(int slots)
    {
        Advance(ref _usedOffset, ref _usedWrap, slots);
        _usedSinceDecision += slots;
    }

    // By walking from slot to slot over what was used since the last decision: no arithmetic on wrap-around.
    private bool NeedsCall()
    {
        Interlocked.MemoryBarrier();
        uint wish = ring.DriverEvent;
        int walked = Math.Min(_usedSinceDecision, ring.QueueSize);
        _usedSinceDecision = 0;
        if (wish >> 16 != RawPackedRing.RING_EVENT_FLAGS_DESC)
        {
            return wish >> 16 == RawPackedRing.RING_EVENT_FLAGS_ENABLE;
        }

        int offset = _usedOffset;
        bool wrap = _usedWrap;
        for (; walked > 0; walked--)
        {
            if (offset == 0)
            {
                offset = ring.QueueSize;
                wrap = !wrap;
            }

            offset--;
            if (offset == (int)(wish & 0x7fff) && wrap == ((wish & 0x8000) != 0))
            {
                return true;
            }
        }

        return false;
    }
}
