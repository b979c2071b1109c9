using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.EndToEndTests.OwnFrontend;

/// <summary>Guest memory comes and goes while the queues work; buffers lie wherever a driver likes.</summary>
public class MemoryChangeTests
{
    private const int DeadlineMs = 10_000;

    [Fact]
    public async Task Regions_are_added_used_and_removed_under_load()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        ShadowDisk shadow = new(16);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new Harness.DaemonOptions(image) { QueueCount = 2 });
        using (FrontendSession session = FrontendSession.Open(daemon.SocketPath, new FrontendOptions { QueueCount = 2 }))
        {
            const ulong Half = 8 << 11;
            VerifiedTraffic traffic = new(session.Drivers[0], shadow, 0, Half, seed: 5);
            bool enough = false;
            Task loading = Task.Run(() => traffic.RunWhile(() => !Volatile.Read(ref enough)));
            try
            {
                for (int round = 0; round < 50; round++)
                {
                    traffic.WaitForProgress();
                    // A file that is larger than the region, and a user address that is not where the region is mapped here.
                    SharedRegionOptions options = new(0x1_0000_0000, 1 << 20) { MmapOffset = 8192, UserAddress = 0x7000_0000_0000 };
                    using SharedRegion region = new(options);
                    Assert.Equal(0ul, session.Frontend.AddMemReg(region, needReply: true));
                    Random random = new(round);
                    byte[] data = new byte[8192];
                    random.NextBytes(data);
                    ulong sector = Half + (ulong)random.Next((int)Half - 16);
                    data.CopyTo(shadow.At(sector, data.Length));
                    Write(region, 4096, data);
                    AssertOk(session.Drivers[1], BlkRequestType.VIRTIO_BLK_T_OUT, sector, DriverBuffer.Readable(region.GuestAddress + 4096, 8192));
                    AssertOk(session.Drivers[1], BlkRequestType.VIRTIO_BLK_T_IN, sector, DriverBuffer.Writable(region.GuestAddress + 65536, 8192));
                    Assert.Equal(data, Read(region, 65536, data.Length));
                    Assert.Equal(0ul, session.Frontend.RemMemReg(region, needReply: true));
                    // Gone: a buffer there is an error of this one request.
                    Assert.Equal(
                        BlkStatus.VIRTIO_BLK_S_IOERR,
                        Execute(session.Drivers[1], BlkRequestType.VIRTIO_BLK_T_IN, sector, DriverBuffer.Writable(region.GuestAddress, 512)).Status);
                }
            }
            finally
            {
                Volatile.Write(ref enough, true);
                await loading;
            }
        }

        await daemon.StopAsync();
        shadow.AssertEqualTo(image);
    }

    [Fact]
    public async Task The_whole_table_is_replaced_under_load()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        ShadowDisk shadow = new(16);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new Harness.DaemonOptions(image));
        using (FrontendSession session = FrontendSession.Open(daemon.SocketPath))
        {
            VerifiedTraffic traffic = new(session.Drivers[0], shadow, 0, shadow.SectorCount, seed: 6);
            bool enough = false;
            Task loading = Task.Run(() => traffic.RunWhile(() => !Volatile.Read(ref enough)));
            try
            {
                for (int round = 0; round < 100; round++)
                {
                    traffic.WaitForProgress();
                    Assert.Equal(0ul, session.Frontend.SetMemTable(session.Memory, needReply: true));
                }
            }
            finally
            {
                Volatile.Write(ref enough, true);
                await loading;
            }

            Assert.Equal(1, File.ReadLines($"/proc/{daemon.ProcessId}/maps").Count(line => line.Contains("guest-memory", StringComparison.Ordinal)));
        }

        await daemon.StopAsync();
        shadow.AssertEqualTo(image);
    }

    [Fact]
    public async Task Regions_in_any_order_each_with_its_own_descriptor_and_offset_are_told_apart()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new Harness.DaemonOptions(image));
        using VhostUserFrontend frontend = VhostUserFrontend.Connect(daemon.SocketPath);
        Negotiation negotiation = Negotiation.Run(frontend, new NegotiationOptions { PreferMemorySlots = false });
        // VU-42, VU-52: guest order, user order and message order all differ.
        using SharedMemory memory = new(
            new SharedRegionOptions(0x8000_0000, 1 << 20) { UserAddress = 0x1000_0000, MmapOffset = 4096 },
            new SharedRegionOptions(0x0000_0000, 1 << 20) { UserAddress = 0x3000_0000, MmapOffset = 0 },
            new SharedRegionOptions(0x4000_0000, 8 << 20) { UserAddress = 0x2000_0000, MmapOffset = 65536 });
        negotiation.SendMemory(frontend, memory);
        // The ring in the first region with room for it, the buffers in the last.
        using FrontendQueue queue = new(memory, 0, 128, negotiation.RingFeatures);
        BlkDriver driver = new(memory, queue, new BlkDriverOptions { QueueDepth = 32 });
        negotiation.StartQueues(frontend, queue);
        foreach (SharedRegion region in memory.Regions)
        {
            byte[] data = new byte[4096];
            Random.Shared.NextBytes(data);
            Write(region, region.LengthBytes - 4096, data);
            AssertOk(driver, BlkRequestType.VIRTIO_BLK_T_OUT, 8, DriverBuffer.Readable(region.GuestAddress + region.LengthBytes - 4096, 4096));
            Assert.Equal(data, image.Read(8 * 512, data.Length));
        }

        frontend.Dispose();
        await daemon.StopAsync();
    }

    [Fact]
    public async Task Header_data_and_status_that_straddle_two_regions_are_served()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new Harness.DaemonOptions(image));
        using VhostUserFrontend frontend = VhostUserFrontend.Connect(daemon.SocketPath);
        Negotiation negotiation = Negotiation.Run(frontend, new NegotiationOptions());
        // HARD-08: adjacent for the guest, two files for us.
        const ulong Border = 1 << 20;
        using SharedMemory memory = new(new SharedRegionOptions(0, Border), new SharedRegionOptions(Border, 8 << 20));
        negotiation.SendMemory(frontend, memory);
        using FrontendQueue queue = new(memory, 0, 16, negotiation.RingFeatures, indirectEntries: 3);
        negotiation.StartQueues(frontend, queue);
        foreach (bool indirect in new[] { false, true })
        {
            byte[] data = new byte[8192];
            Random.Shared.NextBytes(data);
            Write(memory.Regions[0], Border - 1000, data.AsSpan(0, 1000));
            Write(memory.Regions[1], 0, data.AsSpan(1000));
            Assert.Equal(0, Transfer(1, indirect, DriverBuffer.Readable(Border - 1000, 8192)));
            Assert.Equal(data, image.Read(24 * 512, data.Length));

            memory.Span(Border - 3000, 3000).Clear();
            memory.Span(Border, 6000).Clear();
            Assert.Equal(0, Transfer(0, indirect, DriverBuffer.Writable(Border - 3000, 8192)));
            Assert.Equal(data[..3000], Read(memory.Regions[0], Border - 3000, 3000));
            Assert.Equal(data[3000..], Read(memory.Regions[1], 0, 8192 - 3000));
        }

        frontend.Dispose();
        await daemon.StopAsync();

        // The header's 16 bytes lie around the border when no data does.
        int Transfer(uint type, bool indirect, DriverBuffer data)
        {
            ulong header = memory.Allocate(16);
            ulong status = memory.Allocate(16);
            memory.Span(status, 1)[0] = 0xff;
            System.Buffers.Binary.BinaryPrimitives.WriteUInt32LittleEndian(memory.Span(header, 16), type);
            System.Buffers.Binary.BinaryPrimitives.WriteUInt64LittleEndian(memory.Span(header + 8, 8), 24);
            DriverBuffer[] chain = [DriverBuffer.Readable(header, 16), data, DriverBuffer.Writable(status, 1)];
            Assert.True(indirect ? queue.Ring.TryAddIndirect(chain, out _) : queue.Ring.TryAdd(chain, out _));
            queue.Ring.Publish();
            queue.Kick.Signal();
            Assert.True(SpinWait.SpinUntil(() => queue.Ring.HasUsed, DeadlineMs));
            Assert.True(queue.Ring.TryTakeUsed(out _));
            return memory.Span(status, 1)[0];
        }
    }

    [Fact]
    public async Task A_queue_whose_memory_goes_away_rests_until_it_comes_back()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new Harness.DaemonOptions(image));
        using (FrontendSession session = FrontendSession.Open(daemon.SocketPath))
        {
            for (int round = 0; round < 20; round++)
            {
                session.VerifyRoundTrip(image, sector: (ulong)round * 16);
                Assert.Equal(0ul, session.Frontend.RemMemReg(session.Memory.Regions[0], needReply: true));
                Assert.DoesNotContain(
                    File.ReadLines($"/proc/{daemon.ProcessId}/maps"), line => line.Contains("guest-memory", StringComparison.Ordinal));
                Assert.Equal(0ul, session.Frontend.AddMemReg(session.Memory.Regions[0], needReply: true));
            }

            session.VerifyRoundTrip(image, sector: 8);
        }

        await daemon.StopAsync();
    }

    private static void AssertOk(BlkDriver driver, BlkRequestType type, ulong sector, DriverBuffer data) =>
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, Execute(driver, type, sector, data).Status);

    private static BlkCompletion Execute(BlkDriver driver, BlkRequestType type, ulong sector, DriverBuffer data)
    {
        Assert.True(driver.TrySubmit(type, sector, [data], tag: 0));
        driver.Kick();
        Assert.True(driver.WaitForCompletion(Deadline.In(DeadlineMs)), $"{type} at sector {sector} did not come back.");
        Assert.True(driver.TryComplete(out BlkCompletion completion));
        return completion;
    }

    private static unsafe void Write(SharedRegion region, ulong offset, ReadOnlySpan<byte> data) =>
        data.CopyTo(new Span<byte>(region.Host + offset, data.Length));

    private static unsafe byte[] Read(SharedRegion region, ulong offset, int lengthBytes) =>
        new ReadOnlySpan<byte>(region.Host + offset, lengthBytes).ToArray();
}
