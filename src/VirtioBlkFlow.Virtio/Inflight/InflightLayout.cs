namespace VirtioBlkFlow.Virtio.Inflight;

/// <summary>
/// Where the queues' records stand in the shared area (vhost-user, "Inflight I/O tracking"). The document leaves the distance between two
/// queues to the back-end; ours is the record rounded up to a cache line, so that two queues' threads never share one. A change of this
/// rule needs a new <see cref="Version"/>, as an older process of ours may have written the area.
/// </summary>
public static class InflightLayout
{
    /// <summary>The version this code writes and understands; 0 is an area nobody has used yet.</summary>
    public const ushort Version = 1;

    /// <summary>Largest size of a queue, split or packed (VIRTIO 1.4, "Split Virtqueues", "Packed Virtqueues").</summary>
    public const int MaxQueueSize = 32768;

    /// <summary>Alignment a record needs, in bytes: its 8-byte fields are stored whole.</summary>
    public const int Alignment = 8;

    // A cache line of x86-64 and of most arm64 processors, in bytes.
    private const int StrideAlignment = 64;

    /// <summary>Bytes one queue takes, with the room to the next one.</summary>
    /// <param name="packed">Whether VIRTIO_F_RING_PACKED is negotiated.</param>
    /// <param name="queueSize">Entries of the queue, 1 to <see cref="MaxQueueSize"/>.</param>
    /// <exception cref="ArgumentOutOfRangeException">No queue has that size.</exception>
    public static int BytesPerQueue(bool packed, int queueSize)
    {
        int bytes = RecordBytes(packed, queueSize);
        return (bytes + StrideAlignment - 1) & ~(StrideAlignment - 1);
    }

    /// <summary>Bytes of an area for a number of queues of one size.</summary>
    /// <exception cref="ArgumentOutOfRangeException">No queue has that size, or the number is negative.</exception>
    public static long TotalBytes(bool packed, int queueSize, int queueCount)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(queueCount);
        return (long)BytesPerQueue(packed, queueSize) * queueCount;
    }

    /// <summary>Offset in bytes of one queue's record in the area.</summary>
    /// <exception cref="ArgumentOutOfRangeException">No queue has that size, or the index is negative.</exception>
    public static long Offset(bool packed, int queueSize, int queueIndex) => TotalBytes(packed, queueSize, queueIndex);

    /// <summary>Bytes of a record itself: header and entries.</summary>
    internal static int RecordBytes(bool packed, int queueSize)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(queueSize, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(queueSize, MaxQueueSize);
        return packed
            ? Unsafe.SizeOf<PackedInflightHeader>() + (queueSize * Unsafe.SizeOf<PackedInflightEntry>())
            : Unsafe.SizeOf<SplitInflightHeader>() + (queueSize * Unsafe.SizeOf<SplitInflightEntry>());
    }

    /// <summary>What is wrong with the place of a record, before a byte of it is read.</summary>
    internal static InflightDefect CheckPlace(bool packed, nint address, ulong lengthBytes, int queueSize) =>
        lengthBytes < (ulong)RecordBytes(packed, queueSize) ? InflightDefect.TooShort
        : address % Alignment != 0 ? InflightDefect.Misaligned
        : InflightDefect.None;
}
