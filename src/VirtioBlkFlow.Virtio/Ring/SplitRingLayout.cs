namespace VirtioBlkFlow.Virtio.Ring;

/// <summary>
/// Sizes and offsets of the three parts of a split virtqueue, in bytes (VIRTIO 1.4, "Split Virtqueues"). The event words
/// are part of the sizes whether or not EVENT_IDX is negotiated.
/// </summary>
public static class SplitRingLayout
{
    /// <summary>Largest queue size (VIRTIO 1.4, "Split Virtqueues"); sizes are powers of two.</summary>
    public const int MaxQueueSize = 32768;

    /// <summary>Alignment of the descriptor table.</summary>
    public const int DescriptorTableAlignment = 16;

    /// <summary>Alignment of the available ring.</summary>
    public const int AvailableRingAlignment = 2;

    /// <summary>Alignment of the used ring.</summary>
    public const int UsedRingAlignment = 4;

    /// <summary>Size of a descriptor.</summary>
    public const int DescriptorBytes = 16;

    /// <summary>Size of an element of the used ring: le32 id, le32 len.</summary>
    public const int UsedElementBytes = 8;

    /// <summary>Offset of <c>flags</c> in both rings.</summary>
    public const int FlagsOffset = 0;

    /// <summary>Offset of <c>idx</c> in both rings.</summary>
    public const int IndexOffset = 2;

    /// <summary>Offset of the first element in both rings.</summary>
    public const int RingOffset = 4;

    /// <summary>Bit 0 of <c>avail.flags</c>: the driver asks for no calls (only without EVENT_IDX).</summary>
    public const ushort VIRTQ_AVAIL_F_NO_INTERRUPT = 1;

    /// <summary>Bit 0 of <c>used.flags</c>: the device asks for no kicks (only without EVENT_IDX).</summary>
    public const ushort VIRTQ_USED_F_NO_NOTIFY = 1;

    /// <summary>Whether a queue of this size can exist.</summary>
    public static bool IsValidQueueSize(uint queueSize) =>
        queueSize is > 0 and <= MaxQueueSize && (queueSize & (queueSize - 1)) == 0;

    /// <summary>Size of the descriptor table.</summary>
    public static int DescriptorTableBytes(int queueSize) => DescriptorBytes * queueSize;

    /// <summary>Size of the available ring with <c>used_event</c>.</summary>
    public static int AvailableRingBytes(int queueSize) => RingOffset + (2 * queueSize) + 2;

    /// <summary>Size of the used ring with <c>avail_event</c>.</summary>
    public static int UsedRingBytes(int queueSize) => RingOffset + (UsedElementBytes * queueSize) + 2;

    /// <summary>Offset of <c>used_event</c> in the available ring.</summary>
    public static int UsedEventOffset(int queueSize) => RingOffset + (2 * queueSize);

    /// <summary>Offset of <c>avail_event</c> in the used ring.</summary>
    public static int AvailableEventOffset(int queueSize) => RingOffset + (UsedElementBytes * queueSize);

    /// <summary>
    /// <c>vring_need_event</c> of <c>linux/virtio_ring.h</c>: whether the index moved past the one the other side asked to hear of.
    /// All arithmetic is modulo 65536. Example: the index went from 65534 to 2 and the event is 0. Then
    /// (ushort)(2 − 0 − 1) = 1 is less than (ushort)(2 − 65534) = 4: index 0 was passed, so notify.
    /// </summary>
    public static bool NeedEvent(ushort eventIndex, ushort newIndex, ushort oldIndex) =>
        (ushort)(newIndex - eventIndex - 1) < (ushort)(newIndex - oldIndex);
}
