using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.Device;

/// <summary>
/// The limits that hold now. Replaced as a whole by the device's actor when the disk changes its size; read by every queue's thread, which
/// sees new ones at the next batch it parses.
/// </summary>
internal sealed class ServedLimits(BlkLimits limits)
{
    private volatile BlkLimits _current = limits;
    private ulong _largestCapacitySectors = limits.CapacitySectors;

    public BlkLimits Current
    {
        get => _current;
        set
        {
            Volatile.Write(ref _largestCapacitySectors, Math.Max(_largestCapacitySectors, value.CapacitySectors));
            _current = value;
        }
    }

    /// <summary>The largest capacity there ever was, in sectors: nobody was ever told of more.</summary>
    public ulong LargestCapacitySectors => Volatile.Read(ref _largestCapacitySectors);

    /// <summary>Segments of the largest request that is offered; does not change with the size.</summary>
    public int MaxSegments { get; } = (int)Math.Max(1, Math.Max(limits.Discard.MaxSegments, Math.Max(limits.WriteZeroes.MaxSegments, limits.SecureErase.MaxSegments)));
}
