namespace VirtioBlkFlow.UnitTests.Disks.Health;

/// <summary>
/// What sysfs shows of an eMMC card (179:0, its partition 179:1), of a UFS device (8:0, its partition 8:1), of an NVMe device (259:0, its
/// partition 259:1), of a SATA disk (8:16) and of a loop device (7:0), laid out as Linux 6 does, in a folder that lasts as long as a test.
/// </summary>
internal sealed class SysfsTree : IDisposable
{
    private const string Card = "devices/platform/soc/fe340000.mmc/mmc_host/mmc0/mmc0:0001";
    private const string Host = "devices/platform/soc/1d84000.ufshc";

    private const string Controller = "devices/pci0000:00/0000:00:04.0/nvme/nvme0";
    private const string SataDevice = "devices/pci0000:00/0000:00:05.0/ata1/host1/target1:0:0/1:0:0:0";

    public SysfsTree()
    {
        AddDevice("179:0", $"{Card}/block/mmcblk0");
        AddDevice("179:1", $"{Card}/block/mmcblk0/mmcblk0p1");
        Link($"{Card}/block/mmcblk0/device", "../../../mmc0:0001");
        SetCard("0x01 0x02\n", "0x01\n");
        AddDevice("8:0", $"{Host}/host0/target0:0:0/0:0:0:0/block/sda");
        AddDevice("8:1", $"{Host}/host0/target0:0:0/0:0:0:0/block/sda/sda1");
        SetUfs("0x02\n", "0x0A\n", "0x0B\n");
        AddDevice("259:0", $"{Controller}/nvme0n1");
        AddDevice("259:1", $"{Controller}/nvme0n1/nvme0n1p1");
        AddDevice("8:16", $"{SataDevice}/block/sdb");
        AddDevice("7:0", "devices/virtual/block/loop0");
    }

    public string Root { get; } = Directory.CreateTempSubdirectory("virtioblkflow-sysfs-").FullName;

    /// <summary>What the kernel shows of a card; its newline included.</summary>
    public void SetCard(string lifeTime, string preEolInfo)
    {
        Write($"{Card}/life_time", lifeTime);
        Write($"{Card}/pre_eol_info", preEolInfo);
    }

    public void RemoveCardFiles()
    {
        File.Delete(Path.Combine(Root, Card, "life_time"));
        File.Delete(Path.Combine(Root, Card, "pre_eol_info"));
    }

    public void SetUfs(string eolInfo, string estimateA, string estimateB)
    {
        Write($"{Host}/health_descriptor/eol_info", eolInfo);
        Write($"{Host}/health_descriptor/life_time_estimation_a", estimateA);
        Write($"{Host}/health_descriptor/life_time_estimation_b", estimateB);
    }

    /// <summary>Limits of the UFS device's queue, in bytes.</summary>
    public void SetQueue(int discardGranularity, int discardMax, int zeroesMax)
    {
        const string Queue = $"{Host}/host0/target0:0:0/0:0:0:0/block/sda/queue";
        Directory.CreateDirectory(Path.Combine(Root, Queue));
        Write($"{Queue}/discard_granularity", $"{discardGranularity}\n");
        Write($"{Queue}/discard_max_bytes", $"{discardMax}\n");
        Write($"{Queue}/write_zeroes_max_bytes", $"{zeroesMax}\n");
    }

    /// <summary>What the monitor of the UFS host measures, in thousandths of a degree.</summary>
    public void SetUfsTemperature(string input) => AddMonitor($"{Host}/hwmon/hwmon2", "ufs", input);

    /// <summary>What the monitor of the NVMe controller measures.</summary>
    public void SetNvmeTemperature(string input) => AddMonitor($"{Controller}/hwmon1", "nvme", input);

    /// <summary>What the monitor of the SATA disk measures.</summary>
    public void SetSataTemperature(string input) => AddMonitor($"{SataDevice}/hwmon/hwmon3", "drivetemp", input);

    /// <summary>A monitor of something else, on which all PCI devices hang.</summary>
    public void SetBridgeTemperature(string input) => AddMonitor("devices/pci0000:00/hwmon/hwmon0", "k10temp", input);

    public void Dispose() => Directory.Delete(Root, recursive: true);

    private void AddMonitor(string folder, string driver, string input)
    {
        Write($"{folder}/name", driver + "\n");
        Write($"{folder}/temp1_input", input);
    }

    private void AddDevice(string number, string folder)
    {
        Directory.CreateDirectory(Path.Combine(Root, folder));
        Link($"dev/block/{number}", $"../../{folder}");
    }

    private void Link(string path, string target)
    {
        string link = Path.Combine(Root, path);
        Directory.CreateDirectory(Path.GetDirectoryName(link)!);
        File.CreateSymbolicLink(link, target);
    }

    // Whole or not at all, as a read of sysfs is.
    private void Write(string path, string text)
    {
        string file = Path.Combine(Root, path);
        Directory.CreateDirectory(Path.GetDirectoryName(file)!);
        File.WriteAllText(file + ".new", text);
        File.Move(file + ".new", file, overwrite: true);
    }
}
