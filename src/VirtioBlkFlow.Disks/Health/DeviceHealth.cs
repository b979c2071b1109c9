using VirtioBlkFlow.Disks.File;

namespace VirtioBlkFlow.Disks.Health;

/// <summary>Finds what tells of the health of a block device.</summary>
internal static class DeviceHealth
{
    /// <summary>Finds it. A partition fares as what it is on; what is stacked on devices (dm, md, loop) tells nothing.</summary>
    /// <param name="sysfsRoot">Where sysfs is mounted.</param>
    /// <param name="device">The device.</param>
    /// <param name="readNvmePage">Asks it, should it be an NVMe device.</param>
    /// <returns>Null if nothing tells, or tells nothing that is defined.</returns>
    public static IHealthSource? Find(string sysfsRoot, DeviceNumber device, ReadNvmePage readNvmePage)
    {
        // Under devices/ a folder stands in that of what it is a part of: a partition in its disk, a disk in its card, host or controller.
        string devices = Path.GetFullPath(Path.Combine(sysfsRoot, "devices")) + Path.DirectorySeparatorChar;
        string? block = SysfsText.TargetOf(Path.Combine(sysfsRoot, "dev", "block", $"{device.Major}:{device.Minor}"));
        TemperatureSensor? temperature = null;
        IHealthSource? source = null;
        for (string? folder = block; source is null && folder != null && folder.StartsWith(devices, StringComparison.Ordinal); folder = Path.GetDirectoryName(folder))
        {
            temperature ??= TemperatureSensor.Find(folder);
            source = FlashHealth.Of(folder, temperature);
        }

        // Namespaces are nvme0n1, also below a virtual subsystem of several paths, and controllers nvme0.
        if (source is null && Path.GetFileName(block)?.StartsWith("nvme", StringComparison.Ordinal) == true)
        {
            source = new NvmeHealth(readNvmePage, temperature);
        }

        source ??= temperature is null ? null : new SensorHealth(temperature);
        return source?.Read().IsAnything == true ? source : null;
    }
}
