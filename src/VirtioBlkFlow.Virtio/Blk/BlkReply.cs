namespace VirtioBlkFlow.Virtio.Blk;

/// <summary>Where the answer to a request goes: what is left of it once the disk has the rest.</summary>
public unsafe struct BlkReply
{
    private readonly byte* _status;
    private readonly uint _dataInBytes;

    /// <summary>Creates a reply.</summary>
    /// <param name="status">Where the status byte goes; null if there is none to write.</param>
    /// <param name="dataInBytes">Writable bytes before it.</param>
    public BlkReply(byte* status, uint dataInBytes)
    {
        _status = status;
        _dataInBytes = dataInBytes;
    }

    /// <summary>
    /// Writes the status byte; the one place that does.
    /// </summary>
    /// <param name="status">The status.</param>
    /// <param name="dataInWritten">Bytes written to the request's data from its start without a gap.</param>
    /// <returns>
    /// The used length: bytes written from the first writable byte on without a gap. The status counts only if nothing before it
    /// was left unwritten (VIRTIO 1.4, "The Virtqueue Used Ring": a device may report less than it wrote, never more).
    /// </returns>
    public readonly uint Finish(BlkStatus status, uint dataInWritten)
    {
        if (_status == null)
        {
            return 0;
        }

        *_status = (byte)status;
        return dataInWritten == _dataInBytes ? dataInWritten + 1 : dataInWritten;
    }
}
