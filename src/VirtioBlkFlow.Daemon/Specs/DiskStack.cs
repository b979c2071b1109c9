using Microsoft.Extensions.Logging;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Presented;
using VirtioBlkFlow.Disks.Wrapping;
using VirtioBlkFlow.VhostUser.Server;

namespace VirtioBlkFlow.Daemon.Specs;

/// <summary>
/// What a specification asks for: the disk of its kind, and on top of it whatever else lies below the device, from the storage up: range,
/// faults, error policy, throttle, read-only, sizes of sectors. What is not asked for is not there and costs nothing.
/// </summary>
internal sealed class DiskStack : IDisposable
{
    private readonly ErrorPolicyDisk? _errors;

    private DiskStack(IDisk top, ErrorPolicyDisk? errors)
    {
        Top = top;
        _errors = errors;
    }

    /// <summary>What the device is made on. Belongs to this.</summary>
    public IDisk Top { get; }

    /// <summary>Opens all of it.</summary>
    /// <param name="spec">What is wanted.</param>
    /// <param name="shared">What the disks of the process have in common.</param>
    /// <param name="logger">Where to log.</param>
    /// <exception cref="DiskOpenException">Something cannot be opened as asked.</exception>
    public static DiskStack Open(DiskSpec spec, SharedParts shared, ILogger logger)
    {
        IDisk disk = shared.Open(spec, logger);
        if (spec.Range is not null)
        {
            disk = RangeDisk.Open(disk, spec.Range);
        }

        if (spec.Faults.Count > 0)
        {
            int seed = spec.FaultSeed ?? Random.Shared.Next();
            Log.InjectingFaults(logger, spec.Faults.Count, seed);
            disk = FaultDisk.Open(disk, new FaultDiskOptions(seed, spec.Faults));
        }

        ErrorPolicyDisk? errors = null;
        if (spec.Errors is { } policy && policy != new ErrorPolicyOptions())
        {
            disk = errors = ErrorPolicyDisk.Open(disk, policy with { HeldChanged = HeldLogger(logger) });
        }

        if (shared.ThrottleOf(spec) is { } group)
        {
            disk = new ThrottleDisk(disk, group);
        }

        if (spec.ReadOnly && !disk.Properties.ReadOnly)
        {
            disk = new ReadOnlyDisk(disk);
        }

        return new DiskStack(spec.BlockSizes is { } sizes ? PresentedDisk.Open(disk, sizes) : disk, errors);
    }

    /// <summary>What is held because of errors is tried again.</summary>
    public void Resume() => _errors?.Resume();

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
