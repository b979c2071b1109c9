using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.VhostUser.Memory;

namespace VirtioBlkFlow.VhostUser;

/// <summary>Where a queue's three parts lie in this process. The extents were checked to lie in mapped memory, and to be aligned.</summary>
/// <remarks>
/// The names are the split ring's. Packed: <see cref="DescriptorTable"/> is the descriptor ring, <see cref="AvailableRing"/> the driver
/// event area, <see cref="UsedRing"/> the device event area.
/// </remarks>
public readonly record struct QueueRings
{
    /// <summary>Number of the queue.</summary>
    public required int QueueIndex { get; init; }

    /// <summary>Number of descriptors; a power of two unless packed, at most 32768.</summary>
    public required ushort Size { get; init; }

    /// <summary>Host address of the descriptor table: 16 × size bytes, 16-byte aligned.</summary>
    public required nint DescriptorTable { get; init; }

    /// <summary>Host address of the available ring: 6 + 2 × size bytes, with used_event; 2-byte aligned. Packed: 4 bytes.</summary>
    public required nint AvailableRing { get; init; }

    /// <summary>Host address of the used ring: 6 + 8 × size bytes, with avail_event; 4-byte aligned. Packed: 4 bytes.</summary>
    public required nint UsedRing { get; init; }

    /// <summary>The front-end's own addresses of the three parts, as SET_VRING_ADDR had them.</summary>
    public required Wire.VringAddress UserAddresses { get; init; }
}

/// <summary>All a device needs to start a queue.</summary>
public readonly record struct QueueSetup
{
    /// <summary>Where the queue lies.</summary>
    public required QueueRings Rings { get; init; }

    /// <summary>
    /// Where fetching begins. Split: the available index, which runs freely through 16 bits. Packed: bits 0-14 the offset in the ring,
    /// bit 15 the wrap counter.
    /// </summary>
    public required ushort NextAvailable { get; init; }

    /// <summary>Packed: where the next used descriptor goes, in the form of <see cref="NextAvailable"/>. Split: 0, the used index is in memory.</summary>
    public required ushort NextUsed { get; init; }

    /// <summary>Eventfd of driver → device; null if the ring must be polled.</summary>
    public required SafeFileHandle? Kick { get; init; }

    /// <summary>Eventfd of device → driver; null if the driver polls.</summary>
    public required SafeFileHandle? Call { get; init; }

    /// <summary>Eventfd to signal when the queue breaks; null for none.</summary>
    public required SafeFileHandle? Error { get; init; }

    /// <summary>Guest memory, until <see cref="IVhostUserBackend.ReplaceMemory"/> brings another.</summary>
    public required GuestMemoryTable Memory { get; init; }

    /// <summary>The negotiated virtio feature bits, without bits 26 and 30.</summary>
    public required ulong Features { get; init; }

    /// <summary>
    /// Where to record requests in flight, and to find those a predecessor left; default for nowhere. It has room for this queue. Its
    /// contents are the front-end's to change, so what is read back must be validated.
    /// </summary>
    public InflightMapping InflightArea { get; init; }

    /// <summary>The dirty log in force, until <see cref="IVhostUserBackend.SetDirtyLog"/> brings another; null for none.</summary>
    public DirtyLogMapping? DirtyLog { get; init; }

    /// <summary>
    /// Guest address under which writes to the used ring are marked in <see cref="DirtyLog"/>; null if they are not. See
    /// <see cref="LoggedUsedRing"/>.
    /// </summary>
    public ulong? UsedRingLogAddress { get; init; }
}
