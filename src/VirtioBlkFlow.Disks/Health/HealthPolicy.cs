namespace VirtioBlkFlow.Disks.Health;

/// <summary>What there is to say about a disk's health.</summary>
public enum HealthNoticeKind
{
    /// <summary>A limit that warns was reached.</summary>
    WarningReached,

    /// <summary>It is left again.</summary>
    WarningLeft,

    /// <summary>A limit was reached at which writes fail.</summary>
    ReadOnlyReached,

    /// <summary>It is left again.</summary>
    ReadOnlyLeft,

    /// <summary>The source cannot be read any more.</summary>
    Unreadable,

    /// <summary>It can again.</summary>
    ReadableAgain,
}

/// <summary>Something to say about a disk's health.</summary>
/// <param name="Kind">What.</param>
/// <param name="Limit">The limit it is about; null if it is about the source.</param>
/// <param name="Value">What the quantity is.</param>
/// <param name="IsReadOnly">Whether writes fail from now on.</param>
/// <param name="Obstacle">Why the source cannot be read.</param>
public sealed record HealthNotice(HealthNoticeKind Kind, HealthLimit? Limit, int Value, bool IsReadOnly, string? Obstacle);

/// <summary>When to warn, and when to let nothing be written any more.</summary>
/// <param name="Warn">Limits that warn.</param>
/// <param name="ReadOnly">Limits at which writes fail.</param>
/// <param name="Noticed">Hears of each limit that is reached or left, once; not on a thread that serves requests.</param>
public sealed record HealthPolicyOptions(IReadOnlyList<HealthLimit> Warn, IReadOnlyList<HealthLimit> ReadOnly, Action<HealthNotice>? Noticed = null);

/// <summary>
/// Judges readings. What a source does not tell, or cannot, changes nothing: a disk that was too hot stays so until it is known to be cooler.
/// Judged by one thread at a time; what it has come to may be read from any.
/// </summary>
public sealed class HealthPolicy
{
    // Fixed at construction.
    private readonly HealthPolicyOptions _options;

    // Owned by who judges.
    private readonly bool[] _isWarning;
    private readonly bool[] _isStopping;
    private bool _isUnreadable;

    // Written by who judges, read by every queue.
    private volatile bool _isReadOnly;
    private volatile bool _isWarned;

    /// <summary>Makes a policy under which all is well.</summary>
    /// <exception cref="DiskOpenException">A limit cannot be meant so.</exception>
    public HealthPolicy(HealthPolicyOptions options)
    {
        foreach (HealthLimit limit in options.Warn.Concat(options.ReadOnly))
        {
            limit.Require();
        }

        _options = options;
        _isWarning = new bool[options.Warn.Count];
        _isStopping = new bool[options.ReadOnly.Count];
    }

    /// <summary>Whether writes fail now.</summary>
    public bool IsReadOnly => _isReadOnly;

    /// <summary>Whether a limit that warns is reached.</summary>
    public bool IsWarned => _isWarned;

    /// <summary>What the policy is about.</summary>
    public IEnumerable<HealthQuantity> Quantities => _options.Warn.Concat(_options.ReadOnly).Select(limit => limit.Quantity).Distinct();

    /// <summary>Comes to what a reading makes of it, and says what has changed.</summary>
    public void Judge(HealthReading reading)
    {
        bool isUnreadable = reading.Obstacle is not null;
        if (isUnreadable != _isUnreadable)
        {
            _isUnreadable = isUnreadable;
            Say(isUnreadable ? HealthNoticeKind.Unreadable : HealthNoticeKind.ReadableAgain, null, 0, reading.Obstacle);
        }

        if (isUnreadable)
        {
            return;
        }

        // What has come of it holds before it is said.
        List<(HealthNoticeKind Kind, HealthLimit Limit, int Value)> changes = [];
        _isWarned = Update(_options.Warn, _isWarning, reading, (HealthNoticeKind.WarningReached, HealthNoticeKind.WarningLeft), changes);
        _isReadOnly = Update(_options.ReadOnly, _isStopping, reading, (HealthNoticeKind.ReadOnlyReached, HealthNoticeKind.ReadOnlyLeft), changes);
        foreach ((HealthNoticeKind kind, HealthLimit limit, int value) in changes)
        {
            Say(kind, limit, value, null);
        }
    }

    private static bool Update(
        IReadOnlyList<HealthLimit> limits,
        bool[] reached,
        HealthReading reading,
        (HealthNoticeKind Reached, HealthNoticeKind Left) kinds,
        List<(HealthNoticeKind Kind, HealthLimit Limit, int Value)> changes)
    {
        for (int i = 0; i < limits.Count; i++)
        {
            if (limits[i].ValueIn(reading) is not { } value)
            {
                continue;
            }

            bool isNow = reached[i] ? !limits[i].IsLeftBy(value) : limits[i].IsReachedBy(value);
            if (isNow != reached[i])
            {
                reached[i] = isNow;
                changes.Add((isNow ? kinds.Reached : kinds.Left, limits[i], value));
            }
        }

        return reached.Contains(true);
    }

    private void Say(HealthNoticeKind kind, HealthLimit? limit, int value, string? obstacle) =>
        _options.Noticed?.Invoke(new HealthNotice(kind, limit, value, _isReadOnly, obstacle));
}
