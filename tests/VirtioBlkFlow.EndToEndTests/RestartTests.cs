using VirtioBlkFlow.EndToEndTests.Guests;
using VirtioBlkFlow.EndToEndTests.Harness;

namespace VirtioBlkFlow.EndToEndTests;

/// <summary>Firmware, guest and daemon come and go; the data stays.</summary>
public class RestartTests
{
    [Fact]
    public async Task Data_is_there_after_guest_and_daemon_are_restarted()
    {
        using TestFolder folder = new();
        DaemonOptions options = new(folder.CreateImage(256));
        string written = await BootAsync(new GuestScenario()
            .Step("mkfs", "mkfs.ext4 -q -F /dev/vda")
            .Step("mount", "mount -t ext4 /dev/vda /mnt")
            .Step("write", "dd if=/dev/urandom of=/mnt/file bs=64k count=128")
            .Report("sum", "sha256sum </mnt/file")
            .Step("umount", "umount /mnt"));

        string read = await BootAsync(new GuestScenario()
            .Step("check", "e2fsck -f -n /dev/vda")
            .Step("mount", "mount -t ext4 -o ro /dev/vda /mnt")
            .Report("sum", "sha256sum </mnt/file"));

        Assert.Matches("^[0-9a-f]{64}", written);
        Assert.Equal(written, read);

        async Task<string> BootAsync(GuestScenario scenario)
        {
            await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, options);
            GuestReport report = await QemuGuest.RunAsync(folder, daemon, scenario);
            await daemon.StopAsync();
            return report["sum"];
        }
    }

    [Fact]
    public async Task Firmware_and_Linux_take_turns_on_one_connection()
    {
        using TestFolder folder = new();
        string boots = $"/dev/vda bs=512 count=1 conv=notrunc,fsync seek={BootDisk.ScratchSector}";
        GuestScenario scenario = new GuestScenario()
            .Shell($"boot=$(dd if=/dev/vda bs=512 count=1 skip={BootDisk.ScratchSector} 2>/dev/null | tr -d '\\0')")
            .Shell("case \"$boot\" in '')")
            .Step("boot_1_mkfs", "mkfs.ext4 -q -F /dev/vda2")
            .Step("boot_1_write", "mount -t ext4 /dev/vda2 /mnt && dd if=/dev/urandom of=/mnt/file bs=64k count=32 && sha256sum /mnt/file >/mnt/sum && umount /mnt")
            .Step("boot_1_count", $"echo second | dd of={boots}")
            .Shell("reboot -f; sleep 60;; second)")
            .Step("boot_2_read", "mount -t ext4 /dev/vda2 /mnt && sha256sum -c /mnt/sum")
            .Step("boot_2_count", $"echo third | dd of={boots}")
            // Still mounted: the firmware finds a disk that Linux has not let go of.
            .Shell("sync; reboot -f; sleep 60;; third)")
            .Step("boot_3_read", "mount -t ext4 /dev/vda2 /mnt && sha256sum -c /mnt/sum && umount /mnt")
            .Step("boot_3_check", "e2fsck -f -n /dev/vda2")
            .Shell(";; esac");
        DiskImage image = BootDisk.Create(folder, scenario);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new DaemonOptions(image));

        await using Guest guest = QemuGuest.Start(folder, daemon, scenario, new QemuOptions { BootFromDisk = true });
        await guest.FinishAsync();

        // Each time, SeaBIOS's driver read GRUB, the kernel and the initramfs through the same vhost-user connection.
        Assert.Equal(3, guest.Console.Lines.Count(line => line.Contains("GRUB reads kernel and initramfs from the disk", StringComparison.Ordinal)));
        await daemon.StopAsync();
    }
}
