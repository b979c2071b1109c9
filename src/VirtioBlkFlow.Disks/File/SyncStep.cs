using VirtioBlkFlow.Disks.Engine;
using static VirtioBlkFlow.Disks.LibC;

namespace VirtioBlkFlow.Disks.File;

/// <summary>
/// The step of a request that makes a file durable: begun again when it is interrupted; its success counts only as long as no sync of the
/// disk has ever failed. Owned by the queue's thread.
/// </summary>
/// <param name="disk">Whose durability it is about.</param>
/// <param name="engine">Does the queue's I/O.</param>
/// <param name="file">What is synced: the engine's number of it.</param>
/// <param name="slotCount">Slots are numbered from 0 below this.</param>
internal sealed class SyncStep(FileDisk disk, IIoEngine engine, int file, int slotCount)
{
    // EAGAIN and EINTR that are answered by trying again. Arbitrary; it only has to end.
    private const int MaxRetries = 16;

    private readonly byte[] _retries = new byte[slotCount];

    /// <summary>Starts the sync of a slot.</summary>
    /// <returns>False if durability is lost already, and nothing was started.</returns>
    public bool TryStart(int slot)
    {
        if (disk.DurabilityLost)
        {
            return false;
        }

        _retries[slot] = 0;
        engine.Fdatasync(file, (uint)slot);
        return true;
    }

    /// <summary>The operation has ended.</summary>
    /// <returns>How the sync ended; null if it has begun anew.</returns>
    public DiskOutcome? End(int slot, int result)
    {
        if (result is -EAGAIN or -EINTR && _retries[slot]++ < MaxRetries)
        {
            engine.Fdatasync(file, (uint)slot);
            return null;
        }

        if (result < 0)
        {
            disk.LoseDurability();
        }

        // Of two syncs at once one hears of an error that concerns both, and the other one's success means nothing.
        return disk.DurabilityLost ? DiskOutcome.Failed : DiskOutcome.Done;
    }
}
