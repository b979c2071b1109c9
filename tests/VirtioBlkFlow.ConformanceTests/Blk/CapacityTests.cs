using System.Buffers.Binary;
using VirtioBlkFlow.ConformanceTests.Machinery;
using VirtioBlkFlow.ConformanceTests.Rig;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.VhostUser.Wire;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.ConformanceTests.Blk;

/// <summary>A disk that becomes larger or smaller while it is served.</summary>
public class CapacityTests
{
    private const long SmallBytes = 2 << 20;
    private const long LargeBytes = 4 << 20;

    [Fact, Conformance("BLK-17")]
    public void A_disk_that_grew_is_notified_and_can_be_used_to_its_new_end()
    {
        using ServedDevice device = new(new ServedOptions { ImageBytes = SmallBytes });
        using FrontendSession session = device.Open();
        using RawChannel channel = new(session.Frontend);
        byte[] data = new byte[512];
        const ulong Last = (LargeBytes / 512) - 1;
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, session.Drivers[0].Write(Last, data));
        Resize(device, LargeBytes);
        Assert.Equal(new MessageHeader((uint)BackendRequest.CONFIG_CHANGE_MSG, MessageFlags.Version1, 0), channel.Receive());
        Assert.Equal(LargeBytes / 512, CapacityOf(session));
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Write(Last, data));
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, session.Drivers[0].Write(Last + 1, data));
        device.Refresh();
        Assert.False(channel.HasMessage);
    }

    [Fact, Conformance("HARD-25")]
    public void Requests_in_flight_at_a_disk_that_shrinks_fail_and_do_not_make_it_grow()
    {
        using ServedDevice device = new(new ServedOptions { ImageBytes = LargeBytes });
        using FrontendSession session = device.Open();
        BlkDriver driver = session.Drivers[0];
        device.Disk.Hold(operation => operation is DiskOperation.Read or DiskOperation.Write);
        ulong[] sectors = [0, (SmallBytes / 512) - 4, SmallBytes / 512, (LargeBytes / 512) - 8];
        foreach ((int i, ulong sector) in sectors.Index())
        {
            Assert.True(driver.TrySubmit(BlkRequestType.VIRTIO_BLK_T_IN, sector, 4096, tag: (2 * (ulong)i) + 0));
            Assert.True(driver.TrySubmit(BlkRequestType.VIRTIO_BLK_T_OUT, sector, 4096, tag: (2 * (ulong)i) + 1));
        }

        driver.Kick();
        Await.Until(() => device.Disk.HeldCount == 8, "all requests reach the disk");
        Resize(device, SmallBytes);
        device.Release();
        for (int i = 0; i < 8; i++)
        {
            Assert.True(driver.WaitForCompletion(Frontend.Deadline.In(Await.DeadlineMs)));
            Assert.True(driver.TryComplete(out BlkCompletion completion));
            BlkStatus expected = completion.Tag < 2 ? BlkStatus.VIRTIO_BLK_S_OK : BlkStatus.VIRTIO_BLK_S_IOERR;
            Assert.Equal((completion.Tag, expected), (completion.Tag, completion.Status));
        }

        Assert.Equal(SmallBytes, new FileInfo(device.Image.FilePath).Length);
        // Cut behind everybody's back, it fails all the same.
        Truncate(device, 1 << 20);
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, driver.Read((SmallBytes / 512) - 8, new byte[4096]));
        session.VerifyRoundTrip(device.Image, sector: 8);
    }

    [Fact, Conformance("CORE-24")]
    public async Task A_capacity_is_read_as_it_was_or_as_it_is()
    {
        // Each byte that can differ does, so that a torn one would show.
        const long One = 0x0102_0304 * 512L;
        const long Other = 0x7ffe_fdfc * 512L;
        using ServedDevice device = new(new ServedOptions { ImageBytes = One });
        using FrontendSession session = device.Open();
        using CancellationTokenSource ended = new();
        Task resizing = Task.Run(() =>
        {
            for (int i = 0; !ended.IsCancellationRequested; i++)
            {
                Resize(device, i % 2 == 0 ? Other : One);
            }
        });
        HashSet<long> seen = [];
        for (int i = 0; i < 5000 || (seen.Count < 2 && !resizing.IsCompleted); i++)
        {
            seen.Add(CapacityOf(session));
        }

        await ended.CancelAsync();
        await resizing;
        Assert.Equal([One / 512, Other / 512], seen.Order());
    }

    private static long CapacityOf(FrontendSession session) => BinaryPrimitives.ReadInt64LittleEndian(session.Frontend.GetConfig(0, 8));

    private static void Resize(ServedDevice device, long bytes)
    {
        Truncate(device, bytes);
        device.Refresh();
    }

    private static void Truncate(ServedDevice device, long bytes) =>
        Assert.Equal(0, Mono.Unix.Native.Syscall.truncate(device.Image.FilePath, bytes));
}
