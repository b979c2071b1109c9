using Mono.Unix.Native;
using VirtioBlkFlow.Disks.File;
using VirtioBlkFlow.Disks.Health;
using VirtioBlkFlow.UnitTests.Device;
using VirtioBlkFlow.Virtio.Blk;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Disks.Health;

/// <summary>What the sources of a disk's health make of what they find.</summary>
public sealed class HealthSourceTests : IDisposable
{
    private static readonly DeviceNumber s_card = new(179, 0);
    private static readonly DeviceNumber s_ufs = new(8, 1);
    private static readonly DeviceNumber s_nvme = new(259, 0);
    private static readonly DeviceNumber s_sata = new(8, 16);
    private readonly SysfsTree _sysfs = new();
    private readonly byte[] _page = new byte[NvmeHealth.PageBytes];

    public void Dispose() => _sysfs.Dispose();

    [Theory]
    // A step of ten percent is told by its beginning, and what is left of the reserve by the end with more.
    [InlineData("0x01 0x01\n", "0x01\n", 0, 100)]
    [InlineData("0x01 0x09\n", "0x02\n", 80, 20)]
    [InlineData("0x0a 0x00\n", "0x03\n", 90, 10)]
    [InlineData("0x0b 0x01\n", "0x00\n", 100, null)]
    [InlineData("0x00 0x00\n", "0x01\n", null, 100)]
    public void Steps_of_flash_memory_are_percent(string lifeTime, string preEolInfo, int? wear, int? spare)
    {
        _sysfs.SetCard(lifeTime, preEolInfo);
        HealthReading reading = Find(s_card)!.Read();
        Assert.Equal((wear, spare, null), (reading.WearPercent, reading.SparePercent, reading.TemperatureCelsius));
    }

    [Theory]
    [InlineData("41000\n", 41)]
    [InlineData("41600\n", 42)]
    [InlineData("-7000\n", -7)]
    [InlineData("warm\n", null)]
    public void A_UFS_device_has_the_temperature_of_its_host(string input, int? degrees)
    {
        _sysfs.SetUfsTemperature(input);
        HealthReading reading = Find(s_ufs)!.Read();
        Assert.Equal((100, 20, degrees), (reading.WearPercent, reading.SparePercent, reading.TemperatureCelsius));
    }

    [Fact]
    public void A_disk_that_only_has_a_sensor_has_a_temperature_and_no_lifetime()
    {
        Assert.Null(Find(s_sata));
        _sysfs.SetBridgeTemperature("55000\n");
        Assert.Null(Find(s_sata));
        _sysfs.SetSataTemperature("38000\n");
        using var monitor = new HealthMonitor(Find(s_sata)!, Timeout.InfiniteTimeSpan);
        Assert.Equal(38, monitor.Latest.TemperatureCelsius);
        Assert.Null(monitor.Latest.Lifetime);
        _sysfs.SetSataTemperature("");
        monitor.ReadNow();
        Assert.Equal(38, monitor.Latest.TemperatureCelsius);
        Assert.NotNull(monitor.Latest.Obstacle);
    }

    [Theory]
    // Percentage used: the last step is all of it, and only beyond that the lifetime is exceeded.
    [InlineData(0, 100, false, 1, 1)]
    [InlineData(9, 100, false, 1, 1)]
    [InlineData(10, 21, false, 1, 2)]
    [InlineData(89, 20, false, 2, 9)]
    [InlineData(99, 11, false, 2, 10)]
    [InlineData(100, 10, false, 3, 10)]
    [InlineData(101, 0, false, 3, 11)]
    [InlineData(255, 90, true, 3, 11)]
    public void The_page_of_an_NVMe_device_is_a_lifetime(byte used, byte spare, bool isUrgent, int preEol, int estimate)
    {
        (_page[0], _page[3], _page[5]) = (isUrgent ? (byte)1 : (byte)0, spare, used);
        // 320 K.
        (_page[1], _page[2]) = (0x40, 0x01);
        HealthReading reading = Find(s_nvme, ReadPage)!.Read();
        BlkLifetime lifetime = reading.Lifetime!.Payload;
        Assert.Equal((preEol, estimate, 0), (lifetime.PreEolInfo, lifetime.EstimateA, lifetime.EstimateB));
        Assert.Equal((used, spare, 47), (reading.WearPercent, reading.SparePercent, reading.TemperatureCelsius));
    }

    [Fact]
    public void A_partition_of_an_NVMe_device_tells_the_same()
    {
        _page[3] = 100;
        Assert.Equal("NVMe", Find(new DeviceNumber(259, 1), ReadPage)!.Name);
    }

    [Fact]
    public void Who_may_not_ask_an_NVMe_device_still_has_its_sensor()
    {
        Assert.Null(Find(s_nvme, _ => "Operation not permitted."));
        _sysfs.SetNvmeTemperature("51850\n");
        HealthReading reading = Find(s_nvme, _ => "Operation not permitted.")!.Read();
        Assert.Equal((null, null, 52), (reading.WearPercent, reading.SparePercent, reading.TemperatureCelsius));
        Assert.Null(reading.Obstacle);
        // One that measures nothing itself says 0 K.
        _page[3] = 100;
        Assert.Equal(52, Find(s_nvme, ReadPage)!.Read().TemperatureCelsius);
    }

    [Fact]
    public void A_file_that_is_no_NVMe_device_says_so()
    {
        using var image = new TemporaryImage();
        using var file = File.OpenHandle(image.Path);
        string? obstacle = NvmeAdmin.ReadHealthPage(file, _page);
        Assert.Contains("Inappropriate ioctl", obstacle, StringComparison.Ordinal);
        file.Dispose();
        Assert.NotNull(NvmeAdmin.ReadHealthPage(file, _page));
    }

    [Fact]
    public void A_block_device_with_health_off_is_not_asked()
    {
        using var image = new TemporaryImage();
        var host = new BlockDeviceHost { SysfsRoot = _sysfs.Root, NumberOf = _ => s_card, CanSecureErase = _ => false };
        using FileDisk watched = FileDisk.Open(new FileDiskOptions(image.Path, Lock: false), host);
        using FileDisk other = FileDisk.Open(new FileDiskOptions(image.Path, Lock: false, Health: false), host);
        Assert.Equal("eMMC", watched.Health!.SourceName);
        Assert.Null(other.Health);
        Assert.False(other.Properties.HasLifetime);
    }

    [Theory]
    [InlineData("wear=37 spare=90 temperature=45", 37, 90, 45)]
    [InlineData("# of a bench\n  temperature=-5 # cold\nwear=255\n", 255, null, -5)]
    [InlineData("spare=0\r\n", null, 0, null)]
    public void A_file_tells_what_is_in_it(string text, int? wear, int? spare, int? temperature)
    {
        HealthReading reading = ReadFile(text);
        Assert.Null(reading.Obstacle);
        Assert.Equal((wear, spare, temperature), (reading.WearPercent, reading.SparePercent, reading.TemperatureCelsius));
    }

    [Theory]
    [InlineData("", "says nothing")]
    [InlineData("# wear=1", "says nothing")]
    [InlineData("wear=1\nwear=2", ":2: 'wear=2'")]
    [InlineData("wear=256", ":1: 'wear=256'")]
    [InlineData("spare=101", "'spare=101'")]
    [InlineData("temperature=400", "'temperature=400'")]
    [InlineData("wear=-1", "'wear=-1'")]
    [InlineData("wear=", "'wear='")]
    [InlineData("wear", "'wear'")]
    [InlineData("colour=3", "'colour=3'")]
    public void What_is_wrong_in_a_file_is_named_with_its_line(string text, string named)
    {
        HealthReading reading = ReadFile(text);
        Assert.Contains(named, reading.Obstacle, StringComparison.Ordinal);
        Assert.False(reading.IsAnything);
    }

    [Fact]
    public void A_file_that_is_not_there_or_never_ends_is_an_obstacle()
    {
        Assert.NotNull(new HealthFile("/nowhere/health").Read().Obstacle);
        Assert.NotNull(new HealthFile("/").Read().Obstacle);
        Assert.Contains("too long", new HealthFile("/dev/zero").Read().Obstacle, StringComparison.Ordinal);
    }

    [Fact]
    public void A_pipe_without_a_writer_is_an_obstacle_and_keeps_nobody_waiting()
    {
        string path = Path.Combine(_sysfs.Root, "pipe");
        Assert.Equal(0, Syscall.mkfifo(path, FilePermissions.S_IRUSR | FilePermissions.S_IWUSR));
        var file = new HealthFile(path);
        Assert.NotNull(Eventually.Returns(file.Read, "a pipe that nobody writes").Obstacle);
        // One that is open and says nothing.
        using FileStream writer = File.Open(path, FileMode.Open, FileAccess.ReadWrite);
        Assert.NotNull(Eventually.Returns(file.Read, "a pipe of a silent writer").Obstacle);
    }

    private IHealthSource? Find(DeviceNumber device, ReadNvmePage? readPage = null) =>
        DeviceHealth.Find(_sysfs.Root, device, readPage ?? (_ => throw new InvalidOperationException("No NVMe device is asked.")));

    private string? ReadPage(Span<byte> page)
    {
        _page.CopyTo(page);
        return null;
    }

    private static HealthReading ReadFile(string text)
    {
        string path = Path.GetTempFileName();
        try
        {
            File.WriteAllText(path, text);
            return new HealthFile(path).Read();
        }
        finally
        {
            File.Delete(path);
        }
    }
}
