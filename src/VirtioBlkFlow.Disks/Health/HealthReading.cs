using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.Disks.Health;

/// <summary>What a source tells of a disk at one time; null is what it does not tell. Immutable, so that one thread can read what another replaces.</summary>
public sealed record HealthReading
{
    /// <summary>Nothing is known.</summary>
    public static HealthReading Nothing { get; } = new();

    /// <summary>
    /// Life used up, in percent, at least: a device that tells steps of ten is at the beginning of its step. 100 is all of it; some devices go
    /// on counting.
    /// </summary>
    public int? WearPercent { get; init; }

    /// <summary>Reserved blocks that are left, in percent, at most: of steps the end with more of them.</summary>
    public int? SparePercent { get; init; }

    /// <summary>Temperature in degrees Celsius, rounded.</summary>
    public int? TemperatureCelsius { get; init; }

    /// <summary>As a driver gets it.</summary>
    public DiskLifetime? Lifetime { get; init; }

    /// <summary>Why nothing could be read; null if something was.</summary>
    public string? Obstacle { get; init; }

    /// <summary>Whether anything is known.</summary>
    public bool IsAnything => (WearPercent ?? SparePercent ?? TemperatureCelsius) is not null || Lifetime is { IsDefined: true };

    /// <summary>A reading of a device that counts in percent.</summary>
    public static HealthReading FromPercent(int? wear, int? spare, int? temperatureCelsius, bool isUrgent = false)
    {
        DiskLifetime lifetime = DiskLifetime.FromPercent(wear, spare, isUrgent);
        return new HealthReading
        {
            WearPercent = wear,
            SparePercent = spare,
            TemperatureCelsius = temperatureCelsius,
            Lifetime = lifetime.IsDefined ? lifetime : null,
        };
    }

    /// <summary>This, and where it tells nothing what was known before: what a device does not tell now is still as it was.</summary>
    public HealthReading After(HealthReading before) => this with
    {
        WearPercent = WearPercent ?? before.WearPercent,
        SparePercent = SparePercent ?? before.SparePercent,
        TemperatureCelsius = TemperatureCelsius ?? before.TemperatureCelsius,
        Lifetime = Lifetime is null ? before.Lifetime : before.Lifetime is null ? Lifetime : After(Lifetime.Payload, before.Lifetime.Payload),
    };

    // A device may tell one value, and not the other.
    private static DiskLifetime After(BlkLifetime now, BlkLifetime before) => new(
        now.PreEolInfo == 0 ? before.PreEolInfo : now.PreEolInfo,
        now.EstimateA == 0 ? before.EstimateA : now.EstimateA,
        now.EstimateB == 0 ? before.EstimateB : now.EstimateB);
}
