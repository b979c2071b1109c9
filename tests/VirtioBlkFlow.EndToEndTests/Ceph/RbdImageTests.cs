using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.Rbd;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.UnitTests;
using VirtioBlkFlow.UnitTests.Disks;
using VirtioBlkFlow.VhostUser.Wire;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.EndToEndTests.Ceph;

/// <summary>What an image of a cluster is to a front-end: its size, its snapshots, its space.</summary>
[Collection(CephCollection.Name)]
public sealed class RbdImageTests(CephCluster cluster)
{
    private const int Mebibyte = 1 << 20;

    [Fact]
    public async Task The_front_end_hears_of_another_size_without_anybody_telling_the_daemon()
    {
        string image = await cluster.CreateImageAsync(8);
        await using RbdDaemon daemon = await RbdDaemon.StartAsync(cluster.Disk(image), cluster.Disk(await cluster.CreateImageAsync(4), "sectorsize=4096", "lock=off"));
        using (BackendChannel channel = new())
        using (FrontendSession session = daemon.Connect(channel: channel))
        {
            byte[] data = [.. Enumerable.Repeat((byte)0x77, 4096)];
            foreach ((int mebibytes, BlkStatus late) in new[] { (16, BlkStatus.VIRTIO_BLK_S_OK), (8, BlkStatus.VIRTIO_BLK_S_IOERR) })
            {
                await cluster.RbdAsync("resize", image, "--size", $"{mebibytes}M", "--allow-shrink");

                Assert.Equal(BackendRequest.CONFIG_CHANGE_MSG, channel.WaitForRequest(Deadline.In(RbdDaemon.PatienceMs)));
                Assert.Equal((ulong)mebibytes * 2048, session.Frontend.GetDeviceConfig().CapacitySectors);
                Assert.Equal(late, session.Drivers[0].Write(12 * 2048, data));
                Assert.Equal(late, session.Drivers[0].Read(12 * 2048, new byte[4096]));
            }

            // A snapshot changes the image too, but not its size.
            await cluster.RbdAsync("snap", "create", $"{image}@s");
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Write(8, data));
            await cluster.RbdAsync("resize", image, "--size", "12M");
            await daemon.WaitForLogAsync("resized from 8388608 to 12582912");
            Assert.Equal(3, daemon.Process.Errors.Lines.Count(line => line.Contains("resized", StringComparison.Ordinal)));
        }

        await daemon.StopAsync();
    }

    [Fact]
    public async Task A_snapshot_stays_what_it_was_and_is_read_only()
    {
        string image = await cluster.CreateImageAsync(8);
        byte[] before = [.. Enumerable.Repeat((byte)0x11, 4096)];
        byte[] after = [.. Enumerable.Repeat((byte)0x22, 4096)];
        byte[] read = new byte[4096];
        await using RbdDaemon daemon = await RbdDaemon.StartAsync(cluster.Disk(image));
        using FrontendSession session = daemon.Connect();
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Write(64, before));
        await cluster.RbdAsync("snap", "create", $"{image}@before");
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Write(64, after));
        await cluster.RbdAsync("resize", image, "--size", "16M");

        // While the image itself is locked and written.
        await using RbdDaemon snapshots = await RbdDaemon.StartAsync(cluster.Disk($"{image}@before"));
        using (FrontendSession snapshot = snapshots.Connect())
        {
            Assert.Equal(8UL * 2048, snapshot.Frontend.GetDeviceConfig().CapacitySectors);
            Assert.NotEqual(0UL, snapshot.Negotiation.Features & (ulong)BlkFeatures.VIRTIO_BLK_F_RO);
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, snapshot.Drivers[0].Read(64, read));
            Assert.Equal(before, read);
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, snapshot.Drivers[0].Write(64, after));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, snapshot.Drivers[0].Read(64, read));
            Assert.Equal(before, read);
        }

        await snapshots.StopAsync();
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Read(64, read));
        Assert.Equal(after, read);
    }

    [Fact]
    public async Task Discards_give_space_back_and_zeroes_keep_it_unless_the_guest_allows_it()
    {
        // Objects of 1 MiB: each of the five requests below is about some of its own.
        string image = await cluster.CreateImageAsync(8, "--object-size", "1M");
        await using RbdDaemon daemon = await RbdDaemon.StartAsync(cluster.Disk(image));
        using (FrontendSession session = daemon.Connect())
        {
            BlkDriver driver = session.Drivers[0];
            for (ulong sector = 0; sector < 8 * 2048; sector += 128)
            {
                Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Write(sector, [.. Enumerable.Repeat((byte)0x5a, 65536)]));
            }

            Assert.Equal(8 * Mebibyte, await cluster.UsedBytesAsync(image));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.WriteZeroes(new BlkSegment { Sector = 6 * 2048, SectorCount = 2048 }));
            Assert.Equal(8 * Mebibyte, await cluster.UsedBytesAsync(image));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.WriteZeroes(
                new BlkSegment { Sector = 7 * 2048, SectorCount = 2048, Flags = BlkSegment.UnmapFlag }));
            Assert.Equal(7 * Mebibyte, await cluster.UsedBytesAsync(image));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Discard(
                new BlkSegment { Sector = 0, SectorCount = 2 * 2048 }, new BlkSegment { Sector = (4 * 2048) + 8, SectorCount = 8 }));
            Assert.Equal(5 * Mebibyte, await cluster.UsedBytesAsync(image));

            byte[] read = new byte[65536];
            foreach ((ulong sector, bool isZero) in new[] { (0UL, true), (2UL * 2048, false), (5UL * 2048, false), (6UL * 2048, true), (7UL * 2048, true) })
            {
                Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Read(sector, read));
                Assert.Equal(-1, read.AsSpan().IndexOfAnyExcept(isZero ? (byte)0 : (byte)0x5a));
            }

            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Read(4 * 2048, read));
            Assert.Equal(-1, read.AsSpan(8 * 512, 8 * 512).IndexOfAnyExcept((byte)0));
            Assert.Equal(-1, read.AsSpan(16 * 512).IndexOfAnyExcept((byte)0x5a));
        }

        await daemon.StopAsync();
    }

    [Fact]
    public async Task A_request_costs_no_allocation()
    {
        using RbdDisk disk = RbdDisk.Open(cluster.OptionsOf(await cluster.CreateImageAsync(4)));
        using var bench = new DiskBench(disk, IoEngineKind.IoUring);
        Assert.Equal(0, Allocations.LeastOf(() =>
        {
            for (int slot = 0; slot < 16; slot++)
            {
                bench.Start(slot, slot % 2 == 0 ? DiskOperation.Read : DiskOperation.Write, (ulong)slot * 8192, slot * 8192, 2, 4096);
                bench.StartFlush(16 + slot);
            }

            bench.FinishDone(32);
        }));
    }
}
