using VirtioBlkFlow.Disks.Health;

namespace VirtioBlkFlow.Daemon.Specs;

/// <summary>What tells of a disk's health.</summary>
internal enum HealthOrigin
{
    /// <summary>The device itself, where it does.</summary>
    Device,

    /// <summary>Nothing.</summary>
    Off,

    /// <summary>A file.</summary>
    File,
}

/// <summary>What the operator wants to be done about a disk's health.</summary>
internal sealed record HealthSpec
{
    public HealthOrigin Origin { get; init; }

    /// <summary>The file.</summary>
    public string? Path { get; init; }

    public IReadOnlyList<HealthLimit> Warn { get; init; } = [];

    public IReadOnlyList<HealthLimit> ReadOnly { get; init; } = [];

    /// <summary>Time from one reading to the next; null for the usual one.</summary>
    public TimeSpan? Interval { get; init; }

    /// <summary>Whether anything is to be done about it.</summary>
    public bool HasPolicy => Origin != HealthOrigin.Off && Warn.Count + ReadOnly.Count > 0;
}
