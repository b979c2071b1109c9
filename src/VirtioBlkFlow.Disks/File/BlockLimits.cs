using System.Globalization;
using static VirtioBlkFlow.Disks.LibC;

namespace VirtioBlkFlow.Disks.File;

/// <summary>
/// What a block device can do and in which units: ioctl(2) of <c>&lt;linux/fs.h&gt;</c> and sysfs (Linux, "ABI/stable/sysfs-block"). Where sysfs is
/// not to be read, the device is taken to be able to do all, and says otherwise itself when it is asked to.
/// </summary>
/// <param name="LogicalBlockBytes">Smallest transfer.</param>
/// <param name="PhysicalBlockBytes">Transfer below which the device reads, modifies and writes.</param>
/// <param name="DiscardGranularityBytes">What a discard can give back; 0 if it is not known.</param>
/// <param name="HasDiscard">Whether it can discard.</param>
/// <param name="HasZeroes">Whether it has a command for zeros; without one the kernel writes them.</param>
internal sealed record BlockLimits(uint LogicalBlockBytes, uint PhysicalBlockBytes, uint DiscardGranularityBytes, bool HasDiscard, bool HasZeroes)
{
    private const uint SectorBytes = 512;

    /// <summary>Asks a device.</summary>
    /// <param name="file">The device.</param>
    /// <param name="sysfsRoot">Where sysfs is mounted.</param>
    /// <param name="device">Its number.</param>
    public static BlockLimits Of(SafeFileHandle file, string sysfsRoot, DeviceNumber device)
    {
        uint logical = Ask(file, BLKSSZGET, SectorBytes);
        string? queue = QueueFolderOf(sysfsRoot, device);
        // Some devices name a granularity that is no multiple of a sector, and mean nothing by it.
        ulong granularity = NumberIn(queue, "discard_granularity") ?? 0;
        return new BlockLimits(
            logical,
            Ask(file, BLKPBSZGET, logical),
            granularity <= uint.MaxValue && granularity % SectorBytes == 0 ? (uint)granularity : 0,
            HasDiscard: NumberIn(queue, "discard_max_bytes") != 0,
            HasZeroes: NumberIn(queue, "write_zeroes_max_bytes") != 0);
    }

    private static unsafe uint Ask(SafeFileHandle file, nuint request, uint otherwise)
    {
        uint bytes = 0;
        return ioctl((int)file.DangerousGetHandle(), request, &bytes) == 0 && bytes >= SectorBytes && uint.IsPow2(bytes) ? bytes : otherwise;
    }

    // A partition has the queue of what it is on, in whose folder it stands.
    private static string? QueueFolderOf(string sysfsRoot, DeviceNumber device)
    {
        try
        {
            string link = Path.Combine(sysfsRoot, "dev", "block", string.Create(CultureInfo.InvariantCulture, $"{device.Major}:{device.Minor}"));
            string? folder = Directory.ResolveLinkTarget(link, returnFinalTarget: true)?.FullName;
            return new[] { folder, Path.GetDirectoryName(folder) }
                .Where(static candidate => candidate != null)
                .Select(static candidate => Path.Combine(candidate!, "queue"))
                .FirstOrDefault(Directory.Exists);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    private static ulong? NumberIn(string? folder, string file)
    {
        try
        {
            return folder != null && ulong.TryParse(System.IO.File.ReadAllText(Path.Combine(folder, file)).Trim(), CultureInfo.InvariantCulture, out ulong number)
                ? number
                : null;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}
