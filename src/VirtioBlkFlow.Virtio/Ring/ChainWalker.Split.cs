using System.Runtime.Intrinsics;

namespace VirtioBlkFlow.Virtio.Ring;

/// <content>Chains of a split ring: linked by index.</content>
internal unsafe ref partial struct ChainWalker
{
    /// <summary>Walks the chain that starts at a head in the descriptor table.</summary>
    public WalkOutcome WalkTable(byte* table, ushort head, uint tableSize, out DescriptorChain chain)
    {
        WalkOutcome outcome = WalkMain(table, head, tableSize);
        Describe(out chain);
        return outcome;
    }

    private WalkOutcome WalkMain(byte* table, uint head, uint tableSize)
    {
        uint index = head;
        uint steps = 0;
        while (true)
        {
            Descriptor descriptor = AsDescriptor(CopyOnce(table + (index * SplitRingLayout.DescriptorBytes)));
            if ((descriptor.Flags & DescriptorFlags.VIRTQ_DESC_F_INDIRECT) != 0)
            {
                return WalkIndirect(descriptor, tableSize);
            }

            WalkOutcome outcome = Add(descriptor.Address, descriptor.LengthBytes, (descriptor.Flags & DescriptorFlags.VIRTQ_DESC_F_WRITE) != 0);
            if (outcome != WalkOutcome.Complete || (descriptor.Flags & DescriptorFlags.VIRTQ_DESC_F_NEXT) == 0)
            {
                return outcome;
            }

            // A chain cannot have more links than its table has entries: one more is a loop.
            if (++steps == tableSize)
            {
                return Break(RingDefect.ChainLoops);
            }

            index = descriptor.Next;
            if (index >= tableSize)
            {
                return Break(RingDefect.NextOutOfRange);
            }
        }
    }

    // VIRTIO 1.4, "Indirect Descriptors". The WRITE flag of the descriptor that points here is ignored, as it must be.
    private WalkOutcome WalkIndirect(Descriptor reference, uint queueSize)
    {
        if ((reference.Flags & DescriptorFlags.VIRTQ_DESC_F_NEXT) != 0)
        {
            return Break(RingDefect.IndirectWithNext);
        }

        if (!TryOpenTable(reference.Address, reference.LengthBytes, queueSize, out byte* table, out uint tableSize))
        {
            return WalkOutcome.Broken;
        }

        uint index = 0;
        uint steps = 0;
        while (true)
        {
            if (!TryCopyFromTable(table, reference.Address, index, out Vector128<ulong> copy))
            {
                return Break(RingDefect.IndirectTableUnmapped);
            }

            Descriptor descriptor = AsDescriptor(copy);
            if ((descriptor.Flags & DescriptorFlags.VIRTQ_DESC_F_INDIRECT) != 0)
            {
                return Break(RingDefect.IndirectNested);
            }

            WalkOutcome outcome = Add(descriptor.Address, descriptor.LengthBytes, (descriptor.Flags & DescriptorFlags.VIRTQ_DESC_F_WRITE) != 0);
            if (outcome != WalkOutcome.Complete || (descriptor.Flags & DescriptorFlags.VIRTQ_DESC_F_NEXT) == 0)
            {
                return outcome;
            }

            if (++steps == tableSize)
            {
                return Break(RingDefect.ChainLoops);
            }

            index = descriptor.Next;
            if (index >= tableSize)
            {
                return Break(RingDefect.NextOutOfRange);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Descriptor AsDescriptor(Vector128<ulong> words)
    {
        ulong second = words.GetElement(1);
        return new Descriptor
        {
            Address = words.GetElement(0),
            LengthBytes = (uint)second,
            Flags = (DescriptorFlags)(ushort)(second >> 32),
            Next = (ushort)(second >> 48),
        };
    }
}
