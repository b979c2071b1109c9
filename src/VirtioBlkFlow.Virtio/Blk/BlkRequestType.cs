namespace VirtioBlkFlow.Virtio.Blk;

/// <summary>Request types (VIRTIO 1.4, "Block Device", "Device Operation").</summary>
public enum BlkRequestType : uint
{
    /// <summary>Read.</summary>
    VIRTIO_BLK_T_IN = 0,

    /// <summary>Write.</summary>
    VIRTIO_BLK_T_OUT = 1,

    /// <summary>Make completed writes durable.</summary>
    VIRTIO_BLK_T_FLUSH = 4,

    /// <summary>The serial, 20 bytes.</summary>
    VIRTIO_BLK_T_GET_ID = 8,

    /// <summary>How worn the storage is: <see cref="BlkLifetime"/>.</summary>
    VIRTIO_BLK_T_GET_LIFETIME = 10,

    /// <summary>The data of these ranges is not needed any more.</summary>
    VIRTIO_BLK_T_DISCARD = 11,

    /// <summary>These ranges read as zeros from now on.</summary>
    VIRTIO_BLK_T_WRITE_ZEROES = 13,

    /// <summary>The data of these ranges can never be read again, copies included.</summary>
    VIRTIO_BLK_T_SECURE_ERASE = 14,

    /// <summary>Write at the write pointer of a zone, wherever that is; the answer says where it was.</summary>
    VIRTIO_BLK_T_ZONE_APPEND = 15,

    /// <summary>Describes zones: <see cref="BlkZoneReportHeader"/> and as many <see cref="BlkZoneDescriptor"/> as there is room for.</summary>
    VIRTIO_BLK_T_ZONE_REPORT = 16,

    /// <summary>Opens a zone explicitly.</summary>
    VIRTIO_BLK_T_ZONE_OPEN = 18,

    /// <summary>Closes an open zone.</summary>
    VIRTIO_BLK_T_ZONE_CLOSE = 20,

    /// <summary>Makes a zone full, whatever was written.</summary>
    VIRTIO_BLK_T_ZONE_FINISH = 22,

    /// <summary>Empties a zone.</summary>
    VIRTIO_BLK_T_ZONE_RESET = 24,

    /// <summary>Empties all zones.</summary>
    VIRTIO_BLK_T_ZONE_RESET_ALL = 26,
}

/// <summary>The status byte (VIRTIO 1.4, "Block Device", "Device Operation").</summary>
public enum BlkStatus : byte
{
    /// <summary>Done.</summary>
    VIRTIO_BLK_S_OK = 0,

    /// <summary>An error of the device or of the driver.</summary>
    VIRTIO_BLK_S_IOERR = 1,

    /// <summary>The request is not supported.</summary>
    VIRTIO_BLK_S_UNSUPP = 2,

    /// <summary>Zoned: the zone is in no state for this, or the request does not fit it.</summary>
    VIRTIO_BLK_S_ZONE_INVALID_CMD = 3,

    /// <summary>Zoned: a write that is not at the write pointer, or no multiple of the write granularity.</summary>
    VIRTIO_BLK_S_ZONE_UNALIGNED_WP = 4,

    /// <summary>Zoned: as many zones as can be are open.</summary>
    VIRTIO_BLK_S_ZONE_OPEN_RESOURCE = 5,

    /// <summary>Zoned: as many zones as can be are active.</summary>
    VIRTIO_BLK_S_ZONE_ACTIVE_RESOURCE = 6,
}

/// <summary>
/// One range of a DISCARD, WRITE_ZEROES or SECURE_ERASE: <c>struct virtio_blk_discard_write_zeroes</c>, 16 bytes.
/// </summary>
[StructLayout(LayoutKind.Sequential)]
public struct BlkSegment
{
    /// <summary>Size of the structure.</summary>
    public const int SizeBytes = 16;

    /// <summary>Bit 0 of <see cref="Flags"/>: the device may deallocate. Bits 1 to 31 are reserved.</summary>
    public const uint UnmapFlag = 1;

    /// <summary>First sector of 512 bytes.</summary>
    public ulong Sector;

    /// <summary>Sectors.</summary>
    public uint SectorCount;

    /// <summary><see cref="UnmapFlag"/> and reserved bits.</summary>
    public uint Flags;
}
