using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.Virtio.Migration;

/// <summary>
/// Marks what the device writes into a split virtqueue's used ring, at the address the front-end gave for it (vhost-user, "Migration",
/// <c>log_guest_addr</c>), which need not lie in any region. Each call comes after the write it is about.
/// </summary>
public sealed class SplitRingLog
{
    private readonly DirtyLog _log;
    private readonly ulong _address;
    private readonly int _queueSize;

    /// <summary>Takes up the logging of a ring.</summary>
    /// <param name="log">The log.</param>
    /// <param name="logAddress">Guest-physical address of the used ring.</param>
    /// <param name="queueSize">Entries of the queue: a power of two.</param>
    public SplitRingLog(DirtyLog log, ulong logAddress, int queueSize)
    {
        _log = log;
        _address = logAddress;
        _queueSize = queueSize;
    }

    /// <summary>Marks a used element.</summary>
    /// <param name="usedIndex">Its running index, modulo 65536.</param>
    public DirtyOutcome MarkElement(ushort usedIndex) => Mark(
        SplitRingLayout.RingOffset + (SplitRingLayout.UsedElementBytes * (usedIndex & (_queueSize - 1))), SplitRingLayout.UsedElementBytes);

    /// <summary>Marks <c>used.idx</c>.</summary>
    public DirtyOutcome MarkIndex() => Mark(SplitRingLayout.IndexOffset, sizeof(ushort));

    /// <summary>Marks <c>used.flags</c>.</summary>
    public DirtyOutcome MarkFlags() => Mark(SplitRingLayout.FlagsOffset, sizeof(ushort));

    /// <summary>Marks <c>avail_event</c>.</summary>
    public DirtyOutcome MarkAvailableEvent() => Mark(SplitRingLayout.AvailableEventOffset(_queueSize), sizeof(ushort));

    private DirtyOutcome Mark(int offset, int lengthBytes) => _log.MarkAt(_address, (ulong)offset, (ulong)lengthBytes);
}
