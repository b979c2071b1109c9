using Microsoft.Extensions.Logging;
using Mono.Unix.Native;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.File;
using VirtioBlkFlow.Disks.Zoned;

namespace VirtioBlkFlow.Daemon.Specs;

/// <summary>A raw image, in a file or on a block device; with zones if asked for.</summary>
internal sealed class FileKind : DiskKind
{
    public override string Name => "file";

    public override string Form => "PATH";

    public override string Meaning => "A raw image, or a block device.";

    public override string Example => "file:/var/lib/vm/disk.img,cache=writeback";

    public static SpecKey Direct { get; } = SpecKey.Flag("direct", "Bypass the page cache (O_DIRECT).", "on", (spec, on) => spec with { Direct = on });

    public static SpecKey Lock { get; } = SpecKey.Flag(
        "lock", "Lock the image against other writers; on unless turned off.", "off", (spec, on) => spec with { Lock = on });

    public override IReadOnlyList<SpecKey> OwnKeys { get; } = [Direct, Lock, .. ZoneKeys.All];

    public override string? FindFault(DiskSpec spec) => spec.Zones is { ZoneBytes: 0 } ? $"zones need a size: give {ZoneKeys.Size}=SIZE too." : null;

    public override string StorageOf(DiskSpec spec)
    {
        if (Syscall.stat(spec.What, out Stat stat) != 0)
        {
            return Path.GetFullPath(spec.What);
        }

        // Two nodes of one block device are one device.
        return (stat.st_mode & FilePermissions.S_IFMT) == FilePermissions.S_IFBLK ? $"device {stat.st_rdev}" : $"inode {stat.st_dev}:{stat.st_ino}";
    }

    public override string? ObstacleToRewrite(DiskSpec spec) =>
        spec.Lock ? null : "Without a lock on the image others may write to it, and would lose what they write: leave out lock=off.";

    public override IDisk Open(DiskSpec spec, ILogger logger)
    {
        FileDisk file = FileDisk.Open(
            new FileDiskOptions(spec.What, spec.ReadOnly, spec.Direct, spec.Lock, spec.Health.Origin == HealthOrigin.Device, InlineWrites: spec.Zones is null));
        if (spec.Zones is null)
        {
            return file;
        }

        ZonedDisk zoned = ZonedDisk.Open(file, spec.Zones);
        if (zoned.DamagedZones > 0)
        {
            Log.ZonesDamaged(logger, zoned.DamagedZones);
        }

        return zoned;
    }
}
