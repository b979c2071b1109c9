using System.Runtime.InteropServices;

namespace VirtioBlkFlow.VhostUser.Wire;

/// <summary>C: <c>VhostUserMemoryRegion</c>. 32 bytes (vhost-user.rst, "A region is").</summary>
/// <param name="GuestAddress">Guest-physical address of the first byte.</param>
/// <param name="LengthBytes">Length in bytes.</param>
/// <param name="UserAddress">The front-end's own address of the first byte; vring addresses refer to it.</param>
/// <param name="MmapOffset">Offset in bytes of the first byte within the descriptor's file.</param>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct MemoryRegion(ulong GuestAddress, ulong LengthBytes, ulong UserAddress, ulong MmapOffset)
{
    /// <summary>Size on the wire: 32 bytes.</summary>
    public const int SizeBytes = 32;
}

/// <summary>
/// C: the head of <c>VhostUserMemory</c>. 8 bytes, followed by exactly <see cref="RegionCount"/> <see cref="MemoryRegion"/>s
/// (vhost-user.rst, "Multiple memory regions description").
/// </summary>
/// <param name="RegionCount">Number of regions that follow, and of descriptors that come along.</param>
/// <param name="Padding">Unused.</param>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct MemoryTableHeader(uint RegionCount, uint Padding)
{
    /// <summary>Size on the wire: 8 bytes.</summary>
    public const int SizeBytes = 8;
}

/// <summary>C: <c>VhostUserMemRegMsg</c>. 40 bytes (vhost-user.rst, "Single memory region description").</summary>
/// <param name="Padding">Unused.</param>
/// <param name="Region">The region to add or to remove.</param>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct SingleMemoryRegion(ulong Padding, MemoryRegion Region)
{
    /// <summary>Size on the wire: 40 bytes.</summary>
    public const int SizeBytes = 40;
}
