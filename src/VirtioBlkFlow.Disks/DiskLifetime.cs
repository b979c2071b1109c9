using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.Disks;

/// <summary>How worn a disk is. Immutable, so that one thread can read what another replaces.</summary>
public sealed record DiskLifetime
{
    /// <summary>Keeps what is defined; a value the specification reserves becomes 0, undefined.</summary>
    /// <param name="preEolInfo">Reserved blocks used up: see <see cref="BlkLifetime.PreEolInfo"/>.</param>
    /// <param name="estimateA">See <see cref="BlkLifetime.EstimateA"/>.</param>
    /// <param name="estimateB">See <see cref="BlkLifetime.EstimateB"/>.</param>
    public DiskLifetime(uint preEolInfo, uint estimateA, uint estimateB) => Payload = new BlkLifetime
    {
        PreEolInfo = Defined(preEolInfo, BlkLifetime.MaxPreEolInfo),
        EstimateA = Defined(estimateA, BlkLifetime.MaxEstimate),
        EstimateB = Defined(estimateB, BlkLifetime.MaxEstimate),
    };

    /// <summary>As a driver gets it.</summary>
    public BlkLifetime Payload { get; }

    /// <summary>Whether it says anything.</summary>
    public bool IsDefined => (Payload.PreEolInfo | Payload.EstimateA | Payload.EstimateB) != 0;

    private static ushort Defined(uint value, ushort largest) => value <= largest ? (ushort)value : (ushort)0;
}
