using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.File;
using VirtioBlkFlow.Disks.Health;
using VirtioBlkFlow.UnitTests.Device;
using VirtioBlkFlow.Virtio.Blk;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Disks.Health;

/// <summary>How worn flash memory is, as sysfs tells it.</summary>
public sealed class LifetimeTests : IDisposable
{
    private static readonly DeviceNumber s_card = new(179, 0);
    private static readonly DeviceNumber s_ufs = new(8, 0);
    private readonly SysfsTree _sysfs = new();

    public void Dispose() => _sysfs.Dispose();

    [Theory]
    [InlineData(179, 0, 1, 1, 2)]
    [InlineData(179, 1, 1, 1, 2)]
    [InlineData(8, 0, 2, 10, 11)]
    [InlineData(8, 1, 2, 10, 11)]
    public void A_disk_and_its_partition_tell_the_same(uint major, uint minor, int preEol, int estimateA, int estimateB)
    {
        using HealthMonitor? lifetime = Find(new DeviceNumber(major, minor));
        Assert.Equal((preEol, estimateA, estimateB), Values(lifetime!.Latest.Lifetime!));
    }

    [Theory]
    [InlineData("0x0b 0x0a\n", "0x03\n", 3, 11, 10)]
    [InlineData("0x0b 0x0a\n", "03\n", 3, 11, 10)]
    // Reserved values.
    [InlineData("0x0c 0x01\n", "0x04\n", 0, 0, 1)]
    [InlineData("0x01 0xff\n", "0xff\n", 0, 1, 0)]
    [InlineData("0x01 0x10001\n", "0x10001\n", 0, 1, 0)]
    // What nobody writes there, but who knows.
    [InlineData("0x01\n", "", 0, 1, 0)]
    [InlineData("0x01 much\n", "0x-1\n", 0, 1, 0)]
    public void A_card_tells_what_is_defined_and_nothing_else(string lifeTime, string preEolInfo, int preEol, int estimateA, int estimateB)
    {
        _sysfs.SetCard(lifeTime, preEolInfo);
        using HealthMonitor? lifetime = Find(s_card);
        Assert.Equal((preEol, estimateA, estimateB), Values(lifetime!.Latest.Lifetime!));
    }

    [Fact]
    public void A_device_of_which_nothing_is_defined_has_no_lifetime()
    {
        _sysfs.SetCard("0x00 0x00\n", "0x00\n");
        _sysfs.SetUfs("0x00\n", "0x0c\n", "0x00\n");
        Assert.Null(Find(s_card));
        Assert.Null(Find(s_ufs));
    }

    [Fact]
    public void A_device_that_is_no_flash_memory_or_is_not_there_has_no_lifetime()
    {
        Assert.Null(Find(new DeviceNumber(7, 0)));
        Assert.Null(Find(new DeviceNumber(9, 9)));
        Assert.Null(DeviceHealth.Find("/nowhere", s_card, NoNvme));
        Assert.Null(DeviceHealth.Find("relative", s_card, NoNvme));
    }

    [Fact]
    public void It_is_read_again_in_the_background_and_stays_known_while_it_cannot_be_read()
    {
        using HealthMonitor? lifetime = Find(s_card, TimeSpan.FromMilliseconds(1));
        _sysfs.SetCard("0x03 0x04\n", "0x02\n");
        Eventually.Holds(() => Values(lifetime!.Latest.Lifetime!) == (2, 3, 4), "the new values are seen");
        _sysfs.RemoveCardFiles();
        using HealthMonitor? other = Find(s_ufs, TimeSpan.FromMilliseconds(1));
        _sysfs.SetUfs("0x03\n", "0x01\n", "0x01\n");
        // By then the first has been read again as well, or will be: never is it less than it was.
        Eventually.Holds(() => Values(other!.Latest.Lifetime!) == (3, 1, 1), "the other is read again");
        Assert.Equal((2, 3, 4), Values(lifetime!.Latest.Lifetime!));
        _sysfs.SetCard("0x05 0x05\n", "0x02\n");
        Eventually.Holds(() => Values(lifetime!.Latest.Lifetime!) == (2, 5, 5), "what can be read again is seen");
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_block_device_has_the_lifetime_of_its_number(bool readOnly)
    {
        using var image = new TemporaryImage();
        var host = new BlockDeviceHost { SysfsRoot = _sysfs.Root, NumberOf = _ => s_ufs, CanSecureErase = _ => false };
        using FileDisk disk = FileDisk.Open(new FileDiskOptions(image.Path, readOnly), host);
        Assert.True(disk.Properties.HasLifetime);
        Assert.Equal((2, 10, 11), Values(((IDisk)disk).Lifetime!));
    }

    [Fact]
    public void An_image_has_none()
    {
        using var image = new TemporaryImage();
        using FileDisk disk = FileDisk.Open(new FileDiskOptions(image.Path), new BlockDeviceHost { SysfsRoot = _sysfs.Root });
        Assert.False(disk.Properties.HasLifetime);
        Assert.Null(disk.Lifetime);
    }

    [Theory]
    [InlineData(0x0801ul, 8u, 1u)]
    [InlineData(0xb301ul, 179u, 1u)]
    // makedev(0x12345678, 0x9abcdef0) of <sys/sysmacros.h>.
    [InlineData(0x123459abcde678f0ul, 0x12345678u, 0x9abcdef0u)]
    public void A_device_number_is_taken_apart_as_the_C_library_does(ulong device, uint major, uint minor) =>
        Assert.Equal(new DeviceNumber(major, minor), BlockDeviceHost.NumberFrom(device));

    private HealthMonitor? Find(DeviceNumber device, TimeSpan? interval = null) =>
        DeviceHealth.Find(_sysfs.Root, device, NoNvme) is { } source ? new HealthMonitor(source, interval ?? Timeout.InfiniteTimeSpan) : null;

    private static string? NoNvme(Span<byte> page) => throw new InvalidOperationException("No NVMe device is asked.");

    private static (int PreEol, int EstimateA, int EstimateB) Values(DiskLifetime lifetime)
    {
        BlkLifetime payload = lifetime.Payload;
        return (payload.PreEolInfo, payload.EstimateA, payload.EstimateB);
    }
}
