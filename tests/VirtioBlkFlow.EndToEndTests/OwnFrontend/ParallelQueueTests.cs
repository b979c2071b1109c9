using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.EndToEndTests.OwnFrontend;

/// <summary>Several queues at once, each with 32 requests in flight, every byte checked.</summary>
public class ParallelQueueTests
{
    private const int Mebibytes = 32;

    [Theory]
    [InlineData("io_uring", null, CompletionWait.Call, false, 128)]
    [InlineData("io_uring", false, CompletionWait.Call, true, 32)]
    [InlineData("io_uring", true, CompletionWait.Poll, false, 1024)]
    [InlineData("threads", null, CompletionWait.Call, true, 128)]
    public async Task Queues_in_parallel_keep_every_byte(string engine, bool? poll, CompletionWait wait, bool indirect, int queueSize)
    {
        const int QueueCount = 4;
        const int RequestsPerQueue = 1500;
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(Mebibytes);
        ShadowDisk shadow = new(Mebibytes);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(
            folder, new Harness.DaemonOptions(image) { QueueCount = QueueCount, IoEngine = engine, Poll = poll });
        using (FrontendSession session = FrontendSession.Open(daemon.SocketPath, new FrontendOptions
        {
            QueueCount = QueueCount,
            QueueSize = queueSize,
            // Three descriptors for a request, or one with a table.
            Driver = new BlkDriverOptions { QueueDepth = indirect ? 32 : Math.Min(32, queueSize / 3), UseIndirect = indirect, Wait = wait },
        }))
        {
            ulong share = shadow.SectorCount / QueueCount;
            VerifiedTraffic[] traffic =
                [.. session.Drivers.Select((driver, i) => new VerifiedTraffic(driver, shadow, (ulong)i * share, share, seed: 100 + i))];
            await Task.WhenAll(traffic.Select(one => Task.Run(() => one.Run(RequestsPerQueue))));
            foreach (VerifiedTraffic one in traffic)
            {
                one.VerifyAll(session.Drivers[0]);
            }
        }

        await daemon.StopAsync();
        shadow.AssertEqualTo(image);
    }

    [Fact]
    public async Task A_flush_on_one_queue_covers_the_writes_of_another()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(Mebibytes);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new Harness.DaemonOptions(image) { QueueCount = 2, Cache = "writeback" });
        using (FrontendSession session = FrontendSession.Open(daemon.SocketPath, new FrontendOptions { QueueCount = 2 }))
        {
            ShadowDisk shadow = new(Mebibytes);
            VerifiedTraffic traffic = new(session.Drivers[0], shadow, 0, shadow.SectorCount, seed: 3);
            bool flushed = false;
            Task writing = Task.Run(() => traffic.RunWhile(() => !Volatile.Read(ref flushed)));
            for (int i = 0; i < 50; i++)
            {
                traffic.WaitForProgress();
                Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[1].Flush());
            }

            Volatile.Write(ref flushed, true);
            await writing;
            shadow.AssertEqualTo(image);
        }

        await daemon.StopAsync();
    }

    [Theory]
    [InlineData(VirtioFeatures.None)]
    [InlineData(VirtioFeatures.VIRTIO_RING_F_EVENT_IDX)]
    public async Task Indices_wrap_around_under_load(VirtioFeatures ringFeatures)
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        ShadowDisk shadow = new(16);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new Harness.DaemonOptions(image));
        NegotiationOptions negotiation = new() { Features = VirtioFeatures.VIRTIO_F_VERSION_1 | ringFeatures };
        using (FrontendSession session = FrontendSession.Open(
            daemon.SocketPath, new FrontendOptions { Negotiation = negotiation, QueueCount = 0 }))
        {
            // A base near the end: after 36 requests the indices begin at 0 again (VU-54).
            using FrontendQueue queue = new(session.Memory, 0, 32, session.Negotiation.RingFeatures, startIndex: 65500);
            BlkDriver driver = new(session.Memory, queue, new BlkDriverOptions { QueueDepth = 8 });
            queue.Start(session.Frontend);
            new VerifiedTraffic(driver, shadow, 0, shadow.SectorCount, seed: 4).Run(2000);
            Assert.Equal(unchecked((ushort)(65500 + 2000)), queue.Stop(session.Frontend));
        }

        await daemon.StopAsync();
        shadow.AssertEqualTo(image);
    }
}
