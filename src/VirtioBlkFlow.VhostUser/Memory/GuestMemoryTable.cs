using System.Collections.Immutable;

namespace VirtioBlkFlow.VhostUser.Memory;

/// <summary>One contiguous range of guest memory, mapped into this process.</summary>
/// <param name="GuestAddress">Guest-physical address of the first byte.</param>
/// <param name="LengthBytes">Length in bytes, at least 1.</param>
/// <param name="UserAddress">The front-end's own address of the first byte; ring addresses refer to it.</param>
/// <param name="HostAddress">Address of the first byte in this process.</param>
public readonly record struct GuestMemoryRegion(ulong GuestAddress, ulong LengthBytes, ulong UserAddress, nint HostAddress);

/// <summary>
/// Immutable snapshot of guest memory. It owns nothing: the session unmaps a region only after the device let go of every
/// table that names it (<see cref="IVhostUserBackend.ReplaceMemory"/>). Readable from every thread.
/// </summary>
public sealed class GuestMemoryTable
{
    /// <summary>No memory at all, as before the first SET_MEM_TABLE or ADD_MEM_REG.</summary>
    public static GuestMemoryTable Empty { get; } = new([]);

    /// <summary>Makes a snapshot.</summary>
    /// <param name="regions">
    /// Regions in any order. The caller vouches that no guest ranges overlap and no end overflows; the session checks that
    /// for what it receives.
    /// </param>
    public GuestMemoryTable(ReadOnlySpan<GuestMemoryRegion> regions)
    {
        var sorted = regions.ToArray();
        Array.Sort(sorted, static (a, b) => a.GuestAddress.CompareTo(b.GuestAddress));
        Regions = ImmutableArray.Create(sorted);
    }

    /// <summary>The regions, by ascending guest address.</summary>
    public ImmutableArray<GuestMemoryRegion> Regions { get; }

    /// <summary>Translates a range of the front-end's user addresses, as SET_VRING_ADDR has them.</summary>
    /// <param name="userAddress">Front-end address of the first byte.</param>
    /// <param name="lengthBytes">Length in bytes.</param>
    /// <param name="hostAddress">Address of the first byte in this process.</param>
    /// <returns>False unless the whole range lies within one region.</returns>
    public bool TryTranslateUser(ulong userAddress, ulong lengthBytes, out nint hostAddress)
    {
        foreach (var region in Regions)
        {
            // Differences only, never sums: user addresses are the peer's and a sum may overflow.
            var offset = userAddress - region.UserAddress;
            if (userAddress >= region.UserAddress && offset < region.LengthBytes && lengthBytes <= region.LengthBytes - offset)
            {
                hostAddress = region.HostAddress + (nint)offset;
                return true;
            }
        }

        hostAddress = 0;
        return false;
    }
}
