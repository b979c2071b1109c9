namespace VirtioBlkFlow.Virtio.Blk;

/// <summary>
/// The configuration space: <c>struct virtio_blk_config</c>, 96 bytes, little-endian (VIRTIO 1.4, "Block Device", "Device
/// configuration layout"; <c>linux/virtio_blk.h</c>).
/// </summary>
[StructLayout(LayoutKind.Explicit, Size = SizeBytes)]
public struct BlkConfig
{
    /// <summary>Size of the structure.</summary>
    public const int SizeBytes = 96;

    /// <summary>Offset of <see cref="Writeback"/>, the only field a driver may write.</summary>
    public const int WritebackOffset = 32;

    /// <summary>Size of the disk in sectors of 512 bytes.</summary>
    [FieldOffset(0)]
    public ulong Capacity;

    /// <summary>Largest segment in bytes.</summary>
    [FieldOffset(8)]
    public uint SizeMax;

    /// <summary>Most data segments in a request, header and status not counted.</summary>
    [FieldOffset(12)]
    public uint SegMax;

    /// <summary>Cylinders of the legacy geometry.</summary>
    [FieldOffset(16)]
    public ushort Cylinders;

    /// <summary>Heads of the legacy geometry.</summary>
    [FieldOffset(18)]
    public byte Heads;

    /// <summary>Sectors on a track of the legacy geometry.</summary>
    [FieldOffset(19)]
    public byte SectorsPerTrack;

    /// <summary>Logical block size in bytes; a hint, all sector numbers stay in 512-byte units.</summary>
    [FieldOffset(20)]
    public uint BlkSize;

    /// <summary>log2 of logical blocks per physical block.</summary>
    [FieldOffset(24)]
    public byte PhysicalBlockExp;

    /// <summary>Logical block the first physical one starts at.</summary>
    [FieldOffset(25)]
    public byte AlignmentOffset;

    /// <summary>Suggested smallest transfer in logical blocks.</summary>
    [FieldOffset(26)]
    public ushort MinIoSize;

    /// <summary>Suggested best transfer in logical blocks.</summary>
    [FieldOffset(28)]
    public uint OptIoSize;

    /// <summary>0 writethrough, 1 writeback.</summary>
    [FieldOffset(WritebackOffset)]
    public byte Writeback;

    /// <summary>Request queues.</summary>
    [FieldOffset(34)]
    public ushort NumQueues;

    /// <summary>Most sectors in one DISCARD segment.</summary>
    [FieldOffset(36)]
    public uint MaxDiscardSectors;

    /// <summary>Most segments in one DISCARD.</summary>
    [FieldOffset(40)]
    public uint MaxDiscardSeg;

    /// <summary>Alignment in sectors a driver should split a DISCARD at.</summary>
    [FieldOffset(44)]
    public uint DiscardSectorAlignment;

    /// <summary>Most sectors in one WRITE_ZEROES segment.</summary>
    [FieldOffset(48)]
    public uint MaxWriteZeroesSectors;

    /// <summary>Most segments in one WRITE_ZEROES.</summary>
    [FieldOffset(52)]
    public uint MaxWriteZeroesSeg;

    /// <summary>1 if a WRITE_ZEROES with unmap may deallocate.</summary>
    [FieldOffset(56)]
    public byte WriteZeroesMayUnmap;

    /// <summary>Most sectors in one SECURE_ERASE segment.</summary>
    [FieldOffset(60)]
    public uint MaxSecureEraseSectors;

    /// <summary>Most segments in one SECURE_ERASE.</summary>
    [FieldOffset(64)]
    public uint MaxSecureEraseSeg;

    /// <summary>Alignment in sectors of a SECURE_ERASE.</summary>
    [FieldOffset(68)]
    public uint SecureEraseSectorAlignment;

    /// <summary>Sectors in a zone; only the last may have fewer.</summary>
    [FieldOffset(72)]
    public uint ZoneSectors;

    /// <summary>Most open zones; 0 for no limit.</summary>
    [FieldOffset(76)]
    public uint MaxOpenZones;

    /// <summary>Most active zones; 0 for no limit.</summary>
    [FieldOffset(80)]
    public uint MaxActiveZones;

    /// <summary>Most sectors in one ZONE_APPEND; 0 if there is none.</summary>
    [FieldOffset(84)]
    public uint MaxAppendSectors;

    /// <summary>Size and alignment of writes to sequential zones, in bytes.</summary>
    [FieldOffset(88)]
    public uint WriteGranularity;

    /// <summary>Kind of zoned device: <see cref="BlkZoneModel"/>.</summary>
    [FieldOffset(92)]
    public BlkZoneModel ZoneModel;
}
