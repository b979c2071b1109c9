using VirtioBlkFlow.Disks.Health;

namespace VirtioBlkFlow.UnitTests.Disks.Health;

/// <summary>A source that tells what the test has it tell.</summary>
internal sealed class RecordedHealth : IHealthSource
{
    public string Name => "a test";

    public HealthReading Next { get; set; } = HealthReading.FromPercent(0, 100, 20);

    public HealthReading Read() => Next;
}
