namespace VirtioBlkFlow.Virtio.Blk;

/// <summary>Kinds of zoned devices (VIRTIO 1.4, "Block Device", "Device configuration layout").</summary>
public enum BlkZoneModel : byte
{
    /// <summary>No zones.</summary>
    VIRTIO_BLK_Z_NONE = 0,

    /// <summary>Host-managed: the driver must write sequentially.</summary>
    VIRTIO_BLK_Z_HM = 1,

    /// <summary>Host-aware: it should.</summary>
    VIRTIO_BLK_Z_HA = 2,
}

/// <summary>Types of zones (VIRTIO 1.4, "Block Device", "Device Operation").</summary>
public enum BlkZoneType : byte
{
    /// <summary>Conventional: written anywhere.</summary>
    VIRTIO_BLK_ZT_CONV = 1,

    /// <summary>Sequential write required.</summary>
    VIRTIO_BLK_ZT_SWR = 2,

    /// <summary>Sequential write preferred.</summary>
    VIRTIO_BLK_ZT_SWP = 3,
}

/// <summary>States of zones (VIRTIO 1.4, "Block Device", "Device Operation").</summary>
public enum BlkZoneState : byte
{
    /// <summary>No write pointer: conventional.</summary>
    VIRTIO_BLK_ZS_NOT_WP = 0,

    /// <summary>Nothing was written since the last reset.</summary>
    VIRTIO_BLK_ZS_EMPTY = 1,

    /// <summary>Opened by a write.</summary>
    VIRTIO_BLK_ZS_IOPEN = 2,

    /// <summary>Opened by ZONE_OPEN.</summary>
    VIRTIO_BLK_ZS_EOPEN = 3,

    /// <summary>Written to, not open.</summary>
    VIRTIO_BLK_ZS_CLOSED = 4,

    /// <summary>Can be read only.</summary>
    VIRTIO_BLK_ZS_RDONLY = 13,

    /// <summary>No more can be written.</summary>
    VIRTIO_BLK_ZS_FULL = 14,

    /// <summary>Can neither be read nor written.</summary>
    VIRTIO_BLK_ZS_OFFLINE = 15,
}

/// <summary>Beginning of a zone report: <c>struct virtio_blk_zone_report</c>, 64 bytes.</summary>
[StructLayout(LayoutKind.Explicit, Size = SizeBytes)]
public struct BlkZoneReportHeader
{
    /// <summary>Size of the structure.</summary>
    public const int SizeBytes = 64;

    /// <summary>Descriptors that follow.</summary>
    [FieldOffset(0)]
    public ulong ZoneCount;
}

/// <summary>A zone in a report: <c>struct virtio_blk_zone_descriptor</c>, 64 bytes. Sectors have 512 bytes.</summary>
[StructLayout(LayoutKind.Explicit, Size = SizeBytes)]
public struct BlkZoneDescriptor
{
    /// <summary>Size of the structure.</summary>
    public const int SizeBytes = 64;

    /// <summary>Sectors that can be written, from the start of the zone.</summary>
    [FieldOffset(0)]
    public ulong CapacitySectors;

    /// <summary>First sector of the zone.</summary>
    [FieldOffset(8)]
    public ulong StartSector;

    /// <summary>Sector of the next write; undefined where there is none.</summary>
    [FieldOffset(16)]
    public ulong WritePointerSector;

    /// <summary>Type.</summary>
    [FieldOffset(24)]
    public BlkZoneType Type;

    /// <summary>State.</summary>
    [FieldOffset(25)]
    public BlkZoneState State;
}
