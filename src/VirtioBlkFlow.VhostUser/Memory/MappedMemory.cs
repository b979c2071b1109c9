using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.VhostUser.Wire;

namespace VirtioBlkFlow.VhostUser.Memory;

/// <summary>
/// Owns the mapped regions of one session. Owned by the session's thread. A change comes in two steps, so that old mappings outlive their
/// last user: a <c>Prepare…</c> maps what is new, then the device moves to the new table, then <see cref="Commit"/> unmaps what went.
/// </summary>
internal sealed class MappedMemory
{
    private MappedRegion[] _regions = [];

    /// <summary>The table in force.</summary>
    public GuestMemoryTable Table { get; private set; } = GuestMemoryTable.Empty;

    /// <summary>SET_MEM_TABLE: a whole new table.</summary>
    /// <param name="descriptions">The regions.</param>
    /// <param name="files">As many descriptors, in the same order; they stay the caller's.</param>
    /// <exception cref="VhostUserRefusedException">A region cannot be mapped, or guest ranges overlap. Nothing has changed.</exception>
    public MemoryChange PrepareTable(ReadOnlySpan<MemoryRegion> descriptions, ReadOnlySpan<SafeFileHandle> files)
    {
        var mapped = new List<MappedRegion>(descriptions.Length);
        try
        {
            for (var i = 0; i < descriptions.Length; i++)
            {
                RefuseOverlap(descriptions[i], mapped);
                mapped.Add(MappedRegion.Map(descriptions[i], files[i]));
            }

            return new MemoryChange([.. mapped], _regions);
        }
        catch
        {
            mapped.ForEach(static region => region.Dispose());
            throw;
        }
    }

    /// <summary>ADD_MEM_REG: one region more.</summary>
    /// <param name="description">The region.</param>
    /// <param name="file">Its descriptor; it stays the caller's.</param>
    /// <exception cref="VhostUserRefusedException">It cannot be mapped, overlaps another, or is one too many. Nothing has changed.</exception>
    public MemoryChange PrepareAddition(MemoryRegion description, SafeFileHandle file)
    {
        if (_regions.Length >= ProtocolLimits.MaxMemorySlots)
        {
            throw new VhostUserRefusedException($"all {ProtocolLimits.MaxMemorySlots} memory slots are in use");
        }

        RefuseOverlap(description, _regions);
        return new MemoryChange([.. _regions, MappedRegion.Map(description, file)], []);
    }

    /// <summary>REM_MEM_REG: one region less. Found by guest address, user address and length (vhost-user.rst, "REM_MEM_REG").</summary>
    /// <param name="description">The region; its file offset does not count.</param>
    /// <exception cref="VhostUserRefusedException">There is no such region.</exception>
    public MemoryChange PrepareRemoval(MemoryRegion description)
    {
        var leaving = Array.Find(_regions, region =>
            region.Description.GuestAddress == description.GuestAddress
            && region.Description.UserAddress == description.UserAddress
            && region.Description.LengthBytes == description.LengthBytes)
            ?? throw new VhostUserRefusedException(
                $"there is no memory region at guest address 0x{description.GuestAddress:x} and user address 0x{description.UserAddress:x} "
                + $"with {description.LengthBytes} bytes to remove");
        return new MemoryChange(Array.FindAll(_regions, region => region != leaving), [leaving]);
    }

    /// <summary>Puts a change in force and unmaps what went. The device has moved to the new table before.</summary>
    /// <param name="change">What a <c>Prepare…</c> returned last.</param>
    public void Commit(MemoryChange change)
    {
        _regions = change.Regions;
        Table = change.Table;
        Array.ForEach(change.Leaving, static region => region.Dispose());
    }

    /// <summary>Unmaps everything. The device has let go of all tables before.</summary>
    public void UnmapAll() => Commit(new MemoryChange([], _regions));

    private static void RefuseOverlap(MemoryRegion description, IEnumerable<MappedRegion> others)
    {
        foreach (var other in others)
        {
            // Two ranges are apart if one begins at or after the other's end; the differences cannot overflow.
            var that = other.Description;
            var isApart = description.GuestAddress >= that.GuestAddress
                ? description.GuestAddress - that.GuestAddress >= that.LengthBytes
                : that.GuestAddress - description.GuestAddress >= description.LengthBytes;
            if (!isApart)
            {
                throw new VhostUserRefusedException(
                    $"the memory region at guest address 0x{description.GuestAddress:x} with 0x{description.LengthBytes:x} bytes overlaps "
                    + $"the one at 0x{that.GuestAddress:x} with 0x{that.LengthBytes:x} bytes")
                {
                    Finding = ProtocolFinding.RegionOverlap,
                };
            }
        }
    }
}

/// <summary>A change of guest memory between preparation and commitment.</summary>
/// <param name="Regions">All regions of the new table.</param>
/// <param name="Leaving">Regions of the old table that the new one has not.</param>
internal readonly record struct MemoryChange(MappedRegion[] Regions, MappedRegion[] Leaving)
{
    /// <summary>The new table.</summary>
    public GuestMemoryTable Table { get; } = new([.. Regions.Select(static region => region.Region)]);
}
