using VirtioBlkFlow.VhostUser.Memory;
using VirtioBlkFlow.VhostUser.Wire;

namespace VirtioBlkFlow.VhostUser.Session;

/// <summary>Whether a vring's three parts can be found in guest memory.</summary>
internal enum VringLocation
{
    /// <summary>All three, in full.</summary>
    Found,

    /// <summary>At least one is not, or not in full, in a region.</summary>
    NotMapped,

    /// <summary>All three, but one is not aligned as VIRTIO asks.</summary>
    NotAligned,
}

/// <summary>
/// Extents and alignments of a vring's three parts (VIRTIO 1.4, "Split Virtqueues" and "Packed Virtqueues"). The extents include
/// used_event and avail_event, 2 bytes behind the ring each, whether or not EVENT_IDX is negotiated: a driver always reserves them.
/// </summary>
internal static class VringLayout
{
    private const ulong DescriptorTableAlignment = 16;

    /// <summary>C: sizeof(struct pvirtq_event_suppress).</summary>
    private const ulong PackedEventBytes = 4;

    /// <summary>Whether a size is legal for this kind of vring.</summary>
    /// <param name="size">Number of descriptors.</param>
    /// <param name="isPacked">Packed rings need no power of two.</param>
    public static bool IsLegalSize(uint size, bool isPacked) =>
        size is > 0 and <= ProtocolLimits.MaxVringSize && (isPacked || uint.IsPow2(size));

    /// <summary>Extent of the used ring with avail_event, or of a packed ring's device event area, in bytes.</summary>
    /// <param name="size">Number of descriptors.</param>
    /// <param name="isPacked">Which kind.</param>
    public static ulong UsedRingBytes(ushort size, bool isPacked) => isPacked ? PackedEventBytes : 6 + (8UL * size);

    /// <summary>Whether the addresses keep the alignment every kind of vring asks for.</summary>
    /// <param name="address">Addresses of the three parts.</param>
    public static bool IsAligned(VringAddress address) =>
        IsAligned(address.DescriptorTable, address.AvailableRing, address.UsedRing, isPacked: false);

    /// <summary>Looks up a vring in guest memory.</summary>
    /// <param name="index">Number of the vring.</param>
    /// <param name="size">Number of descriptors.</param>
    /// <param name="address">Addresses of the three parts.</param>
    /// <param name="isPacked">Whether VIRTIO_F_RING_PACKED is negotiated.</param>
    /// <param name="table">Guest memory.</param>
    /// <param name="rings">Host addresses, if found.</param>
    public static VringLocation Locate(
        int index, ushort size, VringAddress address, bool isPacked, GuestMemoryTable table, out QueueRings rings)
    {
        rings = default;
        var availableBytes = isPacked ? PackedEventBytes : 6 + (2UL * size);
        var usedBytes = UsedRingBytes(size, isPacked);
        if (!table.TryTranslateUser(address.DescriptorTable, 16UL * size, out var descriptorTable)
            || !table.TryTranslateUser(address.AvailableRing, availableBytes, out var availableRing)
            || !table.TryTranslateUser(address.UsedRing, usedBytes, out var usedRing))
        {
            return VringLocation.NotMapped;
        }

        // It is the host address that our loads and stores go to: an odd region offset can misalign what the driver aligned.
        if (!IsAligned((ulong)descriptorTable, (ulong)availableRing, (ulong)usedRing, isPacked))
        {
            return VringLocation.NotAligned;
        }

        rings = new QueueRings
        {
            QueueIndex = index,
            Size = size,
            DescriptorTable = descriptorTable,
            AvailableRing = availableRing,
            UsedRing = usedRing,
            UserAddresses = address,
        };
        return VringLocation.Found;
    }

    private static bool IsAligned(ulong descriptorTable, ulong availableRing, ulong usedRing, bool isPacked) =>
        descriptorTable % DescriptorTableAlignment == 0
        && availableRing % (isPacked ? PackedEventBytes : 2UL) == 0
        && usedRing % 4 == 0;
}
