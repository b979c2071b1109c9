namespace VirtioBlkFlow.Virtio.Ring;

/// <summary>
/// Sizes, offsets and flags of a packed virtqueue, in bytes (VIRTIO 1.4, "Packed Virtqueues"; <c>linux/virtio_ring.h</c>).
/// </summary>
public static class PackedRingLayout
{
    /// <summary>Largest queue size; any size up to it will do (VIRTIO 1.4, "Packed Virtqueues", "Structure of the Virtqueue").</summary>
    public const int MaxQueueSize = 32768;

    /// <summary>Alignment of the descriptor ring.</summary>
    public const int DescriptorRingAlignment = 16;

    /// <summary>Alignment of both event suppression structures.</summary>
    public const int EventAreaAlignment = 4;

    /// <summary>Size of a descriptor: le64 addr, le32 len, le16 id, le16 flags.</summary>
    public const int DescriptorBytes = 16;

    /// <summary>Offset of <c>len</c> in a descriptor.</summary>
    public const int LengthOffset = 8;

    /// <summary>Offset of <c>id</c> in a descriptor.</summary>
    public const int IdOffset = 12;

    /// <summary>Offset of <c>flags</c> in a descriptor.</summary>
    public const int FlagsOffset = 14;

    /// <summary>Size of an event suppression structure: le16 off_wrap, le16 flags.</summary>
    public const int EventAreaBytes = 4;

    /// <summary>Bit 7 of a descriptor's flags: equal to the driver's wrap counter when it makes the descriptor available.</summary>
    public const ushort VIRTQ_DESC_F_AVAIL = 1 << 7;

    /// <summary>Bit 15 of a descriptor's flags: unequal to the wrap counter when made available, equal when used.</summary>
    public const ushort VIRTQ_DESC_F_USED = 1 << 15;

    /// <summary>Bit 15 of an offset: the wrap counter it belongs to.</summary>
    public const ushort WrapBit = 1 << 15;

    /// <summary>Event flags: notify always.</summary>
    public const ushort RING_EVENT_FLAGS_ENABLE = 0;

    /// <summary>Event flags: never notify.</summary>
    public const ushort RING_EVENT_FLAGS_DISABLE = 1;

    /// <summary>Event flags: notify when the descriptor at the offset is passed (only with EVENT_IDX).</summary>
    public const ushort RING_EVENT_FLAGS_DESC = 2;

    /// <summary>Mask of the event flags: the other bits are reserved.</summary>
    public const ushort EventFlagsMask = 3;

    /// <summary>Whether a queue of this size can exist.</summary>
    public static bool IsValidQueueSize(uint queueSize) => queueSize is > 0 and <= MaxQueueSize;

    /// <summary>Size of the descriptor ring.</summary>
    public static int DescriptorRingBytes(int queueSize) => DescriptorBytes * queueSize;

    /// <summary>
    /// Whether the descriptor the other side asked to hear of is among the last ones passed.
    /// </summary>
    /// <param name="eventPosition">What it wrote: bits 0-14 an offset, bit 15 the wrap counter that goes with it. Anything, if it is hostile.</param>
    /// <param name="next">Where we go on, in the same form.</param>
    /// <param name="passed">Descriptors we passed to get there, at most the queue size.</param>
    /// <param name="queueSize">Size of the ring, at most 32768.</param>
    /// <remarks>
    /// Offsets are laid out on a line first: with another wrap counter than ours the event lies one lap behind. Example: size 5, next is
    /// offset 1, passed are 3 descriptors, that is 3, 4 and 0, the event is 4 with the former wrap counter: at 4 − 5 = −1 on the line, and
    /// 1 − (−1) − 1 = 1 is less than 3, so notify. All arithmetic is modulo 65536, which is two laps of the largest ring.
    /// </remarks>
    public static bool NeedEvent(ushort eventPosition, ushort next, int passed, int queueSize)
    {
        int offset = eventPosition & ~WrapBit;
        if (((eventPosition ^ next) & WrapBit) != 0)
        {
            offset -= queueSize;
        }

        return (ushort)((next & ~WrapBit) - offset - 1) < passed;
    }
}
