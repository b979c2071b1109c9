using VirtioBlkFlow.EndToEndTests.Guests;
using VirtioBlkFlow.EndToEndTests.Harness;

namespace VirtioBlkFlow.EndToEndTests;

/// <summary>The write cache as the guest sees and switches it (VIRTIO_BLK_F_CONFIG_WCE, VIRTIO_BLK_F_FLUSH).</summary>
public class WriteCacheTests
{
    private const int VIRTIO_BLK_F_FLUSH = 9;
    private const int VIRTIO_BLK_F_CONFIG_WCE = 11;
    private const string Show = "cat /sys/block/vda/queue/write_cache";
    private const string Switch = "/sys/block/vda/cache_type";
    private const string SyncedWrites = "fio --name=synced --filename=/dev/vda --size=1m --rw=randwrite --bs=4k --fdatasync=4 --verify=crc32c --minimal";

    [Theory]
    [InlineData("writeback", "write back", "write through")]
    [InlineData("writethrough", "write through", "write back")]
    public async Task The_guest_switches_the_cache_over_and_back(string cache, string shownAtFirst, string other)
    {
        GuestScenario scenario = new GuestScenario()
            .ReportFeatures()
            .Report("at_first", Show)
            .Step("write_at_first", SyncedWrites)
            .Step("switch_over", $"echo {other} >{Switch}")
            .Report("switched_over", Show)
            .Step("write_switched_over", SyncedWrites)
            .Step("switch_back", $"echo {shownAtFirst} >{Switch}")
            .Report("switched_back", Show)
            .Step("write_switched_back", SyncedWrites);

        GuestReport report = await RunAsync(scenario, cache, configWce: true);

        Assert.True(report.HasFeature(VIRTIO_BLK_F_CONFIG_WCE));
        Assert.Equal((shownAtFirst, other, shownAtFirst), (report["at_first"], report["switched_over"], report["switched_back"]));
    }

    [Fact]
    public async Task Without_CONFIG_WCE_the_cache_is_fixed_and_flushes_work()
    {
        GuestScenario scenario = new GuestScenario()
            .ReportFeatures()
            .Report("at_first", Show)
            .Refused("switch", $"echo write through >{Switch}")
            .Step("write", SyncedWrites);

        GuestReport report = await RunAsync(scenario, "writeback", configWce: false);

        Assert.False(report.HasFeature(VIRTIO_BLK_F_CONFIG_WCE));
        Assert.True(report.HasFeature(VIRTIO_BLK_F_FLUSH));
        Assert.Equal("write back", report["at_first"]);
    }

    private static async Task<GuestReport> RunAsync(GuestScenario scenario, string cache, bool configWce)
    {
        using TestFolder folder = new();
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new DaemonOptions(folder.CreateImage(64)) { Cache = cache });
        GuestReport report = await QemuGuest.RunAsync(folder, daemon, scenario, new QemuOptions { ConfigWce = configWce });
        await daemon.StopAsync();
        return report;
    }
}
