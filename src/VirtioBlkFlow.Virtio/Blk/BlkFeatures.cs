namespace VirtioBlkFlow.Virtio.Blk;

/// <summary>Feature bits of the block device (VIRTIO 1.4, "Block Device", "Feature bits").</summary>
[Flags]
public enum BlkFeatures : ulong
{
    /// <summary>None.</summary>
    None = 0,

    /// <summary><see cref="BlkConfig.SizeMax"/> is valid.</summary>
    VIRTIO_BLK_F_SIZE_MAX = 1UL << 1,

    /// <summary><see cref="BlkConfig.SegMax"/> is valid.</summary>
    VIRTIO_BLK_F_SEG_MAX = 1UL << 2,

    /// <summary><see cref="BlkConfig.Cylinders"/>, heads and sectors are valid.</summary>
    VIRTIO_BLK_F_GEOMETRY = 1UL << 4,

    /// <summary>The device is read-only.</summary>
    VIRTIO_BLK_F_RO = 1UL << 5,

    /// <summary><see cref="BlkConfig.BlkSize"/> is valid.</summary>
    VIRTIO_BLK_F_BLK_SIZE = 1UL << 6,

    /// <summary>FLUSH is supported.</summary>
    VIRTIO_BLK_F_FLUSH = 1UL << 9,

    /// <summary>The topology fields are valid.</summary>
    VIRTIO_BLK_F_TOPOLOGY = 1UL << 10,

    /// <summary><see cref="BlkConfig.Writeback"/> can be read and written.</summary>
    VIRTIO_BLK_F_CONFIG_WCE = 1UL << 11,

    /// <summary><see cref="BlkConfig.NumQueues"/> is valid.</summary>
    VIRTIO_BLK_F_MQ = 1UL << 12,

    /// <summary>DISCARD is supported.</summary>
    VIRTIO_BLK_F_DISCARD = 1UL << 13,

    /// <summary>WRITE_ZEROES is supported.</summary>
    VIRTIO_BLK_F_WRITE_ZEROES = 1UL << 14,

    /// <summary>GET_LIFETIME is supported.</summary>
    VIRTIO_BLK_F_LIFETIME = 1UL << 15,

    /// <summary>SECURE_ERASE is supported.</summary>
    VIRTIO_BLK_F_SECURE_ERASE = 1UL << 16,

    /// <summary>The device has zones.</summary>
    VIRTIO_BLK_F_ZONED = 1UL << 17,
}
