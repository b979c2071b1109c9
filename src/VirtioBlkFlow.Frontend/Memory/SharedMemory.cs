using VirtioBlkFlow.Virtio;

namespace VirtioBlkFlow.Frontend.Memory;

/// <summary>
/// Guest memory as the front-end has it: one or more regions, each a memfd of its own, at guest addresses of one's choice.
/// Regions and allocation belong to the thread that sets up; translation is safe from any thread while no region is added.
/// </summary>
public sealed unsafe class SharedMemory : IDisposable
{
    private readonly List<SharedRegion> _regions = [];

    /// <summary>Makes the regions in the order given.</summary>
    /// <exception cref="IOException">The kernel refuses one of them.</exception>
    public SharedMemory(params ReadOnlySpan<SharedRegionOptions> regions)
    {
        try
        {
            foreach (SharedRegionOptions options in regions)
            {
                AddRegion(options);
            }
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The regions, in the order they were added.</summary>
    public IReadOnlyList<SharedRegion> Regions => _regions;

    /// <summary>One region at guest address 0.</summary>
    public static SharedMemory OfSize(ulong lengthBytes) => new(new SharedRegionOptions(0, lengthBytes));

    /// <summary>Adds a region, as memory hotplug does.</summary>
    public SharedRegion AddRegion(SharedRegionOptions options)
    {
        var region = new SharedRegion(options);
        _regions.Add(region);
        return region;
    }

    /// <summary>Takes a region out and unmaps it, as memory unplug does.</summary>
    public void RemoveRegion(SharedRegion region)
    {
        _regions.Remove(region);
        region.Dispose();
    }

    /// <summary>Takes guest memory from the first region that has room.</summary>
    /// <returns>The guest-physical address.</returns>
    /// <exception cref="InvalidOperationException">No region has room.</exception>
    public ulong Allocate(ulong lengthBytes, ulong alignmentBytes = 16)
    {
        foreach (SharedRegion region in _regions)
        {
            if (region.FreeBytes >= lengthBytes + alignmentBytes)
            {
                return region.Allocate(lengthBytes, alignmentBytes);
            }
        }

        throw new InvalidOperationException($"No region of guest memory has {lengthBytes} bytes left.");
    }

    /// <summary>Where a guest range is in this process.</summary>
    /// <exception cref="ArgumentOutOfRangeException">It is not inside one region.</exception>
    public byte* Host(ulong guestAddress, ulong lengthBytes)
    {
        SharedRegion region = RegionOf(guestAddress, lengthBytes);
        return region.Host + (guestAddress - region.GuestAddress);
    }

    /// <summary>A guest range as a span.</summary>
    public Span<byte> Span(ulong guestAddress, int lengthBytes) => new(Host(guestAddress, (ulong)lengthBytes), lengthBytes);

    /// <summary>The front-end address the back-end knows a guest address by: what SET_VRING_ADDR carries.</summary>
    public ulong UserAddressOf(ulong guestAddress)
    {
        SharedRegion region = RegionOf(guestAddress, 1);
        return region.UserAddress + (guestAddress - region.GuestAddress);
    }

    /// <summary>The same memory as a device in this process would see it.</summary>
    public GuestMemory ToGuestMemory() =>
        new(_regions.Select(region => new GuestMemoryRegion(region.GuestAddress, region.LengthBytes, (nint)region.Host)));

    /// <summary>Unmaps and closes every region.</summary>
    public void Dispose()
    {
        foreach (SharedRegion region in _regions)
        {
            region.Dispose();
        }

        _regions.Clear();
    }

    private SharedRegion RegionOf(ulong guestAddress, ulong lengthBytes) =>
        _regions.Find(region => region.Contains(guestAddress, lengthBytes))
        ?? throw new ArgumentOutOfRangeException(nameof(guestAddress), $"0x{guestAddress:x} + {lengthBytes} bytes is not inside one region of guest memory.");
}
