using System.Globalization;

namespace VirtioBlkFlow.Disks.Health;

/// <summary>
/// The temperature of a disk, as the hardware monitoring of Linux tells it (Linux, "hwmon/sysfs-interface": temp[1-*]_input, in thousandths of a
/// degree). NVMe, UFS and, by drivetemp, SATA disks have it; the first sensor is the one of the whole disk.
/// </summary>
/// <param name="path">The file of the sensor.</param>
internal sealed class TemperatureSensor(string path)
{
    // Drivers whose sensors are those of a disk. Without that, the sensor of a bridge the disk hangs on would pass for the disk's.
    private static readonly string[] s_driversOfDisks = ["nvme", "ufs", "drivetemp"];

    /// <summary>Finds the sensor that belongs to a device's folder.</summary>
    public static TemperatureSensor? Find(string folder)
    {
        // Directly in the folder of a device that is of a class itself, as an NVMe controller; else in a folder for all of that class.
        foreach (string parent in new[] { folder, Path.Combine(folder, "hwmon") })
        {
            foreach (string monitor in FoldersIn(parent))
            {
                string input = Path.Combine(monitor, "temp1_input");
                if (s_driversOfDisks.Contains(SysfsText.Read(Path.Combine(monitor, "name"))?.Trim()) && System.IO.File.Exists(input))
                {
                    return new TemperatureSensor(input);
                }
            }
        }

        return null;
    }

    /// <summary>Degrees Celsius; null if it does not tell now.</summary>
    public int? Read() =>
        int.TryParse(SysfsText.Read(path)?.Trim(), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out int thousandths)
            ? (int)Math.Round(thousandths / 1000.0)
            : null;

    private static string[] FoldersIn(string parent)
    {
        try
        {
            return Directory.GetDirectories(parent, "hwmon?*");
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            return [];
        }
    }
}
