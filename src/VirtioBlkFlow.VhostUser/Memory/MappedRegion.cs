using System.Diagnostics;
using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.VhostUser.Wire;

namespace VirtioBlkFlow.VhostUser.Memory;

/// <summary>
/// One region of guest memory, mapped shared and writable (vhost-user.rst, "Memory access"). The session's thread maps and unmaps;
/// every thread may use the addresses in between.
/// </summary>
[DebuggerDisplay("guest 0x{Description.GuestAddress,h} + {Description.LengthBytes}")]
internal sealed class MappedRegion : IDisposable
{
    private readonly FileMapping _mapping;

    private MappedRegion(MemoryRegion description, FileMapping mapping)
    {
        Description = description;
        _mapping = mapping;
        Region = new GuestMemoryRegion(description.GuestAddress, description.LengthBytes, description.UserAddress, mapping.Address);
    }

    /// <summary>The region as the front-end described it.</summary>
    public MemoryRegion Description { get; }

    /// <summary>The region as the device sees it.</summary>
    public GuestMemoryRegion Region { get; }

    /// <summary>Maps a region. The descriptor may be closed afterwards.</summary>
    /// <param name="description">What to map, and under which addresses the front-end and the guest know it.</param>
    /// <param name="file">Where it lies.</param>
    /// <exception cref="VhostUserRefusedException">The description makes no sense, or the kernel does not map it.</exception>
    public static MappedRegion Map(MemoryRegion description, SafeFileHandle file)
    {
        RefuseWrapping(description);
        return new MappedRegion(
            description,
            FileMapping.Map(file, description.MmapOffset, description.LengthBytes, $"memory region at guest address 0x{description.GuestAddress:x}"));
    }

    /// <summary>Unmaps. The owner vouches that nobody uses the addresses any more.</summary>
    public void Dispose() => _mapping.Dispose();

    /// <summary>Neither the guest's nor the front-end's addresses may run past the end of their space. Of no bytes the mapping speaks.</summary>
    private static void RefuseWrapping(MemoryRegion description)
    {
        var last = Math.Max(description.LengthBytes, 1) - 1;
        if (description.GuestAddress > ulong.MaxValue - last || description.UserAddress > ulong.MaxValue - last)
        {
            throw new VhostUserRefusedException(
                $"the memory region at guest address 0x{description.GuestAddress:x} with 0x{description.LengthBytes:x} bytes and user address "
                + $"0x{description.UserAddress:x} goes past the end of an address space");
        }
    }
}
