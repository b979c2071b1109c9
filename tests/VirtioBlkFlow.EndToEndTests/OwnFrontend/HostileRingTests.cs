using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.VhostUser.Wire;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.EndToEndTests.OwnFrontend;

/// <summary>
/// A hostile driver on queue 0, an honest one on queue 1. What leaves no way to answer breaks queue 0 and nothing else, and a new set-up mends
/// it; what can be answered gets its status.
/// </summary>
public class HostileRingTests
{
    private const int QueueSize = HostileQueue.QueueSize;
    private const DescriptorFlags Next = DescriptorFlags.VIRTQ_DESC_F_NEXT;
    private const DescriptorFlags Write = DescriptorFlags.VIRTQ_DESC_F_WRITE;
    private const DescriptorFlags Indirect = DescriptorFlags.VIRTQ_DESC_F_INDIRECT;
    private const int DeadlineMs = 10_000;

    // What each does to a ring that is new and idle; the head, if there is one, is 0.
    private static readonly Dictionary<string, Action<HostileQueue>> s_ringBreakers = new()
    {
        ["HARD-01: available index one too far"] = queue => queue.PublishIndex(QueueSize + 1),
        ["HARD-01: available index behind"] = queue => queue.PublishIndex(ushort.MaxValue),
        ["HARD-02: head equal to the queue size"] = queue => queue.PublishHead(QueueSize),
        ["HARD-02: head 65535"] = queue => queue.PublishHead(ushort.MaxValue),
        ["HARD-03: next equal to the queue size"] = queue => queue.Publish(queue.Header with { Flags = Next, Next = QueueSize }),
        ["HARD-03: a descriptor that follows itself"] = queue => queue.Publish(queue.Header with { Flags = Next, Next = 0 }),
        ["HARD-03: two descriptors in a circle"] = queue =>
            queue.Publish(queue.Header with { Flags = Next, Next = 1 }, queue.Status with { Flags = Next | Write, Next = 0 }),
        ["HARD-05: nested indirect table"] = queue =>
            queue.PublishTable(48, queue.Header with { Flags = Next, Next = 1 }, queue.Header with { LengthBytes = 16, Flags = Indirect }),
        ["HARD-05: indirect and next"] = queue => queue.Publish(queue.Header with { LengthBytes = 48, Flags = Indirect | Next, Next = 1 }),
        ["HARD-05: empty indirect table"] = queue => queue.PublishTable(0),
        ["HARD-05: indirect table of 17 bytes"] = queue => queue.PublishTable(17),
        ["HARD-05: indirect table outside of memory"] = queue =>
            queue.Publish(new Descriptor { Address = 1ul << 40, LengthBytes = 48, Flags = Indirect }),
        ["HARD-05: indirect table that ends outside of memory"] = queue => queue.PublishTableAtEndOfMemory(),
        ["HARD-05: indirect table at the end of addresses"] = queue =>
            queue.Publish(new Descriptor { Address = ulong.MaxValue - 15, LengthBytes = 48, Flags = Indirect }),
        ["HARD-05: loop in an indirect table"] = queue => queue.PublishTable(32, queue.Header with { Flags = Next, Next = 0 }),
        ["HARD-05: indirect table that is longer than any chain may be"] = queue =>
            queue.Publish(new Descriptor { Address = 0, LengthBytes = 16 * 40_000, Flags = Indirect }),
        ["the same head twice in flight"] = queue => queue.PublishTwice(),
    };

    private static readonly Dictionary<string, (Action<HostileQueue> Publish, BlkStatus? Expected)> s_requestFaults = new()
    {
        ["HARD-04: readable after writable"] = (
            queue => queue.Publish(queue.Header, queue.Data(512, Write), queue.Data(512, 0), queue.Status), BlkStatus.VIRTIO_BLK_S_IOERR),
        ["HARD-07: data outside of memory"] = (
            queue => queue.Publish(queue.Header, queue.Data(512, Write) with { Address = 1ul << 40 }, queue.Status), BlkStatus.VIRTIO_BLK_S_IOERR),
        ["HARD-07: data that ends outside of memory"] = (
            queue => queue.Publish(queue.Header, queue.Data(1024, Write) with { Address = queue.EndOfMemory - 512 }, queue.Status),
            BlkStatus.VIRTIO_BLK_S_IOERR),
        ["HARD-07: data that wraps around the end of addresses"] = (
            queue => queue.Publish(queue.Header, queue.Data(1024, Write) with { Address = ulong.MaxValue - 511 }, queue.Status),
            BlkStatus.VIRTIO_BLK_S_IOERR),
        ["HARD-07: data of 4 GiB less 1"] = (
            queue => queue.Publish(queue.Header, queue.Data(uint.MaxValue, Write), queue.Status), BlkStatus.VIRTIO_BLK_S_IOERR),
        ["HARD-07: header outside of memory"] = (
            queue => queue.Publish(queue.Header with { Address = 1ul << 40 }, queue.Data(512, Write), queue.Status), BlkStatus.VIRTIO_BLK_S_IOERR),
        ["HARD-07: status outside of memory"] = (
            queue => queue.Publish(queue.Header, queue.Data(512, Write), queue.Status with { Address = 1ul << 40 }), null),
        ["HARD-11: header of 15 bytes"] = (
            queue => queue.Publish(queue.Header with { LengthBytes = 15 }, queue.Status), BlkStatus.VIRTIO_BLK_S_IOERR),
        ["HARD-11: only a status"] = (queue => queue.Publish(queue.Status), BlkStatus.VIRTIO_BLK_S_IOERR),
        ["HARD-11: only a header"] = (queue => queue.Publish(queue.Header), null),
        ["HARD-11: nothing but an empty descriptor"] = (queue => queue.Publish(queue.Header with { LengthBytes = 0 }), null),
        ["HARD-11: header in 16 pieces through a table"] = (queue => queue.PublishSplitHeader(), BlkStatus.VIRTIO_BLK_S_OK),
    };

    [Theory]
    [InlineData("io_uring")]
    [InlineData("threads")]
    public async Task A_broken_ring_stops_its_queue_only_until_it_is_set_up_anew(string engine)
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        ShadowDisk shadow = new(16);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new Harness.DaemonOptions(image) { QueueCount = 2, IoEngine = engine });
        foreach ((string name, Action<HostileQueue> breakRing) in s_ringBreakers)
        {
            try
            {
                BreakAndMend(daemon, image, shadow, breakRing);
            }
            catch (Exception exception)
            {
                throw new InvalidOperationException($"'{name}': {exception.Message}\n{daemon.Log}", exception);
            }
        }

        await daemon.StopAsync();
    }

    [Fact]
    public async Task A_faulty_request_gets_what_answer_there_can_be_and_the_queue_goes_on()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new Harness.DaemonOptions(image) { QueueCount = 2 });
        using (FrontendSession session = FrontendSession.Open(daemon.SocketPath, new FrontendOptions { StartQueues = false, QueueCount = 0 }))
        {
            foreach ((string name, (Action<HostileQueue> publish, BlkStatus? expected)) in s_requestFaults)
            {
                using HostileQueue hostile = new(session);
                hostile.Queue.Start(session.Frontend);
                publish(hostile);
                Assert.True(SpinWait.SpinUntil(() => hostile.Raw.UsedIndex == 1, DeadlineMs), $"'{name}' does not come back.\n{daemon.Log}");
                (uint id, uint lengthBytes) = hostile.Raw.ReadUsedElement(0);
                byte status = hostile.StatusByte;
                Assert.True(id == 0, $"'{name}' comes back as head {id}.");
                Assert.True(status == (byte?)expected || (expected is null && status == HostileQueue.NotWritten), $"'{name}' has status {status}.");
                Assert.True(expected is not null || lengthBytes == 0, $"'{name}' claims {lengthBytes} bytes.");
                Assert.True(hostile.Queue.Error.Take() == 0, $"'{name}' breaks the queue.");
                hostile.Queue.Stop(session.Frontend);
            }
        }

        await daemon.StopAsync();
        Assert.Equal(new byte[16 << 20], File.ReadAllBytes(image.FilePath));
    }

    [Fact]
    public async Task An_indirect_table_that_was_not_negotiated_breaks_the_queue()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new Harness.DaemonOptions(image) { QueueCount = 2 });
        NegotiationOptions negotiation = new() { Features = VirtioFeatures.VIRTIO_F_VERSION_1 };
        using (FrontendSession session = FrontendSession.Open(
            daemon.SocketPath, new FrontendOptions { StartQueues = false, QueueCount = 0, Negotiation = negotiation }))
        {
            using HostileQueue hostile = new(session);
            hostile.Queue.Start(session.Frontend);
            hostile.PublishSplitHeader();
            Assert.True(hostile.Queue.Error.Wait(Deadline.In(DeadlineMs)));
            Assert.Equal(0, hostile.Raw.UsedIndex);
        }

        await daemon.StopAsync();
    }

    // HARD-09. Whatever the device makes of it, it must be one of the answers there are, and the honest queue must not notice.
    [Fact]
    public async Task Descriptors_that_change_while_they_are_read_harm_nobody_else()
    {
        const int Rounds = 2000;
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        ShadowDisk shadow = new(16);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new Harness.DaemonOptions(image) { QueueCount = 2 });
        using (FrontendSession session = FrontendSession.Open(daemon.SocketPath, new FrontendOptions { QueueCount = 0 }))
        {
            using HostileQueue hostile = new(session);
            hostile.Queue.Start(session.Frontend);
            (FrontendQueue honestQueue, Frontend.Blk.BlkDriver honest) = session.PlaceQueue(1, 128, new Frontend.Blk.BlkDriverOptions { QueueDepth = 32 });
            honestQueue.Start(session.Frontend);
            VerifiedTraffic traffic = new(honest, shadow, 0, shadow.SectorCount, seed: 13);
            bool enough = false;
            Task racing = Task.Run(() =>
            {
                Descriptor[] faces = [hostile.Data(512, Write), hostile.Data(0x7fff_ffff, Write), hostile.Data(512, Write) with { Address = 1ul << 40 }];
                for (int i = 0; !Volatile.Read(ref enough); i++)
                {
                    Descriptor face = faces[i % faces.Length];
                    hostile.Raw.WriteDescriptor(1, face with { Flags = face.Flags | Next, Next = 2 });
                }
            });
            Task loading = Task.Run(() => traffic.RunWhile(() => !Volatile.Read(ref enough)));
            try
            {
                for (ushort round = 1; round <= Rounds; round++)
                {
                    hostile.PublishAgain(round, hostile.Header, hostile.Data(512, Write), hostile.Status);
                    Assert.True(SpinWait.SpinUntil(() => hostile.Raw.UsedIndex == round, DeadlineMs), $"Round {round} does not come back.\n{daemon.Log}");
                    Assert.True(hostile.StatusByte is 0 or 1, $"Status {hostile.StatusByte} in round {round}.");
                }
            }
            finally
            {
                Volatile.Write(ref enough, true);
                await Task.WhenAll(racing, loading);
            }

            Assert.True(traffic.CompletedCount > 0);
        }

        await daemon.StopAsync();
        shadow.AssertEqualTo(image);
    }

    private static void BreakAndMend(DaemonProcess daemon, DiskImage image, ShadowDisk shadow, Action<HostileQueue> breakRing)
    {
        using FrontendSession session = FrontendSession.Open(daemon.SocketPath, new FrontendOptions { QueueCount = 0 });
        (FrontendQueue honestQueue, Frontend.Blk.BlkDriver honest) = session.PlaceQueue(1, 128, new Frontend.Blk.BlkDriverOptions { QueueDepth = 32 });
        honestQueue.Start(session.Frontend);
        VerifiedTraffic traffic = new(honest, shadow, 1 << 12, shadow.SectorCount - (1 << 12), seed: 14);
        traffic.Run(64);
        using (HostileQueue hostile = new(session))
        {
            hostile.Queue.Start(session.Frontend);
            breakRing(hostile);
            Assert.True(hostile.Queue.Error.Wait(Deadline.In(DeadlineMs)), "The error descriptor is not signalled.");
            Assert.True(session.Frontend.GetStatus().HasFlag(DeviceStatus.DEVICE_NEEDS_RESET) || IsTold(session.Frontend), "The status does not tell.");

            // The other queue goes on, and the broken one does nothing any more.
            traffic.Run(256);
            ushort used = hostile.Raw.UsedIndex;
            hostile.Queue.Kick.Signal();
            traffic.Run(64);
            Assert.Equal(used, hostile.Raw.UsedIndex);
            Assert.Equal(1ul, hostile.Queue.Error.Take());
            hostile.Queue.Stop(session.Frontend);
        }

        (FrontendQueue mended, Frontend.Blk.BlkDriver driver) = session.PlaceQueue(0, QueueSize, new Frontend.Blk.BlkDriverOptions());
        mended.Start(session.Frontend);
        byte[] data = new byte[4096];
        Random.Shared.NextBytes(data);
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Write(0, data));
        Assert.Equal(data, image.Read(0, data.Length));
        traffic.Run(64);
    }

    // The reactor signals before the device has noted it.
    private static bool IsTold(VhostUserFrontend frontend) =>
        SpinWait.SpinUntil(() => frontend.GetStatus().HasFlag(DeviceStatus.DEVICE_NEEDS_RESET), DeadlineMs);
}
