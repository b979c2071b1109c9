namespace VirtioBlkFlow.Disks.Health;

/// <summary>Tells how a disk fares. Used by one thread at a time, never by one that serves requests.</summary>
public interface IHealthSource
{
    /// <summary>What it asks, for people.</summary>
    string Name { get; }

    /// <summary>Asks now. May block, as a device may have to be woken; does not throw: where nothing can be had, the reading says why.</summary>
    HealthReading Read();
}
