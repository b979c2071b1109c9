using Microsoft.Extensions.Logging;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.Health;
using VirtioBlkFlow.Disks.Presented;
using VirtioBlkFlow.Disks.Refresh;
using VirtioBlkFlow.Disks.Wrapping;
using VirtioBlkFlow.VhostUser.Server;

namespace VirtioBlkFlow.Daemon.Specs;

/// <summary>
/// What a specification asks for: the disk of its kind, and on top of it whatever else lies below the device, from the storage up: range,
/// faults, refresh, error policy, throttle, health, read-only, sizes of sectors. What is not asked for is not there and costs nothing.
/// </summary>
internal sealed class DiskStack : IDisposable
{
    // Where there are limits, unless told. Arbitrary: a disk gets hotter within minutes.
    private static readonly TimeSpan s_healthInterval = TimeSpan.FromSeconds(60);

    private DiskStack(IDisk storage) => Top = storage;

    /// <summary>What the device is made on. Belongs to this.</summary>
    public IDisk Top { get; private set; }

    /// <summary>What decides about errors; null if nothing does.</summary>
    public ErrorPolicyDisk? Errors { get; private set; }

    /// <summary>What keeps to limits; null if nothing does.</summary>
    public ThrottleDisk? Throttle { get; private set; }

    /// <summary>What is done about the disk's health; null for nothing.</summary>
    public HealthPolicy? Health { get; private set; }

    /// <summary>What reads the disk in the background; null for nothing.</summary>
    public RefreshDisk? Refresh { get; private set; }

    /// <summary>Opens all of it.</summary>
    /// <param name="spec">What is wanted.</param>
    /// <param name="shared">What the disks of the process have in common.</param>
    /// <param name="engine">Who does the I/O.</param>
    /// <param name="logger">Where to log.</param>
    /// <exception cref="DiskOpenException">Something cannot be opened as asked.</exception>
    public static DiskStack Open(DiskSpec spec, SharedParts shared, IoEngineKind engine, ILogger logger)
    {
        var stack = new DiskStack(shared.Open(spec, logger));
        try
        {
            stack.Build(spec, shared, engine, logger);
            return stack;
        }
        catch
        {
            stack.Dispose();
            throw;
        }
    }

    private void Build(DiskSpec spec, SharedParts shared, IoEngineKind engine, ILogger logger)
    {
        if (spec.Range is not null)
        {
            Top = RangeDisk.Open(Top, spec.Range);
        }

        if (spec.Faults.Count > 0)
        {
            int seed = spec.FaultSeed ?? Random.Shared.Next();
            Log.InjectingFaults(logger, spec.Faults.Count, seed);
            Top = FaultDisk.Open(Top, new FaultDiskOptions(seed, spec.Faults));
        }

        if (spec.Health.HasPolicy)
        {
            Health = new HealthPolicy(new HealthPolicyOptions(spec.Health.Warn, spec.Health.ReadOnly, HealthLog.For(logger, spec.Id)));
        }

        if (spec.Refresh is { } refresh)
        {
            Top = Refresh = new RefreshDisk(Top, new RefreshOptions(refresh.BytesPerSecond, engine)
            {
                ObstacleToRewrite = RefreshKeys.ObstacleToRewrite(spec),
                MayRewriteNow = Health is { } policy ? () => !policy.IsReadOnly : null,
                Noticed = HealthLog.ForRefresh(logger, spec.Id),
            });
        }

        if (spec.Errors is { } errors && errors != new ErrorPolicyOptions())
        {
            Top = Errors = ErrorPolicyDisk.Open(Top, errors with { HeldChanged = HeldLogger(logger) });
        }

        if (shared.ThrottleOf(spec) is { } group)
        {
            Top = Throttle = new ThrottleDisk(Top, group);
        }

        if (WatchHealth(spec) is { } monitor)
        {
            Top = HealthDisk.Open(Top, monitor, Health);
        }

        if (spec.ReadOnly && !Top.Properties.ReadOnly)
        {
            Top = new ReadOnlyDisk(Top);
        }

        if (spec.BlockSizes is { } sizes)
        {
            Top = PresentedDisk.Open(Top, sizes);
        }
    }

    // Null where there is nothing to be put in between: what the device tells goes to the guest without.
    private HealthMonitor? WatchHealth(DiskSpec spec)
    {
        HealthSpec health = spec.Health;
        TimeSpan interval = health.Interval ?? s_healthInterval;
        if (health.Origin == HealthOrigin.File)
        {
            return new HealthMonitor(new HealthFile(health.Path!), interval);
        }

        if (health.HasPolicy && Top.Health is null)
        {
            throw new DiskOpenException(
                $"Nothing tells of the health of '{spec.Label}': it is no eMMC, UFS or NVMe device that may be asked. Leave out health-warn and health-read-only, or name a file that does: health=file:PATH");
        }

        if (health.HasPolicy || (health.Origin == HealthOrigin.Device && health.Interval is not null))
        {
            Top.Health?.ReadEvery(interval);
        }

        return health.HasPolicy ? Top.Health : null;
    }

    /// <summary>What is held because of errors is tried again.</summary>
    public void Resume() => Errors?.Resume();

    public void Dispose() => Top.Dispose();

    // Many may be held, or one again and again: said when it begins and ends, and not too often.
    private static Action<int> HeldLogger(ILogger logger)
    {
        var limited = new LimitedLogger(logger, TimeProvider.System);
        int before = 0;
        return count =>
        {
            bool wasHolding = Interlocked.Exchange(ref before, count) > 0;
            if (count > 0 && !wasHolding)
            {
                Log.Holding(limited);
            }
            else if (count == 0 && wasHolding)
            {
                Log.HoldsNoMore(limited);
            }
        };
    }
}
