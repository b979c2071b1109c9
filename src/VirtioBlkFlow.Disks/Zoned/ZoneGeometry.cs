namespace VirtioBlkFlow.Disks.Zoned;

/// <summary>What the zones of a disk are like; fixed while it is open.</summary>
public sealed record ZoneGeometry
{
    /// <summary>Most zones of a disk. Arbitrary; each costs some 40 bytes of memory and 64 bytes of zone file.</summary>
    public const int MaxZones = 1 << 20;

    /// <summary>
    /// Largest append unless told otherwise, in bytes: as many segments as a request has by default, of one page each.
    /// </summary>
    public const uint DefaultMaxAppendBytes = 126 * 4096;

    /// <summary>Bytes from the start of a zone to the start of the next.</summary>
    public required ulong ZoneBytes { get; init; }

    /// <summary>Zones at the beginning of the disk that are written anywhere.</summary>
    public int ConventionalZones { get; init; }

    /// <summary>Bytes of a sequential zone that can be written, from its start; null for all.</summary>
    public ulong? ZoneCapacityBytes { get; init; }

    /// <summary>Most open zones; 0 for no limit.</summary>
    public int MaxOpen { get; init; }

    /// <summary>Most active (open or closed) zones; 0 for no limit.</summary>
    public int MaxActive { get; init; }

    /// <summary>Most bytes in one append; 0 for no appends; null for the default.</summary>
    public uint? MaxAppendBytes { get; init; }

    /// <summary>Size and alignment of writes to sequential zones in bytes; null for the logical block.</summary>
    public uint? WriteGranularityBytes { get; init; }

    /// <summary>The same geometry for a disk, with nothing left to defaults.</summary>
    /// <exception cref="DiskOpenException">It does not fit the disk.</exception>
    internal ZoneGeometry For(DiskProperties disk, string path)
    {
        ulong zoneCapacity = ZoneCapacityBytes ?? ZoneBytes;
        uint granularity = WriteGranularityBytes ?? disk.LogicalBlockBytes;
        Require(granularity % disk.LogicalBlockBytes == 0 && granularity > 0, "write-granularity", $"a multiple of the block size of {disk.LogicalBlockBytes} bytes");
        // Linux counts sectors of a zone in 32 bits.
        Require(
            ZoneBytes > 0 && ZoneBytes % granularity == 0 && ZoneBytes / 512 <= uint.MaxValue, "zone-size", $"a multiple of {granularity} bytes below 2 TiB");
        Require(zoneCapacity > 0 && zoneCapacity <= ZoneBytes && zoneCapacity % granularity == 0, "capacity", $"a multiple of {granularity} bytes up to the zone size");
        Require(disk.CapacityBytes % granularity == 0, "write-granularity", $"a divisor of the size of '{path}'");
        ulong zones = (disk.CapacityBytes + ZoneBytes - 1) / ZoneBytes;
        Require(zones <= MaxZones, "zone-size", $"so large that there are at most {MaxZones} zones");
        Require(ConventionalZones >= 0 && (ulong)ConventionalZones < zones, "conventional", $"less than the number of zones, {zones}");
        Require(MaxOpen >= 0 && MaxActive >= 0 && (MaxActive == 0 || MaxOpen <= MaxActive), "max-open", "at most max-active");
        uint append = MaxAppendBytes ?? (uint)Math.Min(zoneCapacity, DefaultMaxAppendBytes / granularity * granularity);
        Require(append % granularity == 0 && append <= zoneCapacity, "max-append", $"a multiple of {granularity} bytes up to the zone's capacity");
        return this with { ZoneCapacityBytes = zoneCapacity, WriteGranularityBytes = granularity, MaxAppendBytes = append };
    }

    private static void Require(bool condition, string name, string what)
    {
        if (!condition)
        {
            throw new DiskOpenException($"--zoned: {name} must be {what}.");
        }
    }
}
