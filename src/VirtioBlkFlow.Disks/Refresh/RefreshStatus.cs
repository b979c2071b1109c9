namespace VirtioBlkFlow.Disks.Refresh;

/// <summary>What a refresh is doing.</summary>
public enum RefreshState
{
    /// <summary>There was none yet.</summary>
    None,

    /// <summary>It is under way.</summary>
    Running,

    /// <summary>It has come to the end of the disk.</summary>
    Finished,

    /// <summary>It was told to stop.</summary>
    Stopped,

    /// <summary>It could not go on; <see cref="RefreshStatus.Error"/> says why.</summary>
    Failed,
}

/// <summary>A range of a disk.</summary>
/// <param name="OffsetBytes">First byte.</param>
/// <param name="LengthBytes">Length in bytes.</param>
public readonly record struct DiskExtent(ulong OffsetBytes, ulong LengthBytes);

/// <summary>How far a refresh has got. Immutable; replaced as it goes on.</summary>
public sealed record RefreshStatus
{
    /// <summary>Ranges that are kept one by one. Arbitrary; the bytes of all are counted.</summary>
    public const int MostUnreadable = 64;

    /// <summary>What it is doing.</summary>
    public RefreshState State { get; init; }

    /// <summary>Whether what was read is written again.</summary>
    public bool Rewrites { get; init; }

    /// <summary>Everything before this was looked at, in bytes.</summary>
    public ulong PositionBytes { get; init; }

    /// <summary>Bytes that could be read.</summary>
    public ulong ReadBytes { get; init; }

    /// <summary>Bytes that were written again; blocks of zeros are not.</summary>
    public ulong RewrittenBytes { get; init; }

    /// <summary>Bytes that could not be read.</summary>
    public ulong UnreadableBytes { get; init; }

    /// <summary>The first of the ranges that could not be read.</summary>
    public IReadOnlyList<DiskExtent> Unreadable { get; init; } = [];

    /// <summary>How often it found the guest at work and waited.</summary>
    public long Pauses { get; init; }

    /// <summary>Why nothing is rewritten any more, or why it could not go on; null if nothing is wrong.</summary>
    public string? Error { get; init; }
}
