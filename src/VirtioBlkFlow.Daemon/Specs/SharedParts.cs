using Microsoft.Extensions.Logging;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.Health;
using VirtioBlkFlow.Disks.Memory;
using VirtioBlkFlow.Disks.Nbd;
using VirtioBlkFlow.Disks.Rbd;
using VirtioBlkFlow.Disks.Wrapping;

namespace VirtioBlkFlow.Daemon.Specs;

/// <summary>
/// What disks of one process have in common: an image that several serve ranges of is opened and locked once, and the disks of a throttle
/// group have the same limits. Used by one thread while the disks are opened.
/// </summary>
internal sealed class SharedParts
{
    private readonly Dictionary<OpenImage, SharedImage> _images = [];

    // What is shared, and how it is opened for all: by readers only, and watched if one of them wants that.
    private readonly Dictionary<OpenImage, SharedOpening> _sharedImages = [];
    private readonly Dictionary<string, ThrottleGroup> _groups = [];

    /// <summary>For a complete set of disks, checked by <see cref="DiskSet"/>.</summary>
    /// <exception cref="DiskOpenException">Limits let nothing through.</exception>
    public SharedParts(IReadOnlyList<DiskSpec> disks)
    {
        foreach (IGrouping<OpenImage, DiskSpec> group in disks.GroupBy(OpenImageOf).Where(group => group.Key.Storage is not null && group.Count() > 1))
        {
            HealthOrigin health = group.Any(disk => disk.Health.Origin == HealthOrigin.Device) ? HealthOrigin.Device : HealthOrigin.Off;
            _sharedImages.Add(group.Key, new SharedOpening(group.All(disk => disk.ReadOnly), health));
        }

        // Of those that are only ready for limits, and those that have some, the latter say what they are.
        IEnumerable<DiskSpec> members = disks.Where(disk => disk.ThrottleGroup is not null && disk.Throttle is not null);
        foreach (DiskSpec disk in members.Where(disk => disk.Throttle != new ThrottleLimits()).Concat(members))
        {
            _groups.TryAdd(disk.ThrottleGroup!, new ThrottleGroup(disk.Throttle!));
        }
    }

    /// <summary>The disk of a specification's kind; one that others have too, if ranges of it are served.</summary>
    /// <exception cref="DiskOpenException">It cannot be opened.</exception>
    public IDisk Open(DiskSpec spec, ILogger logger)
    {
        OpenImage key = OpenImageOf(spec);
        if (!_sharedImages.TryGetValue(key, out SharedOpening? shared))
        {
            return spec.Kind.Open(spec, logger);
        }

        if (!_images.TryGetValue(key, out SharedImage? image))
        {
            _images.Add(key, image = new SharedImage(spec.Kind.Open(
                spec with { ReadOnly = shared.ReadOnly, Health = spec.Health with { Origin = shared.Health } }, logger)));
        }

        return image.Share();
    }

    /// <summary>What a specification's limits are; null for none.</summary>
    /// <exception cref="DiskOpenException">They let nothing through.</exception>
    public ThrottleGroup? ThrottleOf(DiskSpec spec) =>
        spec.ThrottleGroup is { } name ? _groups[name]
        : spec.Throttle is { } limits ? new ThrottleGroup(limits)
        : null;

    // Without a range it is served once, or by readers and by who wants no lock: these open it for themselves.
    private static OpenImage OpenImageOf(DiskSpec spec) =>
        new(spec.Range is null ? null : spec.Kind.StorageOf(spec), spec.Direct, spec.Lock, spec.Memory, spec.Rbd, spec.Nbd);

    /// <summary>How an image is opened for several.</summary>
    private sealed record SharedOpening(bool ReadOnly, HealthOrigin Health);

    /// <summary>What is opened, and how.</summary>
    private sealed record OpenImage(string? Storage, bool Direct, bool Lock, MemoryDiskOptions Memory, RbdDiskOptions Rbd, NbdDiskOptions Nbd);

    /// <summary>A disk that is closed with the last of those that share it.</summary>
    private sealed class SharedImage(IDisk disk)
    {
        private int _shareCount;

        public IDisk Share()
        {
            Interlocked.Increment(ref _shareCount);
            return new OneShare(disk, this);
        }

        private void Release()
        {
            if (Interlocked.Decrement(ref _shareCount) == 0)
            {
                disk.Dispose();
            }
        }

        private sealed class OneShare(IDisk disk, SharedImage image) : IDisk
        {
            private bool _isReleased;

            public event Action? SizeChanged
            {
                add => disk.SizeChanged += value;
                remove => disk.SizeChanged -= value;
            }

            public DiskProperties Properties => disk.Properties;

            public DiskLifetime? Lifetime => disk.Lifetime;

            public HealthMonitor? Health => disk.Health;

            // Each device asks for itself, and a disk is asked by one at a time.
            public DiskResize Refresh()
            {
                lock (image)
                {
                    return disk.Refresh();
                }
            }

            public IDiskQueue OpenQueue(IIoEngine engine, IDiskCompletions completions, int slotCount) => disk.OpenQueue(engine, completions, slotCount);

            public DiskOutcome Flush() => disk.Flush();

            public void Dispose()
            {
                if (!_isReleased)
                {
                    _isReleased = true;
                    image.Release();
                }
            }
        }
    }
}
