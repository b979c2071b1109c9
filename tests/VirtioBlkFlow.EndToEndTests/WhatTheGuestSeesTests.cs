using VirtioBlkFlow.EndToEndTests.Guests;
using VirtioBlkFlow.EndToEndTests.Harness;

namespace VirtioBlkFlow.EndToEndTests;

/// <summary>What the daemon's options make of the disk in the guest.</summary>
public class WhatTheGuestSeesTests
{
    [Theory]
    [InlineData("VBF-0001")]
    [InlineData("exactly-twenty-chars")]
    public async Task The_serial_is_the_one_given(string serial)
    {
        using TestFolder folder = new();
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new DaemonOptions(folder.CreateImage(64)) { Serial = serial });

        GuestReport report = await QemuGuest.RunAsync(
            folder,
            daemon,
            new GuestScenario().Report("serial", "cat /sys/block/vda/serial").Report("sectors", "cat /sys/block/vda/size").Step("list", "lsblk /dev/vda"));

        Assert.Equal(serial, report["serial"]);
        Assert.Equal("131072", report["sectors"]);
        await daemon.StopAsync();
    }

    [Fact]
    public async Task A_read_only_disk_is_read_and_never_written()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(64);
        string source = Directory.CreateDirectory(folder["source"]).FullName;
        await File.WriteAllTextAsync(Path.Combine(source, "file"), "made on the host\n");
        await ChildProcess.RunAsync("/sbin/mkfs.ext4", ["-q", "-F", "-d", source, image.FilePath], TimeSpan.FromSeconds(30));
        string before = image.Sha256();
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new DaemonOptions(image) { ReadOnly = true });
        GuestScenario scenario = new GuestScenario()
            .Report("ro", "cat /sys/block/vda/ro")
            .Refused("write", "dd if=/dev/zero of=/dev/vda bs=4k count=1 conv=fsync")
            .Refused("discard", "blkdiscard -f /dev/vda")
            .Step("mount", "mount -t ext4 -o ro /dev/vda /mnt")
            .Step("read", "grep -q \"made on the host\" /mnt/file")
            .Refused("write_file", "touch /mnt/file2")
            .Step("umount", "umount /mnt");

        GuestReport report = await QemuGuest.RunAsync(folder, daemon, scenario);

        Assert.Equal("1", report["ro"]);
        await daemon.StopAsync();
        Assert.Equal(before, image.Sha256());
    }
}
