using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.Health;

namespace VirtioBlkFlow.Disks.Wrapping;

/// <summary>
/// A disk with a policy about its health: while that says so, nothing is written to it any more; reads and flushes go on. Its health is what
/// a monitor tells, which need not be that of the disk behind.
/// </summary>
public sealed class HealthDisk : WrappingDisk
{
    // Fixed at construction.
    private readonly HealthMonitor _monitor;
    private readonly HealthPolicy? _policy;
    private readonly bool _hasLifetime;

    // Replaced as a whole by Refresh on the control path, read by every queue.
    private volatile DiskProperties _properties;
    private bool _isClosed;

    private HealthDisk(IDisk inner, HealthMonitor monitor, HealthPolicy? policy)
        : base(inner)
    {
        _monitor = monitor;
        _policy = policy;
        // Once and for all: a lifetime that becomes known later is nothing that a driver was offered.
        _hasLifetime = Lifetime is { IsDefined: true };
        _properties = WithLifetime(inner.Properties);
    }

    /// <inheritdoc/>
    public override DiskProperties Properties => _properties;

    /// <inheritdoc/>
    public override HealthMonitor Health => _monitor;

    /// <inheritdoc/>
    public override DiskLifetime? Lifetime => _monitor.Latest.Lifetime;

    /// <summary>Puts it before a disk.</summary>
    /// <param name="inner">Belongs to this one from now on, also if this fails.</param>
    /// <param name="monitor">Tells its health; belongs to this one, also if this fails, unless it is the one of <paramref name="inner"/>.</param>
    /// <param name="policy">Judges it; null to tell it only.</param>
    /// <exception cref="DiskOpenException">The monitor tells nothing, or not all that the policy is about.</exception>
    public static HealthDisk Open(IDisk inner, HealthMonitor monitor, HealthPolicy? policy)
    {
        var disk = new HealthDisk(inner, monitor, policy);
        try
        {
            HealthReading first = monitor.Latest;
            if (first.Obstacle is { } obstacle)
            {
                throw new DiskOpenException($"The health of the disk cannot be told: {obstacle}");
            }

            foreach (HealthQuantity quantity in policy?.Quantities ?? [])
            {
                if (new HealthLimit(quantity, 0).ValueIn(first) is null)
                {
                    throw new DiskOpenException(
                        $"Nothing tells the {HealthLimit.NameOf(quantity)} of the disk: {monitor.SourceName} does not. Leave out limits about it, or name a file that tells it.");
                }
            }

            if (policy is not null)
            {
                monitor.Add(policy.Judge);
            }

            return disk;
        }
        catch
        {
            disk.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public override DiskResize Refresh()
    {
        DiskResize resize = Inner.Refresh();
        _properties = WithLifetime(Inner.Properties);
        return resize;
    }

    /// <inheritdoc/>
    public override IDiskQueue OpenQueue(IIoEngine engine, IDiskCompletions completions, int slotCount)
    {
        IDiskQueue queue = Inner.OpenQueue(engine, completions, slotCount);
        return _policy is null ? queue : new Queue(_policy, queue, completions);
    }

    /// <inheritdoc/>
    protected override bool Close()
    {
        if (_isClosed)
        {
            return true;
        }

        _isClosed = true;
        if (_policy is not null)
        {
            _monitor.Remove(_policy.Judge);
        }

        if (!ReferenceEquals(_monitor, Inner.Health))
        {
            _monitor.Dispose();
        }

        return true;
    }

    private DiskProperties WithLifetime(DiskProperties properties) => properties with { HasLifetime = _hasLifetime };

    // Owned by the queue's thread.
    private sealed class Queue(HealthPolicy policy, IDiskQueue inner, IDiskCompletions completions) : IDiskQueue
    {
        public void Submit(int slot, in DiskRequest request)
        {
            if (policy.IsReadOnly && request.Operation is not (DiskOperation.Read or DiskOperation.Flush or DiskOperation.ZoneReport))
            {
                completions.OnCompleted(slot, DiskOutcome.Failed);
                return;
            }

            inner.Submit(slot, in request);
        }

        public void OnIoCompleted(int slot, int result) => inner.OnIoCompleted(slot, result);

        public bool EndHeld() => inner.EndHeld();

        public void Dispose() => inner.Dispose();
    }
}
