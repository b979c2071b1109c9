using System.Globalization;
using VirtioBlkFlow.EndToEndTests.Guests;
using VirtioBlkFlow.EndToEndTests.Harness;

namespace VirtioBlkFlow.EndToEndTests;

/// <summary>The driver's queues in the sizes and with the ring features that front-ends choose.</summary>
public class QueueShapeTests
{
    private const int VIRTIO_RING_F_INDIRECT_DESC = 28;
    private const int VIRTIO_RING_F_EVENT_IDX = 29;
    private const int VIRTIO_F_RING_PACKED = 34;

    [Theory]
    [InlineData(16, true, true)]
    [InlineData(256, true, true)]
    [InlineData(1024, true, true)]
    [InlineData(16, false, false)]
    [InlineData(256, false, true)]
    [InlineData(256, true, false)]
    [InlineData(1024, false, false)]
    public async Task Data_survives_with_a_queue_of_this_size_and_these_features(int queueSize, bool eventIdx, bool indirectDescriptors)
    {
        GuestReport report = await RunTrafficAsync(
            new QemuOptions { QueueSize = queueSize, EventIdx = eventIdx, IndirectDescriptors = indirectDescriptors });

        Assert.Equal(eventIdx, report.HasFeature(VIRTIO_RING_F_EVENT_IDX));
        Assert.Equal(indirectDescriptors, report.HasFeature(VIRTIO_RING_F_INDIRECT_DESC));
        // Without indirect descriptors Linux counts on two descriptors a request at least.
        int requests = indirectDescriptors ? queueSize : queueSize / 2;
        Assert.Equal(requests.ToString(CultureInfo.InvariantCulture), report["requests"]);
    }

    [Theory]
    [InlineData(256, true, true)]
    [InlineData(256, false, false)]
    [InlineData(1024, true, false)]
    public async Task Data_survives_with_packed_queues(int queueSize, bool eventIdx, bool indirectDescriptors)
    {
        GuestReport report = await RunTrafficAsync(new QemuOptions
        {
            Packed = true,
            QueueSize = queueSize,
            EventIdx = eventIdx,
            IndirectDescriptors = indirectDescriptors,
            QueueCount = 2,
            CpuCount = 2,
        });

        Assert.True(report.HasFeature(VIRTIO_F_RING_PACKED));
        Assert.Equal(eventIdx, report.HasFeature(VIRTIO_RING_F_EVENT_IDX));
        Assert.Equal(indirectDescriptors, report.HasFeature(VIRTIO_RING_F_INDIRECT_DESC));
    }

    [Theory]
    [InlineData("--register-memory --reactors 1 --call-moderation 50/8")]
    [InlineData("--merge off --cpus 0")]
    public async Task Data_survives_with_the_options_that_only_change_what_serving_costs(string options)
    {
        GuestReport report = await RunTrafficAsync(new QemuOptions { QueueCount = 2, CpuCount = 2 }, options.Split(' '));

        Assert.Equal("0 1", report["queues"]);
    }

    [Fact]
    public async Task Data_survives_when_the_front_end_sets_up_fewer_queues_than_there_are_processors()
    {
        GuestReport report = await RunTrafficAsync(new QemuOptions { QueueCount = 1, CpuCount = 2 });

        Assert.Equal("0", report["queues"]);
    }

    /// <summary>
    /// Linux's driver waits for ever to queue a request of more segments than the queue has descriptors, whatever the back-end does: the
    /// limit seg_max is one for all queue sizes. 32 KiB are 9 segments at most, and a queue of 16 has room for 14.
    /// </summary>
    private static string FitRequestsIntoQueue(QemuOptions options) =>
        options is { QueueSize: 16, IndirectDescriptors: false } ? "echo 32 >/sys/block/vda/queue/max_sectors_kb" : "true";

    private static async Task<GuestReport> RunTrafficAsync(QemuOptions options, params string[] daemonOptions)
    {
        using TestFolder folder = new();
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new DaemonOptions(folder.CreateImage(64)) { More = daemonOptions });
        GuestScenario scenario = new GuestScenario()
            .ReportFeatures()
            .Report("queues", "ls /sys/block/vda/mq")
            .Report("requests", "echo none >/sys/block/vda/queue/scheduler; cat /sys/block/vda/queue/nr_requests")
            .Step("fit_requests_into_queue", FitRequestsIntoQueue(options))
            .RawTraffic();
        GuestReport report = await QemuGuest.RunAsync(folder, daemon, scenario, options);
        await daemon.StopAsync();
        return report;
    }
}
