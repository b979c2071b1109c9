using VirtioBlkFlow.EndToEndTests.Guests;
using VirtioBlkFlow.EndToEndTests.Harness;

namespace VirtioBlkFlow.EndToEndTests.Ceph;

/// <summary>Linux's own driver makes, fills, checks and discards a file system on an image of a cluster.</summary>
[Collection(CephCollection.Name)]
public sealed class RbdGuestTests(CephCluster cluster)
{
    [Fact]
    public async Task A_file_system_lives_its_whole_life_on_a_cluster()
    {
        using TestFolder folder = new();
        string image = await cluster.CreateImageAsync(128);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, DaemonOptions.Of(cluster.Disk(image)));

        await QemuGuest.RunAsync(folder, daemon, new GuestScenario().WholeLifeOf("ext4", jobs: 2), new QemuOptions { CpuCount = 2, QueueCount = 2 });

        await daemon.StopAsync();
        // All was discarded before the 4 MiB of pattern were written, 2 MiB of them turned into zeros.
        Assert.InRange(await cluster.UsedBytesAsync(image), 4 << 20, 8 << 20);
    }
}
