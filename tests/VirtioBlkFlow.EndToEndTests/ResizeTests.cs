using VirtioBlkFlow.EndToEndTests.Guests;
using VirtioBlkFlow.EndToEndTests.Harness;

namespace VirtioBlkFlow.EndToEndTests;

/// <summary>The image changes its size under a running guest (VIRTIO 1.4, "Block Device", "Device Operation": capacity may change).</summary>
public class ResizeTests
{
    [Fact]
    public async Task A_running_guest_sees_the_disk_grow_and_shrink()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(64);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new DaemonOptions(image) { More = ["--log-level", "information"] });
        GuestScenario scenario = new GuestScenario()
            .Step("starts_with_64_mib", HasSectors(64))
            .Shell("wait_for_word")
            .Step("grows_to_96_mib", HasSectors(96))
            .Step("new_end_is_usable", Scenarios.FioVerify("--filename=/dev/vda", more: "--offset=80m"))
            .Shell("wait_for_word")
            .Step("shrinks_to_48_mib", HasSectors(48))
            .Refused("old_end_is_gone", "dd if=/dev/zero of=/dev/vda bs=1M seek=60 count=1 oflag=direct")
            .Step("rest_is_usable", Scenarios.FioVerify("--filename=/dev/vda", more: "--offset=40m"));
        await using Guest guest = QemuGuest.Start(folder, daemon, scenario);

        await guest.WaitForStepAsync("starts_with_64_mib");
        Resize(image, 96);
        daemon.ReadSizeAgain();
        guest.SayGoOn();
        await guest.WaitForStepAsync("new_end_is_usable");
        Resize(image, 48);
        daemon.ReadSizeAgain();
        guest.SayGoOn();
        await guest.FinishAsync();
        await daemon.StopAsync();
        Assert.Equal(48L << 20, new FileInfo(image.FilePath).Length);

        // The driver hears of it in the background, in no time unless the machine builds something beside it.
        static string HasSectors(int mebibytes) =>
            $"(for i in $(seq 1200); do [ $(cat /sys/block/vda/size) -ne {mebibytes * 2048} ] || exit 0; usleep 50000; done; exit 1)";
    }

    private static void Resize(DiskImage image, int mebibytes)
    {
        using FileStream file = new(image.FilePath, FileMode.Open, FileAccess.Write, FileShare.ReadWrite);
        file.SetLength((long)mebibytes << 20);
    }
}
