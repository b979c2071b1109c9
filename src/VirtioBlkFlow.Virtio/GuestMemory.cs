namespace VirtioBlkFlow.Virtio;

/// <summary>A stretch of guest-physical address space and where the host sees it.</summary>
/// <param name="GuestAddress">First guest-physical address.</param>
/// <param name="LengthBytes">Length in bytes, not 0; the last byte's address does not overflow.</param>
/// <param name="HostAddress">Address of the first byte in this process.</param>
public readonly record struct GuestMemoryRegion(ulong GuestAddress, ulong LengthBytes, nint HostAddress);

/// <summary>
/// Guest memory as an immutable snapshot of regions. A change of memory is a new snapshot, swapped in while no request
/// uses the old one. Safe to use from any thread.
/// </summary>
public sealed unsafe class GuestMemory
{
    // Sorted by guest address, without overlaps.
    private readonly GuestMemoryRegion[] _regions;

    // The same, sorted by host address.
    private readonly GuestMemoryRegion[] _regionsByHost;

    /// <summary>Builds a snapshot.</summary>
    /// <exception cref="ArgumentException">A region is empty, overflows, or overlaps another.</exception>
    public GuestMemory(IEnumerable<GuestMemoryRegion> regions)
    {
        _regions = [.. regions.OrderBy(region => region.GuestAddress)];
        _regionsByHost = [.. _regions.OrderBy(region => (nuint)region.HostAddress)];
        for (int i = 0; i < _regions.Length; i++)
        {
            GuestMemoryRegion region = _regions[i];
            // The last byte, not the end: a region may reach to the very top of the address space.
            ulong last = unchecked(region.GuestAddress + region.LengthBytes - 1);
            if (region.LengthBytes == 0 || last < region.GuestAddress)
            {
                throw new ArgumentException($"Guest memory region at 0x{region.GuestAddress:x} has an impossible length of {region.LengthBytes} bytes.", nameof(regions));
            }

            if (i > 0 && region.GuestAddress - _regions[i - 1].GuestAddress < _regions[i - 1].LengthBytes)
            {
                throw new ArgumentException($"Guest memory region at 0x{region.GuestAddress:x} overlaps the one before it.", nameof(regions));
            }
        }
    }

    /// <summary>The regions, sorted by guest address.</summary>
    public ReadOnlySpan<GuestMemoryRegion> Regions => _regions;

    /// <summary>
    /// Finds the host memory of a guest range. A range that straddles adjacent regions becomes several pieces, because
    /// regions that touch in guest-physical space need not touch in ours.
    /// </summary>
    /// <param name="guestAddress">First guest-physical address.</param>
    /// <param name="lengthBytes">Length in bytes, not 0.</param>
    /// <param name="pieces">Where the pieces go.</param>
    /// <param name="capacity">How many pieces fit.</param>
    /// <param name="count">How many pieces were written.</param>
    /// <returns>False when a byte of the range lies in no region or the pieces do not fit.</returns>
    public bool TryTranslate(ulong guestAddress, uint lengthBytes, Iovec* pieces, int capacity, out int count)
    {
        count = 0;
        int index = FindRegion(guestAddress);
        ulong left = lengthBytes;
        while (left > 0)
        {
            if ((uint)index >= (uint)_regions.Length || count == capacity)
            {
                return false;
            }

            ref readonly GuestMemoryRegion region = ref _regions[index];
            // Unsigned: an address below the region makes a huge offset, which is out of range as well.
            ulong offset = unchecked(guestAddress - region.GuestAddress);
            if (offset >= region.LengthBytes)
            {
                return false;
            }

            ulong take = Math.Min(left, region.LengthBytes - offset);
            pieces[count++] = new Iovec((byte*)region.HostAddress + offset, (nuint)take);
            left -= take;
            // At the very top of the address space this wraps to 0: the next look-up then fails, as it must.
            guestAddress = unchecked(guestAddress + take);
            index++;
        }

        return true;
    }

    /// <summary>
    /// Finds the host memory of a guest range that lies within one region.
    /// </summary>
    /// <returns>Its first byte, or null when the range is not inside one region.</returns>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public byte* TranslateWithinRegion(ulong guestAddress, uint lengthBytes)
    {
        GuestMemoryRegion[] regions = _regions;
        if (regions.Length > LinearSearchLimit)
        {
            int index = FindRegion(guestAddress);
            return (uint)index < (uint)regions.Length ? Within(in regions[index], guestAddress, lengthBytes) : null;
        }

        for (int i = 0; i < regions.Length; i++)
        {
            byte* host = Within(in regions[i], guestAddress, lengthBytes);
            if (host != null)
            {
                return host;
            }
        }

        return null;
    }

    /// <summary>
    /// Finds the guest address of a piece of host memory: the way back from <see cref="TryTranslate"/>. A piece lies within one region, as
    /// those it gives do; regions that touch in our address space are mapped to the guest wherever the front-end liked.
    /// </summary>
    /// <param name="host">First byte in this process.</param>
    /// <param name="lengthBytes">Length in bytes.</param>
    /// <param name="guestAddress">First guest-physical address, or 0.</param>
    /// <returns>False when the piece is not inside one region.</returns>
    public bool TryToGuest(nint host, ulong lengthBytes, out ulong guestAddress)
    {
        int low = 0;
        int high = _regionsByHost.Length - 1;
        while (low <= high)
        {
            int middle = (low + high) >>> 1;
            ref readonly GuestMemoryRegion region = ref _regionsByHost[middle];
            if ((nuint)region.HostAddress > (nuint)host)
            {
                high = middle - 1;
                continue;
            }

            ulong offset = (nuint)host - (nuint)region.HostAddress;
            if (offset < region.LengthBytes)
            {
                bool inside = lengthBytes <= region.LengthBytes - offset;
                guestAddress = inside ? region.GuestAddress + offset : 0;
                return inside;
            }

            low = middle + 1;
        }

        guestAddress = 0;
        return false;
    }

    // Up to this many regions a walk is quicker than a binary search. Arbitrary; virtual machines without memory hotplug have 1 to 4.
    private const int LinearSearchLimit = 6;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static byte* Within(in GuestMemoryRegion region, ulong guestAddress, uint lengthBytes)
    {
        ulong offset = unchecked(guestAddress - region.GuestAddress);
        return offset < region.LengthBytes && lengthBytes <= region.LengthBytes - offset ? (byte*)region.HostAddress + offset : null;
    }

    // The last region that starts at or below the address, or -1.
    private int FindRegion(ulong guestAddress)
    {
        int low = 0;
        int high = _regions.Length - 1;
        while (low <= high)
        {
            int middle = (low + high) >>> 1;
            if (_regions[middle].GuestAddress <= guestAddress)
            {
                low = middle + 1;
            }
            else
            {
                high = middle - 1;
            }
        }

        return high;
    }
}
