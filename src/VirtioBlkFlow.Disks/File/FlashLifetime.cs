using System.Globalization;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.Disks.File;

/// <summary>
/// How worn the flash memory under a block device is, as sysfs tells it: eMMC (Linux, "driver-api/mmc/mmc-dev-attrs.rst", life_time and
/// pre_eol_info) and UFS (Linux, "ABI/testing/sysfs-driver-ufs", health_descriptor). Both count as virtio does. Read once when the disk is
/// opened and then in the background, for a UFS device must be asked, and may have to be woken first. From any thread.
/// </summary>
internal sealed class FlashLifetime : IDisposable
{
    // Fixed at construction.
    private readonly string _folder;
    private readonly bool _isUfs;
    private readonly Timer _timer;

    // Replaced as a whole by the timer, read by every queue.
    private volatile DiskLifetime _latest;

    private FlashLifetime(string folder, bool isUfs, DiskLifetime first, TimeSpan interval)
    {
        _folder = folder;
        _isUfs = isUfs;
        _latest = first;
        _timer = new Timer(static self => ((FlashLifetime)self!).ReadAgain(), this, interval, interval);
    }

    /// <summary>What was read last.</summary>
    public DiskLifetime Latest => _latest;

    /// <summary>Finds what tells of a device.</summary>
    /// <param name="sysfsRoot">Where sysfs is mounted.</param>
    /// <param name="device">The device; a partition is as worn as what it is on.</param>
    /// <param name="interval">Time from one reading to the next.</param>
    /// <returns>Null if nothing tells, or tells nothing but that it is undefined.</returns>
    public static FlashLifetime? Find(string sysfsRoot, DeviceNumber device, TimeSpan interval)
    {
        // Under devices/ a folder stands in that of what it is a part of: a partition in its disk, a disk in its card or its host.
        string devices = Path.GetFullPath(Path.Combine(sysfsRoot, "devices")) + Path.DirectorySeparatorChar;
        string? folder = TargetOf(Path.Combine(sysfsRoot, "dev", "block", $"{device.Major}:{device.Minor}"));
        for (; folder != null && folder.StartsWith(devices, StringComparison.Ordinal); folder = Path.GetDirectoryName(folder))
        {
            string ufsFolder = Path.Combine(folder, "health_descriptor");
            bool isUfs = Directory.Exists(ufsFolder);
            if (isUfs || System.IO.File.Exists(Path.Combine(folder, "life_time")))
            {
                string found = isUfs ? ufsFolder : folder;
                DiskLifetime first = Read(found, isUfs);
                return first.IsDefined ? new FlashLifetime(found, isUfs, first, interval) : null;
            }
        }

        return null;
    }

    /// <inheritdoc/>
    public void Dispose() => _timer.Dispose();

    private static string? TargetOf(string link)
    {
        try
        {
            return Directory.ResolveLinkTarget(link, returnFinalTarget: true)?.FullName;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    private void ReadAgain()
    {
        // What a device does not tell now is still as it was; and it may tell one value, and not the other.
        BlkLifetime before = _latest.Payload;
        BlkLifetime now = Read(_folder, _isUfs).Payload;
        _latest = new DiskLifetime(
            now.PreEolInfo == 0 ? before.PreEolInfo : now.PreEolInfo,
            now.EstimateA == 0 ? before.EstimateA : now.EstimateA,
            now.EstimateB == 0 ? before.EstimateB : now.EstimateB);
    }

    private static DiskLifetime Read(string folder, bool isUfs)
    {
        if (isUfs)
        {
            return new DiskLifetime(
                NumberIn(folder, "eol_info", 0), NumberIn(folder, "life_time_estimation_a", 0), NumberIn(folder, "life_time_estimation_b", 0));
        }

        // Both estimates are in one file, A first.
        return new DiskLifetime(NumberIn(folder, "pre_eol_info", 0), NumberIn(folder, "life_time", 0), NumberIn(folder, "life_time", 1));
    }

    // A hexadecimal number, with or without 0x: older kernels leave it out of pre_eol_info. 0, undefined, if there is none.
    private static uint NumberIn(string folder, string file, int position)
    {
        try
        {
            string[] numbers = System.IO.File.ReadAllText(Path.Combine(folder, file)).Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);
            string text = position < numbers.Length ? numbers[position] : "";
            text = text.StartsWith("0x", StringComparison.OrdinalIgnoreCase) ? text[2..] : text;
            return uint.TryParse(text, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out uint number) ? number : 0;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            return 0;
        }
    }
}
