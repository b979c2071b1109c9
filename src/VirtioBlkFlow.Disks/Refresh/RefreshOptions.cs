using VirtioBlkFlow.Disks.Engine;

namespace VirtioBlkFlow.Disks.Refresh;

/// <summary>How a disk is refreshed.</summary>
/// <param name="BytesPerSecond">Bytes that are read in a second at most; as many are written at most if it rewrites.</param>
/// <param name="Engine">Who does the I/O.</param>
public sealed record RefreshOptions(ulong BytesPerSecond, IoEngineKind Engine)
{
    /// <summary>Why nothing may be rewritten, with the remedy; null if it may.</summary>
    public string? ObstacleToRewrite { get; init; }

    /// <summary>Whether something may be rewritten just now; asked before each piece. Null for always.</summary>
    public Func<bool>? MayRewriteNow { get; init; }

    /// <summary>Hears what there is to say; on the thread of the refresh.</summary>
    public Action<RefreshNotice>? Noticed { get; init; }

    /// <summary>
    /// How long the guest has to be quiet. Arbitrary: longer than the gaps in a burst of requests, shorter than those of a guest that
    /// writes its log ten times a second.
    /// </summary>
    internal TimeSpan Quiet { get; init; } = TimeSpan.FromMilliseconds(20);

    /// <summary>Whether it begins anew at the end, for tests that need it to go on.</summary>
    internal bool Repeats { get; init; }
}

/// <summary>What there is to say about a refresh.</summary>
public enum RefreshNoticeKind
{
    /// <summary>A range cannot be read.</summary>
    Unreadable,

    /// <summary>A range could not be written again; nothing more is rewritten.</summary>
    NotRewritten,

    /// <summary>It has come to the end of the disk.</summary>
    Finished,

    /// <summary>It could not go on.</summary>
    Failed,
}

/// <summary>Something to say about a refresh.</summary>
/// <param name="Kind">What.</param>
/// <param name="OffsetBytes">Where the range begins.</param>
/// <param name="LengthBytes">How long it is.</param>
/// <param name="Status">How far it has got.</param>
public sealed record RefreshNotice(RefreshNoticeKind Kind, ulong OffsetBytes, ulong LengthBytes, RefreshStatus Status);
