using VirtioBlkFlow.EndToEndTests.Guests;
using VirtioBlkFlow.EndToEndTests.Harness;

namespace VirtioBlkFlow.EndToEndTests;

/// <summary>A guest moves from one QEMU and daemon to another pair while it writes; both daemons serve the same image.</summary>
public class MigrationTests
{
    // The page cache is filled by the device alone. If a page it wrote after QEMU had copied it were not marked, its old contents would
    // arrive, and the sum would be another.
    private const string ReadThenSum = "forget_cache; cat /mnt/file >/dev/null && sha256sum -c /tmp/sum";

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_guest_under_load_moves_to_another_daemon(bool packed)
    {
        using TestFolder folder = new();
        using TestFolder destinationFolder = new();
        DiskImage image = folder.CreateImage(96);
        QemuOptions options = new() { CpuCount = 2, QueueCount = 2, Packed = packed };
        GuestScenario before = new GuestScenario()
            .Step("mkfs", "mkfs.ext4 -q -F /dev/vda")
            .Step("mount", "mount -t ext4 /dev/vda /mnt")
            .Step("write_file", "dd if=/dev/urandom of=/mnt/file bs=64k count=384 && sha256sum /mnt/file >/tmp/sum")
            .Shell("while [ ! -e /tmp/word ]; do report_written; usleep 20000; done &");
        GuestScenario after = new GuestScenario()
            .Step("traffic_across_machines", $"repeat_until_word '{{ {Scenarios.FioVerify("--directory=/mnt", mebibytes: 8)} & }}; {ReadThenSum} && wait $!'")
            .Step("forget_cache", "forget_cache")
            .Step("umount", "umount /mnt")
            .Step("check", "e2fsck -f -n /dev/vda")
            .Step("disk_still_works", Scenarios.FioVerify("--filename=/dev/vda"));

        // The two open the image at the same time, as they do on shared storage; only one of them writes.
        await using DaemonProcess source = await DaemonProcess.StartAsync(folder, new DaemonOptions(image) { Lock = false });
        await using DaemonProcess destination = await DaemonProcess.StartAsync(destinationFolder, new DaemonOptions(image) { Lock = false });
        await using Guest left = QemuGuest.Start(folder, source, before.Then(after), options with { QmpName = "qmp.sock" });
        await using Guest arrived = QemuGuest.Start(destinationFolder, destination, after, options with { Incoming = $"unix:{folder["migration.sock"]}" });
        await left.WaitForStepAsync("write_file");
        await left.WaitForWrittenAsync(kibibytes: 2048);
        using (QmpClient qmp = await QmpClient.ConnectAsync(folder["qmp.sock"]))
        {
            await qmp.MigrateAsync($"unix:{folder["migration.sock"]}");
            await qmp.ExecuteAsync("quit");
        }

        await arrived.WaitForWrittenAsync(kibibytes: 4096);
        arrived.SayGoOn();
        await arrived.FinishAsync();
        await source.StopAsync();
        await destination.StopAsync();
    }
}
