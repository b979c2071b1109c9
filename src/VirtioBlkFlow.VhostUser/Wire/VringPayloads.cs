using System.Runtime.InteropServices;

namespace VirtioBlkFlow.VhostUser.Wire;

/// <summary>C: <c>struct vhost_vring_state</c>. 8 bytes (vhost-user.rst, "A vring state description").</summary>
/// <param name="Index">Number of the vring.</param>
/// <param name="Num">A size, a base, or 0/1, as the request has it.</param>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct VringState(uint Index, uint Num)
{
    /// <summary>Size on the wire: 8 bytes.</summary>
    public const int SizeBytes = 8;
}

/// <summary>
/// C: <c>struct vhost_vring_addr</c>. 40 bytes (vhost-user.rst, "A vring address description"). The order is
/// descriptor table, <b>used</b>, available; the first three addresses are front-end user addresses, the log's is a guest address.
/// </summary>
/// <param name="Index">Number of the vring.</param>
/// <param name="Flags">Bit 0 (<see cref="LogEnabled"/>): log writes to the used ring.</param>
/// <param name="DescriptorTable">User address of the descriptor table, of the descriptor ring if packed.</param>
/// <param name="UsedRing">User address of the used ring, of the device event area if packed.</param>
/// <param name="AvailableRing">User address of the available ring, of the driver event area if packed.</param>
/// <param name="Log">Guest address under which writes to the used ring are logged.</param>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct VringAddress(
    uint Index, uint Flags, ulong DescriptorTable, ulong UsedRing, ulong AvailableRing, ulong Log)
{
    /// <summary>Size on the wire: 40 bytes.</summary>
    public const int SizeBytes = 40;

    /// <summary>VHOST_VRING_F_LOG: bit 0 of <see cref="Flags"/>.</summary>
    public const uint LogEnabled = 1;

    /// <summary>Whether both place the vring's three parts at the same addresses; flags and log may differ.</summary>
    /// <param name="other">The description to compare with.</param>
    public bool HasSameRings(VringAddress other) =>
        DescriptorTable == other.DescriptorTable && UsedRing == other.UsedRing && AvailableRing == other.AvailableRing;
}

/// <summary>
/// The u64 of SET_VRING_KICK, CALL and ERR: bits 0-7 the vring, bit 8 set when no descriptor comes along
/// (vhost-user.rst, "A vring descriptor index").
/// </summary>
/// <param name="Value">The u64 as it is on the wire.</param>
public readonly record struct VringDescriptorIndex(ulong Value)
{
    /// <summary>VHOST_USER_VRING_NOFD_MASK: bit 8.</summary>
    public const ulong NoDescriptor = 0x100;

    /// <summary>VHOST_USER_VRING_IDX_MASK: bits 0-7.</summary>
    public const ulong IndexMask = 0xff;

    /// <summary>Number of the vring.</summary>
    public int Index => (int)(Value & IndexMask);

    /// <summary>Whether the message is meant to come without a descriptor.</summary>
    public bool SaysNoDescriptor => (Value & NoDescriptor) != 0;
}
