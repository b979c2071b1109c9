namespace VirtioBlkFlow.Disks.Memory;

/// <summary>
/// The memory of a disk. Used by all queues at once, without a lock: requests that overlap are the driver's to keep apart, as on any disk.
/// The caller keeps to the size.
/// </summary>
internal abstract unsafe class MemoryStore : IDisposable
{
    /// <summary>Fills pieces from an offset on.</summary>
    public abstract DiskOutcome Read(ulong offsetBytes, Iovec* pieces, int count, uint lengthBytes);

    /// <summary>Takes what is in the pieces.</summary>
    public abstract DiskOutcome Write(ulong offsetBytes, Iovec* pieces, int count, uint lengthBytes);

    /// <summary>Makes a range read as zeros.</summary>
    /// <param name="offsetBytes">First byte.</param>
    /// <param name="lengthBytes">Length in bytes, not 0.</param>
    /// <param name="deallocate">Memory that holds nothing else is given back to the host; otherwise it stays set aside, if it was.</param>
    public abstract DiskOutcome Clear(ulong offsetBytes, ulong lengthBytes, bool deallocate);

    /// <summary>Frees the memory. Nobody uses it any more.</summary>
    public abstract void Dispose();
}
