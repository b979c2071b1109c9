using VirtioBlkFlow.EndToEndTests.Guests;
using VirtioBlkFlow.EndToEndTests.Harness;

namespace VirtioBlkFlow.EndToEndTests;

/// <summary>A second front-end with a real Linux driver behind it.</summary>
public class UserModeLinuxTests
{
    [Fact]
    public async Task A_file_system_lives_its_whole_life()
    {
        using TestFolder folder = new();
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new DaemonOptions(folder.CreateImage(256)) { Serial = "UML-1" });
        GuestScenario scenario = new GuestScenario().Report("serial", "cat /sys/block/vda/serial").WholeLifeOf("ext4");

        GuestReport report = await UmlGuest.RunAsync(folder, daemon, scenario);

        Assert.Equal("UML-1", report["serial"]);
        await daemon.StopAsync();
    }

    [Fact]
    public async Task One_daemon_serves_User_Mode_Linux_and_QEMU_in_turn()
    {
        using TestFolder folder = new();
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new DaemonOptions(folder.CreateImage(128)));
        GuestScenario writes = new GuestScenario()
            .Step("mkfs", "mkfs.ext4 -q -F /dev/vda")
            .Step("write", "mount -t ext4 /dev/vda /mnt && dd if=/dev/urandom of=/mnt/file bs=64k count=32 && sha256sum /mnt/file >/mnt/sum && umount /mnt");
        GuestScenario reads = new GuestScenario()
            .Step("read", "mount -t ext4 /dev/vda /mnt && sha256sum -c /mnt/sum && umount /mnt")
            .Step("check", "e2fsck -f -n /dev/vda");

        await UmlGuest.RunAsync(folder, daemon, writes);
        await QemuGuest.RunAsync(folder, daemon, reads);
        await UmlGuest.RunAsync(folder, daemon, reads);

        await daemon.StopAsync();
    }
}
