using VirtioBlkFlow.EndToEndTests.Guests;
using VirtioBlkFlow.EndToEndTests.Harness;

namespace VirtioBlkFlow.EndToEndTests;

/// <summary>Linux's own driver makes, fills, checks and discards file systems on the disk.</summary>
public class FileSystemTests
{
    [Theory]
    [InlineData("ext4", 1)]
    [InlineData("ext4", 2)]
    [InlineData("xfs", 1)]
    [InlineData("xfs", 2)]
    public async Task A_file_system_lives_its_whole_life(string type, int queueCount)
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(512);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new DaemonOptions(image));
        GuestScenario scenario = new GuestScenario().WholeLifeOf(type, jobs: queueCount).Report("queues", "ls /sys/block/vda/mq");

        GuestReport report = await QemuGuest.RunAsync(
            folder, daemon, scenario, new QemuOptions { CpuCount = queueCount, QueueCount = queueCount });

        Assert.Equal(queueCount == 1 ? "0" : "0 1", report["queues"]);
        await daemon.StopAsync();
        // All was discarded before the 4 MiB of pattern were written, 2 MiB of them turned into zeros.
        Assert.InRange(await image.AllocatedBytesAsync(), 2 << 20, 8 << 20);
    }
}
