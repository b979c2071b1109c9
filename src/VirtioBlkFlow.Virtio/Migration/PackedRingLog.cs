namespace VirtioBlkFlow.Virtio.Migration;

/// <summary>
/// Marks what the device writes into a packed virtqueue. The vhost-user document does not say what its log address means for one. QEMU
/// passes the address of the device event area, and for the descriptor ring there is none: so what is marked is the true guest-physical
/// address of each write, and for the event area the log address as well. Each call comes after the write it is about.
/// </summary>
public sealed class PackedRingLog
{
    private const int DescriptorBytes = 16;
    private const int EventAreaBytes = 4;

    private readonly DirtyLog _log;
    private readonly ulong _logAddress;
    private readonly ulong? _ringAddress;
    private readonly ulong? _eventAddress;
    private readonly int _queueSize;

    /// <summary>Takes up the logging of a ring.</summary>
    /// <param name="log">The log.</param>
    /// <param name="logAddress">What the front-end gave for the ring.</param>
    /// <param name="memory">Guest memory, which has the ring in it.</param>
    /// <param name="descriptorRing">Host address of the descriptor ring.</param>
    /// <param name="deviceEventArea">Host address of the device event suppression area.</param>
    /// <param name="queueSize">Entries of the queue, not 0.</param>
    public PackedRingLog(DirtyLog log, ulong logAddress, GuestMemory memory, nint descriptorRing, nint deviceEventArea, int queueSize)
    {
        _log = log;
        _logAddress = logAddress;
        _queueSize = queueSize;
        _ringAddress = memory.TryToGuest(descriptorRing, (ulong)queueSize * DescriptorBytes, out ulong ring) ? ring : null;
        _eventAddress = memory.TryToGuest(deviceEventArea, EventAreaBytes, out ulong area) ? area : null;
    }

    /// <summary>Marks a descriptor.</summary>
    /// <param name="offset">Its index in the ring.</param>
    public DirtyOutcome MarkDescriptor(ushort offset) =>
        _ringAddress is { } ring ? _log.MarkAt(ring, (ulong)offset * DescriptorBytes, DescriptorBytes) : DirtyOutcome.OutOfRange;

    /// <summary>Marks the whole descriptor ring.</summary>
    public DirtyOutcome MarkRing() =>
        _ringAddress is { } ring ? _log.Mark(ring, (ulong)_queueSize * DescriptorBytes) : DirtyOutcome.OutOfRange;

    /// <summary>Marks the device event suppression area.</summary>
    public DirtyOutcome MarkDeviceEvent()
    {
        DirtyOutcome atLogAddress = _log.Mark(_logAddress, EventAreaBytes);
        DirtyOutcome atTrueAddress = _eventAddress is { } area ? _log.Mark(area, EventAreaBytes) : DirtyOutcome.OutOfRange;
        return atLogAddress | atTrueAddress;
    }
}
