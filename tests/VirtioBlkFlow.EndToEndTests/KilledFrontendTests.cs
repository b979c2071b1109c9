using VirtioBlkFlow.EndToEndTests.Guests;
using VirtioBlkFlow.EndToEndTests.Harness;

namespace VirtioBlkFlow.EndToEndTests;

/// <summary>The front-end is killed with requests in flight; the daemon lives on and the file system is as a power cut leaves it.</summary>
public class KilledFrontendTests
{
    private const string Mount = "mount -t ext4 /dev/vda /mnt";

    /// <summary>Writes, metadata changes and flushes without end, while the console tells how much has been written.</summary>
    private const string Churn =
        """
        fio --name=churn --directory=/mnt --size=16m --rw=randrw --bsrange=4k-64k --direct=1 --ioengine=libaio --iodepth=16 \
          --fsync=16 --time_based --runtime=300 --minimal >/dev/null 2>&1 &
        while :; do mkdir -p /mnt/churn/a/b; cp /bin/busybox /mnt/churn/a/b/c; sync; rm -r /mnt/churn; done &
        while :; do
          report_written
          usleep 20000
        done
        """;

    [Fact]
    public async Task Three_guests_killed_while_writing_leave_a_file_system_that_a_fourth_can_use()
    {
        using TestFolder folder = new();
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new DaemonOptions(folder.CreateImage(128)));
        await QemuGuest.RunAsync(folder, daemon, new GuestScenario().Step("mkfs", "mkfs.ext4 -q -F /dev/vda"));

        // Early, when the files are being laid out; in the midst of it; and when the journal has wrapped around.
        foreach (int mebibytes in new[] { 1, 16, 48 })
        {
            GuestScenario scenario = WithEarlierFilesIntact()
                .Step("keep_file", $"dd if=/dev/urandom of=/mnt/kept-{mebibytes} bs=64k count=16 && sha256sum /mnt/kept-{mebibytes} >>/mnt/sums && sync")
                .Shell(Churn);
            await using Guest guest = QemuGuest.Start(folder, daemon, scenario, new QemuOptions { CpuCount = 2, QueueCount = 2 });
            await guest.WaitForLineAsync(line => GuestReport.WrittenKibibytes(line) >= mebibytes * 1024);
            await guest.KillAsync();
        }

        await QemuGuest.RunAsync(folder, daemon, WithEarlierFilesIntact()
            .Step("all_files_kept", "[ $(wc -l </mnt/sums) -eq 3 ]")
            .Step("fio_again", Scenarios.FioVerify("--directory=/mnt"))
            .Step("umount", "umount /mnt")
            .Step("check", "e2fsck -f -n /dev/vda"));
        await daemon.StopAsync();

        static GuestScenario WithEarlierFilesIntact() => new GuestScenario()
            .Step("replay_journal", Mount)
            .Step("unmount_replayed", "umount /mnt")
            .Step("check_replayed", "e2fsck -f -n /dev/vda")
            .Step("mount", Mount)
            .Step("earlier_files", "[ ! -e /mnt/sums ] || sha256sum -c /mnt/sums");
    }
}
