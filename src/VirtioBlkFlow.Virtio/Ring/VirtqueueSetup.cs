using VirtioBlkFlow.Virtio.Inflight;

namespace VirtioBlkFlow.Virtio.Ring;

/// <summary>
/// Where a virtqueue's three areas are in this process, by the names VIRTIO 1.4, "Virtqueues", has for both kinds.
/// </summary>
/// <param name="DescriptorArea">Host address, aligned to 16 bytes. Split: the descriptor table. Packed: the descriptor ring.</param>
/// <param name="DriverArea">Host address of what the driver writes. Split: the available ring, aligned to 2 bytes. Packed: the driver event suppression structure, aligned to 4.</param>
/// <param name="DeviceArea">Host address, aligned to 4 bytes, of what the device writes. Split: the used ring. Packed: the device event suppression structure.</param>
public readonly record struct RingAddresses(nint DescriptorArea, nint DriverArea, nint DeviceArea);

/// <summary>
/// Where a device stands in a ring; what SET_VRING_BASE and GET_VRING_BASE carry.
/// </summary>
/// <param name="NextAvailable">
/// What is fetched next. Split: an index that runs freely through 16 bits. Packed: bits 0-14 the offset in the ring, bit 15 the wrap counter.
/// </param>
/// <param name="NextUsed">
/// Where the next used element goes. Packed: as <paramref name="NextAvailable"/>. Split: given it is ignored, for the used index is read
/// from the ring itself; asked for it is that index.
/// </param>
public readonly record struct RingPosition(ushort NextAvailable, ushort NextUsed);

/// <summary>All that is needed to take up a ring.</summary>
public sealed record VirtqueueSetup
{
    /// <summary>Entries: at most 32768, in a split ring a power of two.</summary>
    public required int QueueSize { get; init; }

    /// <summary>The three areas; each lies whole in mapped memory.</summary>
    public required RingAddresses Addresses { get; init; }

    /// <summary>Guest memory.</summary>
    public required GuestMemory Memory { get; init; }

    /// <summary>What was negotiated.</summary>
    public required VirtioFeatures Features { get; init; }

    /// <summary>Where to begin.</summary>
    public required RingPosition Position { get; init; }

    /// <summary>Memory of this queue's record of chains in flight; default for none.</summary>
    public InflightArea Inflight { get; init; }
}

/// <summary>Where a queue's record of chains in flight is in this process; see <see cref="InflightLayout"/>.</summary>
/// <param name="Address">Host address of its first byte; 0 for no record.</param>
/// <param name="LengthBytes">Bytes that may be used there.</param>
public readonly record struct InflightArea(nint Address, ulong LengthBytes);
