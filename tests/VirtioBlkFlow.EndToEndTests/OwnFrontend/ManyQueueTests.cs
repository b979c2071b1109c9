using System.Runtime.InteropServices;
using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.EndToEndTests.OwnFrontend;

/// <summary>As many queues as a vhost-user message can name: the kick's message has 8 bits for the index.</summary>
public class ManyQueueTests
{
    private const int QueueCount = 256;

    [Fact]
    public async Task All_256_queues_serve_requests_and_leave_nothing_behind()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(
            folder, new Harness.DaemonOptions(image) { QueueCount = QueueCount, Poll = false });
        FrontendOptions options = new()
        {
            QueueCount = QueueCount,
            QueueSize = 16,
            Driver = new BlkDriverOptions { QueueDepth = 2, MaxTransferBytes = 8192 },
        };
        UseAllQueues(daemon, image, options);
        ProcessFootprint before = ProcessFootprint.OfIdle(daemon);
        UseAllQueues(daemon, image, options);
        before.AssertStaysAfter(QueueCount, daemon);
        await daemon.StopAsync();
    }

    private static void UseAllQueues(DaemonProcess daemon, DiskImage image, FrontendOptions options)
    {
        using FrontendSession session = FrontendSession.Open(daemon.SocketPath, options);
        Assert.Equal(QueueCount, session.Negotiation.QueueCount);
        // One request on each queue, all at once; each queue writes its own number.
        for (int i = 0; i < QueueCount; i++)
        {
            BlkDriver driver = session.Drivers[i];
            MemoryMarshal.Cast<byte, int>(driver.Data(driver.NextSlot)[..BlkRequest.SectorBytes]).Fill(i);
            Assert.True(driver.TrySubmit(BlkRequestType.VIRTIO_BLK_T_OUT, (ulong)i, BlkRequest.SectorBytes, tag: (ulong)i));
            driver.Kick();
        }

        for (int i = 0; i < QueueCount; i++)
        {
            Assert.True(session.Drivers[i].WaitForCompletion(Deadline.In(20_000)), $"Queue {i} does not answer.");
            Assert.True(session.Drivers[i].TryComplete(out BlkCompletion completion));
            Assert.Equal((BlkStatus.VIRTIO_BLK_S_OK, (ulong)i), (completion.Status, completion.Tag));
        }

        int[] written = MemoryMarshal.Cast<byte, int>(image.Read(0, QueueCount * BlkRequest.SectorBytes)).ToArray();
        Assert.Equal(Enumerable.Range(0, QueueCount).SelectMany(i => Enumerable.Repeat(i, BlkRequest.SectorBytes / sizeof(int))), written);
        session.VerifyRoundTrip(image, sector: 1024, queue: QueueCount - 1);
    }
}
