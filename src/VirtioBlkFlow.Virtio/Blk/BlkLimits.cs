using System.Diagnostics;

namespace VirtioBlkFlow.Virtio.Blk;

/// <summary>How much one DISCARD, WRITE_ZEROES or SECURE_ERASE may ask for.</summary>
/// <param name="MaxSectors">Most sectors in a segment; 0 when the type is not offered.</param>
/// <param name="MaxSegments">Most segments in a request, at most <see cref="BlkLimits.MaxSegments"/>.</param>
public readonly record struct SegmentLimits(uint MaxSectors, uint MaxSegments)
{
    /// <summary>As the options take it: sectors, comma, segments.</summary>
    public override string ToString() => $"{MaxSectors},{MaxSegments}";
}

/// <summary>Zones, as far as a request can be checked without their states.</summary>
/// <param name="ZoneSectors">Sectors from the start of a zone to the next.</param>
/// <param name="MaxAppendSectors">Most sectors in a ZONE_APPEND; 0 if there is none.</param>
public readonly record struct ZoneLimits(uint ZoneSectors, uint MaxAppendSectors);

/// <summary>What a disk can take, as offered in features and configuration space; requests are checked against it.</summary>
/// <param name="CapacitySectors">Size in sectors of 512 bytes.</param>
/// <param name="LogicalBlockBytes">Requests must be multiples of this and aligned to it; a power of two, at least 512.</param>
/// <param name="ReadOnly">Whether anything that changes the disk is refused.</param>
public sealed record BlkLimits(ulong CapacitySectors, uint LogicalBlockBytes, bool ReadOnly)
{
    /// <summary>
    /// Segments a request may have at most, whatever is configured: what Linux sends at most (MAX_DISCARD_SEGMENTS of
    /// <c>drivers/block/virtio_blk.c</c>).
    /// </summary>
    public const int MaxSegments = 256;

    /// <summary>Limits of DISCARD; default when it is not offered.</summary>
    public SegmentLimits Discard { get; init; }

    /// <summary>Limits of WRITE_ZEROES; default when it is not offered.</summary>
    public SegmentLimits WriteZeroes { get; init; }

    /// <summary>Limits of SECURE_ERASE; default when it is not offered.</summary>
    public SegmentLimits SecureErase { get; init; }

    /// <summary>Whether GET_LIFETIME is offered.</summary>
    public bool HasLifetime { get; init; }

    /// <summary>Limits of zones; null when the disk has none.</summary>
    public ZoneLimits? Zones { get; init; }

    private uint BlockMask => LogicalBlockBytes - 1;

    /// <summary>Checks the range of an IN or OUT (VIRTIO 1.4, "Block Device", "Device Operation").</summary>
    /// <param name="sector">First sector.</param>
    /// <param name="lengthBytes">Bytes of data; 0 is fine, and does nothing.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public BlkStatus CheckTransfer(ulong sector, uint lengthBytes)
    {
        Debug.Assert(LogicalBlockBytes >= BlkRequest.SectorBytes, "A logical block holds at least one sector.");
        uint sectors = lengthBytes / BlkRequest.SectorBytes;
        bool aligned = (lengthBytes & BlockMask) == 0 && (sector & (BlockMask / BlkRequest.SectorBytes)) == 0;
        // Never sector + sectors: the guest chooses sector, and the sum could wrap.
        bool inside = sector <= CapacitySectors && sectors <= CapacitySectors - sector;
        return aligned && inside ? BlkStatus.VIRTIO_BLK_S_OK : BlkStatus.VIRTIO_BLK_S_IOERR;
    }

    /// <summary>Checks a ZONE_APPEND as far as that goes without the state of the zone.</summary>
    /// <param name="sector">First sector of the zone.</param>
    /// <param name="lengthBytes">Bytes of data.</param>
    /// <param name="answerBytes">Writable bytes before the status; the last eight take the sector.</param>
    public BlkStatus CheckAppend(ulong sector, uint lengthBytes, uint answerBytes)
    {
        BlkStatus status = CheckZone(sector);
        if (status != BlkStatus.VIRTIO_BLK_S_OK)
        {
            return status;
        }

        if (lengthBytes % BlkRequest.SectorBytes != 0 || (lengthBytes & BlockMask) != 0 || answerBytes < sizeof(ulong))
        {
            return BlkStatus.VIRTIO_BLK_S_IOERR;
        }

        uint maxSectors = Zones!.Value.MaxAppendSectors;
        return maxSectors == 0 ? BlkStatus.VIRTIO_BLK_S_UNSUPP
            : lengthBytes == 0 || lengthBytes / BlkRequest.SectorBytes > maxSectors ? BlkStatus.VIRTIO_BLK_S_ZONE_INVALID_CMD
            : BlkStatus.VIRTIO_BLK_S_OK;
    }

    /// <summary>Checks a request that changes a zone, as far as that goes without the zone's state.</summary>
    /// <param name="sector">A sector of the zone.</param>
    public BlkStatus CheckZone(ulong sector) => Zones is null ? BlkStatus.VIRTIO_BLK_S_UNSUPP
        : ReadOnly ? BlkStatus.VIRTIO_BLK_S_IOERR
        : sector >= CapacitySectors ? BlkStatus.VIRTIO_BLK_S_ZONE_INVALID_CMD
        : BlkStatus.VIRTIO_BLK_S_OK;

    /// <summary>Checks a ZONE_REPORT.</summary>
    /// <param name="sector">A sector of the first zone.</param>
    /// <param name="roomBytes">Writable bytes before the status.</param>
    /// <param name="reportBytes">What the report needs of them: the header, and every zone that fits whole.</param>
    public BlkStatus CheckReport(ulong sector, uint roomBytes, out uint reportBytes)
    {
        reportBytes = 0;
        if (Zones is not ZoneLimits zones)
        {
            return BlkStatus.VIRTIO_BLK_S_UNSUPP;
        }

        if (sector >= CapacitySectors || roomBytes < BlkZoneReportHeader.SizeBytes)
        {
            return BlkStatus.VIRTIO_BLK_S_ZONE_INVALID_CMD;
        }

        ulong left = ((CapacitySectors - 1) / zones.ZoneSectors) + 1 - (sector / zones.ZoneSectors);
        ulong fitting = (roomBytes - BlkZoneReportHeader.SizeBytes) / BlkZoneDescriptor.SizeBytes;
        reportBytes = (uint)(BlkZoneReportHeader.SizeBytes + (Math.Min(left, fitting) * BlkZoneDescriptor.SizeBytes));
        return BlkStatus.VIRTIO_BLK_S_OK;
    }

    /// <summary>
    /// Checks the segments of a DISCARD, WRITE_ZEROES or SECURE_ERASE, all of them before any is acted on. The order of the checks is the
    /// specification's: reserved flags are unsupported even if the range is bad as well (VIRTIO 1.4, "Block Device",
    /// "Device Requirements: Device Operation").
    /// </summary>
    /// <param name="type">Which of them.</param>
    /// <param name="listBytes">Length of the list as the driver sent it, in bytes.</param>
    /// <param name="segments">The segments that list holds, the first <see cref="MaxSegments"/> of them.</param>
    public BlkStatus CheckSegments(BlkRequestType type, uint listBytes, ReadOnlySpan<BlkSegment> segments)
    {
        SegmentLimits limits = type switch
        {
            BlkRequestType.VIRTIO_BLK_T_DISCARD => Discard,
            BlkRequestType.VIRTIO_BLK_T_WRITE_ZEROES => WriteZeroes,
            _ => SecureErase,
        };
        // On a read-only disk these are not even offered; who sends them nevertheless hears why nothing was written.
        if (ReadOnly)
        {
            return BlkStatus.VIRTIO_BLK_S_IOERR;
        }

        if (limits.MaxSectors == 0)
        {
            return BlkStatus.VIRTIO_BLK_S_UNSUPP;
        }

        if (listBytes == 0 || listBytes % BlkSegment.SizeBytes != 0)
        {
            return BlkStatus.VIRTIO_BLK_S_IOERR;
        }

        uint allowedFlags = type == BlkRequestType.VIRTIO_BLK_T_WRITE_ZEROES ? BlkSegment.UnmapFlag : 0;
        foreach (ref readonly BlkSegment segment in segments)
        {
            if ((segment.Flags & ~allowedFlags) != 0)
            {
                return BlkStatus.VIRTIO_BLK_S_UNSUPP;
            }
        }

        if (listBytes / BlkSegment.SizeBytes > limits.MaxSegments)
        {
            return BlkStatus.VIRTIO_BLK_S_IOERR;
        }

        ulong blockSectorMask = BlockMask / BlkRequest.SectorBytes;
        foreach (ref readonly BlkSegment segment in segments)
        {
            bool aligned = ((segment.Sector | segment.SectorCount) & blockSectorMask) == 0;
            bool inside = segment.Sector <= CapacitySectors && segment.SectorCount <= CapacitySectors - segment.Sector;
            if (!aligned || !inside || segment.SectorCount > limits.MaxSectors)
            {
                return BlkStatus.VIRTIO_BLK_S_IOERR;
            }
        }

        return BlkStatus.VIRTIO_BLK_S_OK;
    }
}
