namespace VirtioBlkFlow.UnitTests.Disks;

/// <summary>A clock that a test moves.</summary>
internal sealed class ManualClock : TimeProvider
{
    public long NowNs { get; set; } = 1_000_000_000;

    public override long TimestampFrequency => 1_000_000_000;

    public override long GetTimestamp() => NowNs;
}
