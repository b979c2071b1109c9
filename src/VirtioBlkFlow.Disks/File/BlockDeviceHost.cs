using Mono.Unix.Native;
using VirtioBlkFlow.Disks.Health;
using static VirtioBlkFlow.Disks.LibC;

namespace VirtioBlkFlow.Disks.File;

/// <summary>A device number, as in <c>&lt;sys/sysmacros.h&gt;</c>.</summary>
internal readonly record struct DeviceNumber(uint Major, uint Minor);

/// <summary>What the host tells of block devices beside what is on them. A test without such devices puts its own in the place.</summary>
internal sealed record BlockDeviceHost
{
    // BLKSECDISCARD looks whether the device can erase before anything else only since Linux 5.19; before, whether it can discard.
    private static readonly Version s_firstToTellErase = new(5, 19);

    /// <summary>Where sysfs is mounted.</summary>
    public string SysfsRoot { get; init; } = "/sys";

    /// <summary>Time between two readings of its health, where nobody wants it sooner. Arbitrary: wear takes months, and asking may wake the device.</summary>
    public TimeSpan HealthInterval { get; init; } = TimeSpan.FromMinutes(10);

    /// <summary>How to ask the NVMe device that an open file is.</summary>
    public Func<SafeFileHandle, ReadNvmePage> NvmePageOf { get; init; } = static file => page => NvmeAdmin.ReadHealthPage(file, page);

    /// <summary>Number of the block device that an open file is; null for anything else.</summary>
    public Func<Stat, DeviceNumber?> NumberOf { get; init; } = static stat =>
        (stat.st_mode & FilePermissions.S_IFMT) == FilePermissions.S_IFBLK ? NumberFrom(stat.st_rdev) : null;

    /// <summary>Whether a block device that is open for writing understands <see cref="BLKSECDISCARD"/>.</summary>
    public Func<SafeFileHandle, bool> CanSecureErase { get; init; } = TellsSecureErase;

    /// <summary>Takes a <c>dev_t</c> apart: 12 + 20 bits of the major and 8 + 24 of the minor number, interleaved.</summary>
    internal static DeviceNumber NumberFrom(ulong device) => new(
        (uint)((device >> 8) & 0xfff) | (uint)((device >> 32) & 0xfffff000),
        (uint)(device & 0xff) | (uint)((device >> 12) & 0xffffff00));

    // Without a range nothing can be erased: a device that could says that the pointer is bad. A range of no bytes would not do, for the
    // kernel drops the cached pages "from its first byte to the one before", which from 0 on are all (Linux, block/ioctl.c).
    private static unsafe bool TellsSecureErase(SafeFileHandle file) =>
        Environment.OSVersion.Version >= s_firstToTellErase
        && ioctl((int)file.DangerousGetHandle(), BLKSECDISCARD, null) != 0
        && Marshal.GetLastPInvokeError() == EFAULT;
}
