using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.UnitTests.Frontend;

/// <summary>The same of a split virtqueue (VIRTIO 1.4, "Split Virtqueues"), without the product's device side.</summary>
internal sealed unsafe class SplitModelDevice(SharedMemory memory, SplitDriverRing ring, bool eventIndex) : IModelDevice
{
    private readonly byte* _available = (byte*)ring.HostAddresses.DriverArea;
    private readonly byte* _used = (byte*)ring.HostAddresses.DeviceArea;

    // A device that begins goes on after what is used.
    private ushort _nextAvailable = ring.Raw.UsedIndex;
    private ushort _usedIndex = ring.Raw.UsedIndex;

    public bool TryPop(out ModelChain chain)
    {
        chain = null!;
        if (ring.Raw.AvailableIndex == _nextAvailable)
        {
            return false;
        }

        ushort head = *(ushort*)(_available + 4 + (2 * (_nextAvailable++ % ring.QueueSize)));
        var buffers = new List<DriverBuffer>();
        Walk(ring.Raw.ReadDescriptor, head, buffers);
        chain = new ModelChain(head, 1, buffers);
        return true;
    }

    public bool Use(params ReadOnlySpan<(ModelChain Chain, uint WrittenBytes)> batch)
    {
        ushort before = _usedIndex;
        foreach ((ModelChain chain, uint writtenBytes) in batch)
        {
            WriteElement(_usedIndex++, chain.Id, writtenBytes);
        }

        return Publish(before);
    }

    /// <summary>IN_ORDER: one used element, with the head of the last chain, for all of them.</summary>
    public void UseAsOne(IReadOnlyList<ModelChain> batch, uint writtenBytes)
    {
        ushort before = _usedIndex;
        WriteElement(before, batch[^1].Id, writtenBytes);
        _usedIndex += (ushort)batch.Count;
        Publish(before);
    }

    public void SuppressKicks() => ring.Raw.UsedFlags = eventIndex ? (ushort)0 : (ushort)1;

    public bool RequestKicks()
    {
        if (eventIndex)
        {
            ring.Raw.AvailableEvent = _nextAvailable;
        }
        else
        {
            ring.Raw.UsedFlags = 0;
        }

        Interlocked.MemoryBarrier();
        return ring.Raw.AvailableIndex != _nextAvailable;
    }

    public IModelDevice Successor(IEnumerable<ModelChain> inFlight)
    {
        var next = new SplitModelDevice(memory, ring, eventIndex);
        next._nextAvailable += (ushort)inFlight.Count();
        return next;
    }

    private void Walk(Func<int, Descriptor> read, int index, List<DriverBuffer> buffers)
    {
        while (true)
        {
            Descriptor descriptor = read(index);
            if (descriptor.Flags.HasFlag(DescriptorFlags.VIRTQ_DESC_F_INDIRECT))
            {
                Descriptor ReadEntry(int entry) => *(Descriptor*)memory.Host(descriptor.Address + ((ulong)entry * 16), 16);
                Walk(ReadEntry, 0, buffers);
                return;
            }

            buffers.Add(new DriverBuffer(descriptor.Address, descriptor.LengthBytes, descriptor.Flags.HasFlag(DescriptorFlags.VIRTQ_DESC_F_WRITE)));
            if (!descriptor.Flags.HasFlag(DescriptorFlags.VIRTQ_DESC_F_NEXT))
            {
                return;
            }

            index = descriptor.Next;
        }
    }

    private void WriteElement(ushort index, uint id, uint lengthBytes)
    {
        uint* element = (uint*)(_used + 4 + (8 * (index % ring.QueueSize)));
        (element[0], element[1]) = (id, lengthBytes);
    }

    private bool Publish(ushort before)
    {
        ring.Raw.UsedIndex = _usedIndex;
        Interlocked.MemoryBarrier();
        if (!eventIndex)
        {
            return ring.Raw.AvailableFlags != 1;
        }

        bool passed = false;
        for (ushort index = before; index != _usedIndex; index++)
        {
            passed |= index == ring.Raw.UsedEvent;
        }

        return passed;
    }
}
