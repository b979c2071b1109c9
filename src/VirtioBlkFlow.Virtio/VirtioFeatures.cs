namespace VirtioBlkFlow.Virtio;

/// <summary>
/// Feature bits of rings and transport (VIRTIO 1.4, "Reserved Feature Bits"). Device-type bits are in
/// <see cref="Blk.BlkFeatures"/>.
/// </summary>
[Flags]
public enum VirtioFeatures : ulong
{
    /// <summary>None.</summary>
    None = 0,

    /// <summary>Descriptors may point to a table of descriptors.</summary>
    VIRTIO_RING_F_INDIRECT_DESC = 1UL << 28,

    /// <summary>Both sides say by index when they want to be notified (used_event, avail_event).</summary>
    VIRTIO_RING_F_EVENT_IDX = 1UL << 29,

    /// <summary>The modern device; the only one we serve.</summary>
    VIRTIO_F_VERSION_1 = 1UL << 32,

    /// <summary>The packed virtqueue layout.</summary>
    VIRTIO_F_RING_PACKED = 1UL << 34,

    /// <summary>Buffers are used in the order they were made available.</summary>
    VIRTIO_F_IN_ORDER = 1UL << 35,
}
