using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.Wrapping;

namespace VirtioBlkFlow.Disks.Refresh;

/// <summary>
/// A disk that is read from beginning to end in the background, and on demand written again, so that flash memory notices and mends what
/// is about to fade. It goes on while the guest is quiet, at a bounded rate, on a thread of its own that is there only meanwhile.
/// </summary>
/// <remarks>
/// A range that is rewritten is nobody else's until it is written: see <see cref="GuestTraffic"/>. That covers this disk's own queues. Whoever
/// else writes to the same storage would have its writes undone, so that who makes one says whether there may be such
/// (<see cref="RefreshOptions.ObstacleToRewrite"/>).
/// </remarks>
public sealed class RefreshDisk : WrappingDisk
{
    // As long as the program gives its queues to drain.
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(30);

    // Fixed at construction.
    private readonly RefreshOptions _options;
    private readonly GuestTraffic _traffic = new();

    // Shared, under this lock.
    private readonly Lock _starting = new();
    private RefreshThread? _thread;
    private bool _isClosed;

    // Whose status is told: one that was told to stop says no more.
    private volatile object? _run;

    // Replaced as a whole by the thread of the refresh.
    private volatile RefreshStatus _status = new();

    /// <summary>Puts it before a disk. Nothing is refreshed before <see cref="Start"/>.</summary>
    /// <param name="inner">Belongs to this one from now on.</param>
    /// <param name="options">How it is refreshed.</param>
    public RefreshDisk(IDisk inner, RefreshOptions options)
        : base(inner)
    {
        ArgumentOutOfRangeException.ThrowIfZero(options.BytesPerSecond);
        _options = options;
        _traffic.Hurry = () => Volatile.Read(ref _thread)?.Hurry();
    }

    /// <summary>How far it has got. From any thread.</summary>
    public RefreshStatus Status => _status;

    /// <summary>Why nothing may be rewritten, with the remedy; null if it may.</summary>
    public string? ObstacleToRewrite =>
        _options.ObstacleToRewrite
        ?? (Properties.ReadOnly ? "The disk is read-only." : Properties.Zones is not null ? "The disk has zones, which are written in sequence only." : null);

    internal GuestTraffic Traffic => _traffic;

    /// <summary>Begins at the beginning of the disk, also if it has got somewhere already. Does not wait. From any thread.</summary>
    /// <param name="rewrite">Whether what was read is written again.</param>
    /// <exception cref="InvalidOperationException">It may not rewrite; see <see cref="ObstacleToRewrite"/>.</exception>
    public void Start(bool rewrite)
    {
        if (rewrite && ObstacleToRewrite is { } obstacle)
        {
            throw new InvalidOperationException(obstacle);
        }

        lock (_starting)
        {
            if (_isClosed)
            {
                return;
            }

            _thread?.Stop();
            object run = new();
            _run = run;
            _status = new RefreshStatus { State = RefreshState.Running, Rewrites = rewrite };
            Volatile.Write(ref _thread, new RefreshThread(Inner, _traffic, _options, rewrite, status => Publish(run, status), _thread));
        }
    }

    /// <summary>Ends it soon. Does not wait. From any thread.</summary>
    public void Stop()
    {
        lock (_starting)
        {
            _thread?.Stop();
        }
    }

    /// <inheritdoc/>
    public override IDiskQueue OpenQueue(IIoEngine engine, IDiskCompletions completions, int slotCount) =>
        new RefreshQueue(_traffic, Inner, engine, completions, slotCount);

    /// <inheritdoc/>
    protected override bool Close()
    {
        RefreshThread? thread;
        lock (_starting)
        {
            _isClosed = true;
            thread = _thread;
            thread?.Stop();
        }

        // Storage that does not answer: the end of the process takes care of it.
        return thread?.Join(s_patience) ?? true;
    }

    private void Publish(object run, RefreshStatus status)
    {
        if (ReferenceEquals(_run, run))
        {
            _status = status;
        }
    }
}
