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

    /// <summary>
    /// Of a device that counts in percent, as NVMe does (NVM Express Base Specification, "SMART / Health Information": Percentage Used, Available
    /// Spare). It does not tell kinds of cells apart, so estimate B stays undefined.
    /// </summary>
    /// <param name="wear">Life used up; null if unknown. All of it is the last step, and only what is beyond it exceeds the lifetime.</param>
    /// <param name="spare">Reserved blocks left; null if unknown.</param>
    /// <param name="isUrgent">Whether the device itself says that too few are left.</param>
    public static DiskLifetime FromPercent(int? wear, int? spare, bool isUrgent) => new(
        isUrgent ? 3
            : spare switch
            {
                null => 0,
                > 20 => 1u,
                > 10 => 2,
                _ => 3,
            },
        wear switch
        {
            null => 0,
            > 100 => BlkLifetime.MaxEstimate,
            100 => 10,
            _ => (uint)(wear.Value / 10) + 1,
        },
        0);

    /// <summary>As a driver gets it.</summary>
    public BlkLifetime Payload { get; }

    /// <summary>Whether it says anything.</summary>
    public bool IsDefined => (Payload.PreEolInfo | Payload.EstimateA | Payload.EstimateB) != 0;

    private static ushort Defined(uint value, ushort largest) => value <= largest ? (ushort)value : (ushort)0;
}
