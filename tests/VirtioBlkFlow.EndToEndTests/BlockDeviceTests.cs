using System.Globalization;
using VirtioBlkFlow.EndToEndTests.Guests;
using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.UnitTests.Disks.Devices;

namespace VirtioBlkFlow.EndToEndTests;

/// <summary>A block device of the host as the disk of a guest.</summary>
public class BlockDeviceTests
{
    [Fact]
    public async Task A_file_system_lives_its_whole_life_on_a_device_with_sectors_of_4096_bytes()
    {
        using TestFolder folder = new();
        using LoopDevice loop = new(256 << 20, 4096, direct: true);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new DaemonOptions(new DiskImage(loop.Path)) { Direct = true });
        GuestScenario scenario = new GuestScenario()
            .Report("sectors", "lsblk -n -d -o LOG-SEC,PHY-SEC /dev/vda | tr -s ' '")
            .Report("granularity", "cat /sys/block/vda/queue/discard_granularity")
            .WholeLifeOf("ext4");

        GuestReport report = await UmlGuest.RunAsync(folder, daemon, scenario);

        Assert.Equal("4096 4096", report["sectors"].Trim());
        Assert.Equal(loop.Limit("discard_granularity").ToString(CultureInfo.InvariantCulture), report["granularity"]);
        await daemon.StopAsync();
        // What the guest discarded has left the file behind the device: all, before the 4 MiB of pattern were written.
        Assert.InRange(await new DiskImage(loop.FilePath).AllocatedBytesAsync(), 2 << 20, 8 << 20);
    }
}
