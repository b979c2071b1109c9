using System.Globalization;
using VirtioBlkFlow.EndToEndTests.Guests;
using VirtioBlkFlow.EndToEndTests.Harness;

namespace VirtioBlkFlow.EndToEndTests;

/// <summary>
/// The daemon is killed again and again, at random moments, under a guest with 16 requests in flight. QEMU finds each successor, which finishes
/// what was in flight from the inflight area, and the guest never knows.
/// </summary>
public class KilledDaemonTests
{
    private const int VIRTIO_F_RING_PACKED = 34;

    /// <summary>How often a daemon is killed in each case: enough for every run of the tests; a soak sets more.</summary>
    private static readonly int s_kills =
        int.Parse(Environment.GetEnvironmentVariable("VIRTIOBLKFLOW_KILLS") ?? "4", CultureInfo.InvariantCulture);

    [Theory]
    [InlineData(false, 1)]
    [InlineData(false, 2)]
    [InlineData(true, 1)]
    [InlineData(true, 2)]
    public async Task Fio_verifies_across_daemons_killed_at_random_moments(bool packed, int queues)
    {
        int seed = RandomSeed.Take();
        Random random = new(seed);
        using TestFolder folder = new();
        DaemonOptions options = new(folder.CreateImage(96));
        GuestScenario scenario = new GuestScenario()
            .ReportFeatures()
            .Step("mkfs", "mkfs.ext4 -q -F /dev/vda")
            .Step("mount", "mount -t ext4 /dev/vda /mnt")
            .Shell("while [ ! -e /tmp/word ]; do report_written; usleep 20000; done &")
            .Step("fio_across_daemons", $"repeat_until_word '{Scenarios.FioVerify("--directory=/mnt", mebibytes: 12, jobs: queues)}'")
            .Step("forget_cache", "forget_cache")
            .Step("umount", "umount /mnt")
            .Step("check", "e2fsck -f -n /dev/vda")
            .Step("disk_still_works", Scenarios.FioVerify("--filename=/dev/vda"));

        DaemonProcess daemon = await DaemonProcess.StartAsync(folder, options);
        await using Guest guest = QemuGuest.Start(
            folder, daemon, scenario, new QemuOptions { CpuCount = queues, QueueCount = queues, Packed = packed, Reconnect = 1 });
        for (int kill = 0; kill < s_kills; kill++)
        {
            await using (daemon)
            {
                // Half a megabyte to four: from the first writes of a pass into the midst of the next one.
                await guest.WaitForWrittenAsync(random.Next(512, 4096));
                await daemon.KillAsync();
            }

            File.Delete(daemon.SocketPath);
            daemon = await DaemonProcess.StartAsync(folder, options);
        }

        await using (daemon)
        {
            guest.SayGoOn();
            GuestReport report = await guest.FinishAsync($"seed {seed}");
            Assert.Equal(packed, report.HasFeature(VIRTIO_F_RING_PACKED));
            await daemon.StopAsync();
        }
    }
}
