using System.Runtime.Intrinsics;
using VirtioBlkFlow.Virtio.Inflight;

namespace VirtioBlkFlow.Virtio.Ring;

/// <content>Lists of a packed ring: descriptors one behind the other (VIRTIO 1.4, "Packed Virtqueues", "Descriptor Chaining").</content>
internal unsafe ref partial struct ChainWalker
{
    /// <summary>
    /// Walks the list that starts at an offset in the descriptor ring. The availability of its first descriptor vouches for the others: the
    /// driver writes its flags last.
    /// </summary>
    /// <param name="ring">The ring.</param>
    /// <param name="first">Offset of the first descriptor.</param>
    /// <param name="ringSize">Descriptors in the ring.</param>
    /// <param name="freeEntries">Descriptors of the ring that are not in flight: more cannot be available.</param>
    /// <param name="record">Where each descriptor is saved as it is read; null for nowhere. Whoever calls takes or abandons them.</param>
    /// <param name="id">The driver's number for the list.</param>
    /// <param name="entries">Descriptors of the ring it takes.</param>
    /// <param name="chain">What was found.</param>
    public WalkOutcome WalkRing(
        byte* ring, uint first, uint ringSize, uint freeEntries, PackedInflightRecord? record, out ushort id, out uint entries, out DescriptorChain chain)
    {
        WalkOutcome outcome = WalkList(ring, first, ringSize, freeEntries, record, out id, out entries);
        Describe(out chain);
        return outcome;
    }

    private WalkOutcome WalkList(
        byte* ring, uint first, uint ringSize, uint freeEntries, PackedInflightRecord? record, out ushort id, out uint entries)
    {
        uint offset = first;
        entries = 0;
        while (true)
        {
            PackedDescriptor descriptor = AsPackedDescriptor(CopyOnce(ring + (offset * PackedRingLayout.DescriptorBytes)));
            // Only the last one's counts, and that is the one the loop ends with.
            id = descriptor.Id;
            entries++;
            if (record != null && !record.TrySave(AsSaved(descriptor)))
            {
                return Break(RingDefect.DescriptorInFlight);
            }

            bool hasNext = (descriptor.Flags & (ushort)DescriptorFlags.VIRTQ_DESC_F_NEXT) != 0;
            if ((descriptor.Flags & (ushort)DescriptorFlags.VIRTQ_DESC_F_INDIRECT) != 0)
            {
                // A list is either a row of descriptors or one table.
                return hasNext || entries > 1 ? Break(RingDefect.IndirectWithNext) : WalkPackedTable(descriptor, ringSize);
            }

            WalkOutcome outcome = Add(
                descriptor.Address, descriptor.LengthBytes, (descriptor.Flags & (ushort)DescriptorFlags.VIRTQ_DESC_F_WRITE) != 0);
            if (outcome != WalkOutcome.Complete || !hasNext)
            {
                return outcome;
            }

            if (entries == freeEntries)
            {
                return Break(freeEntries == ringSize ? RingDefect.ChainLoops : RingDefect.DescriptorInFlight);
            }

            offset = offset + 1 == ringSize ? 0 : offset + 1;
        }
    }

    // VIRTIO 1.4, "Packed Virtqueues", "Indirect Flag: Scatter-Gather Support": all entries of the table, in the order they stand in; of their
    // flags only WRITE means anything. INDIRECT is forbidden there, and whoever sets it means something that we would not do.
    private WalkOutcome WalkPackedTable(PackedDescriptor reference, uint ringSize)
    {
        if (!TryOpenTable(reference.Address, reference.LengthBytes, ringSize, out byte* table, out uint tableSize))
        {
            return WalkOutcome.Broken;
        }

        for (uint index = 0; index < tableSize; index++)
        {
            if (!TryCopyFromTable(table, reference.Address, index, out Vector128<ulong> copy))
            {
                return Break(RingDefect.IndirectTableUnmapped);
            }

            PackedDescriptor descriptor = AsPackedDescriptor(copy);
            if ((descriptor.Flags & (ushort)DescriptorFlags.VIRTQ_DESC_F_INDIRECT) != 0)
            {
                return Break(RingDefect.IndirectNested);
            }

            WalkOutcome outcome = Add(
                descriptor.Address, descriptor.LengthBytes, (descriptor.Flags & (ushort)DescriptorFlags.VIRTQ_DESC_F_WRITE) != 0);
            if (outcome != WalkOutcome.Complete)
            {
                return outcome;
            }
        }

        return WalkOutcome.Complete;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static PackedDescriptor AsPackedDescriptor(Vector128<ulong> words)
    {
        ulong second = words.GetElement(1);
        return new PackedDescriptor
        {
            Address = words.GetElement(0),
            LengthBytes = (uint)second,
            Id = (ushort)(second >> 32),
            Flags = (ushort)(second >> 48),
        };
    }

    private static SavedDescriptor AsSaved(PackedDescriptor descriptor) => new()
    {
        Address = descriptor.Address,
        LengthBytes = descriptor.LengthBytes,
        Id = descriptor.Id,
        Flags = descriptor.Flags,
    };
}
