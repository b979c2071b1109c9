using System.Runtime.InteropServices;
using VirtioBlkFlow.Device.Lint;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Virtio.Blk;
using static VirtioBlkFlow.Virtio.Blk.BlkFeatures;

namespace VirtioBlkFlow.Device;

/// <summary>What a device with this disk offers: features, configuration space, limits. Immutable; a disk of another size has another.</summary>
internal sealed class BlkOffer
{
    // ATA's limit of the cylinders, and the heads and sectors that go with it: what every BIOS of a disk of 8 GiB or more reports.
    private const byte GeometryHeads = 16;
    private const byte GeometrySectors = 63;
    private const ushort MaxCylinders = 16383;

    private readonly BlkConfig _config;

    /// <exception cref="OfferException">The options ask for what this disk or this device cannot do.</exception>
    public BlkOffer(DiskProperties disk, BlkDeviceOptions options)
    {
        RequireLimits(disk, options);
        Features = new OfferedFeatures(disk, options).Choose();
        QueueCount = Has(VIRTIO_BLK_F_MQ) ? options.QueueCount : 1;
        Limits = new BlkLimits(disk.CapacityBytes / BlkRequest.SectorBytes, disk.LogicalBlockBytes, disk.ReadOnly)
        {
            Discard = Has(VIRTIO_BLK_F_DISCARD) ? options.Discard : default,
            WriteZeroes = Has(VIRTIO_BLK_F_WRITE_ZEROES) ? options.WriteZeroes : default,
            SecureErase = Has(VIRTIO_BLK_F_SECURE_ERASE) ? options.SecureErase : default,
            HasLifetime = Has(VIRTIO_BLK_F_LIFETIME),
            Zones = disk.Zones is { } zones
                ? new ZoneLimits((uint)(zones.ZoneBytes / BlkRequest.SectorBytes), zones.MaxAppendBytes!.Value / BlkRequest.SectorBytes)
                : null,
        };
        _config = ConfigOf(disk, options);
    }

    /// <summary>Feature bits.</summary>
    public ulong Features { get; }

    /// <summary>
    /// What a driver must take. One that ignores the zones of a host-managed disk cannot use it (VIRTIO 1.4, "Block Device",
    /// "Device Requirements: Device Initialization").
    /// </summary>
    public ulong RequiredFeatures => (ulong)VirtioFeatures.VIRTIO_F_VERSION_1 | (Features & (ulong)VIRTIO_BLK_F_ZONED);

    /// <summary>Request queues: one unless MQ is offered.</summary>
    public int QueueCount { get; }

    /// <summary>What requests are checked against.</summary>
    public BlkLimits Limits { get; }

    /// <summary>What the linter compares requests with.</summary>
    public OfferedShape Shape => new(Features, _config.SegMax, _config.SizeMax, _config.DiscardSectorAlignment);

    /// <summary>Reads the configuration space, zeros beyond its end.</summary>
    public void ReadConfig(byte writeback, uint offset, Span<byte> destination)
    {
        BlkConfig config = _config;
        config.Writeback = writeback;
        destination.Clear();
        Span<byte> bytes = MemoryMarshal.AsBytes(new Span<BlkConfig>(ref config));
        if (offset < bytes.Length)
        {
            bytes = bytes[(int)offset..];
            bytes[..Math.Min(bytes.Length, destination.Length)].CopyTo(destination);
        }
    }

    private bool Has(BlkFeatures feature) => (Features & (ulong)feature) != 0;

    private BlkConfig ConfigOf(DiskProperties disk, BlkDeviceOptions options)
    {
        uint blocksPerPhysical = Math.Max(1, disk.PhysicalBlockBytes / disk.LogicalBlockBytes);
        uint alignmentSectors = (disk.DiscardGranularityBytes == 0 ? disk.PhysicalBlockBytes : disk.DiscardGranularityBytes) / BlkRequest.SectorBytes;
        var config = new BlkConfig
        {
            Capacity = Limits.CapacitySectors,
            SizeMax = Has(VIRTIO_BLK_F_SIZE_MAX) ? options.SizeMax!.Value : 0,
            SegMax = options.SegMax,
            BlkSize = disk.LogicalBlockBytes,
            PhysicalBlockExp = (byte)int.Log2((int)blocksPerPhysical),
            MinIoSize = (ushort)blocksPerPhysical,
            NumQueues = (ushort)QueueCount,
            MaxDiscardSectors = Limits.Discard.MaxSectors,
            MaxDiscardSeg = Limits.Discard.MaxSegments,
            DiscardSectorAlignment = Has(VIRTIO_BLK_F_DISCARD) ? alignmentSectors : 0,
            MaxWriteZeroesSectors = Limits.WriteZeroes.MaxSectors,
            MaxWriteZeroesSeg = Limits.WriteZeroes.MaxSegments,
            WriteZeroesMayUnmap = Has(VIRTIO_BLK_F_WRITE_ZEROES) ? (byte)1 : (byte)0,
            MaxSecureEraseSectors = Limits.SecureErase.MaxSectors,
            MaxSecureEraseSeg = Limits.SecureErase.MaxSegments,
            SecureEraseSectorAlignment = Has(VIRTIO_BLK_F_SECURE_ERASE) ? alignmentSectors : 0,
        };
        if (Has(VIRTIO_BLK_F_GEOMETRY))
        {
            config.Cylinders = (ushort)Math.Clamp(Limits.CapacitySectors / (GeometryHeads * GeometrySectors), 1, MaxCylinders);
            config.Heads = GeometryHeads;
            config.SectorsPerTrack = GeometrySectors;
        }

        if (disk.Zones is { } zones)
        {
            config.ZoneSectors = Limits.Zones!.Value.ZoneSectors;
            config.MaxOpenZones = (uint)zones.MaxOpen;
            config.MaxActiveZones = (uint)zones.MaxActive;
            config.MaxAppendSectors = Limits.Zones!.Value.MaxAppendSectors;
            config.WriteGranularity = zones.WriteGranularityBytes!.Value;
            config.ZoneModel = BlkZoneModel.VIRTIO_BLK_Z_HM;
        }

        return config;
    }

    private static void RequireLimits(DiskProperties disk, BlkDeviceOptions options)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(options.SegMax, 1u);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(options.SegMax, BlkDeviceOptions.MaxSegMax);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.SizeMax ?? uint.MaxValue, BlkDeviceOptions.MinSizeMax);
        if (options.SizeMax is uint sizeMax && disk.Zones?.MaxAppendBytes is uint append && append > (ulong)sizeMax * options.SegMax)
        {
            throw new OfferException(
                $"An append of {append} bytes is more than a request of {options.SegMax} segments of {sizeMax} bytes can carry. Lower max-append of --zoned, or raise --seg-max or --size-max.");
        }

        RequireSegments(disk, options.Discard, "DISCARD");
        RequireSegments(disk, options.WriteZeroes, "WRITE_ZEROES");
        RequireSegments(disk, options.SecureErase, "SECURE_ERASE");
    }

    private static void RequireSegments(DiskProperties disk, SegmentLimits limits, string type)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(limits.MaxSegments, 1u);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(limits.MaxSegments, (uint)BlkLimits.MaxSegments);
        uint blockSectors = disk.LogicalBlockBytes / BlkRequest.SectorBytes;
        if (limits.MaxSectors == 0 || limits.MaxSectors % blockSectors != 0)
        {
            throw new OfferException(
                $"A {type} of at most {limits.MaxSectors} sectors does not fit the disk's blocks of {disk.LogicalBlockBytes} bytes. Take a multiple of {blockSectors}.");
        }
    }
}
