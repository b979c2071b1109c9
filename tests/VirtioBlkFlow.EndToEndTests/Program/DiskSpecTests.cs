using System.Runtime.InteropServices;
using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.EndToEndTests.Program;

/// <summary>Keys of --disk as a front-end sees them. How each is written is for the unit tests.</summary>
public class DiskSpecTests
{
    [Fact]
    public async Task Keys_of_one_disk_are_not_those_of_another_and_options_are_for_both()
    {
        using TestFolder folder = new();
        folder.CreateImage(16, "a.img");
        folder.CreateImage(16, "b.img");
        await using ManyDiskDaemon daemon = await ManyDiskDaemon.StartAsync(
            folder,
            ["a.sock", "b.sock"],
            [
                "--disk", "file:a.img,id=a,ro,num-queues=3,seg-max=10,size-max=8192,serial=one,sectorsize=1024/8192",
                "--disk", "file:b.img,id=b,cache=writethrough,discard-max=64/4,feature.event-idx=off",
                "--socket-dir", folder.FullName, "--num-queues", "5", "--cache", "writeback",
            ]);

        using (FrontendSession a = FrontendSession.Open(daemon.Sockets[0]))
        {
            BlkConfig config = ConfigOf(a);
            Assert.Equal((3, 10u, 8192u, 1024u, (byte)3), (config.NumQueues, config.SegMax, config.SizeMax, config.BlkSize, config.PhysicalBlockExp));
            Assert.True(Has(a, (ulong)BlkFeatures.VIRTIO_BLK_F_RO));
            Assert.Equal(1, config.Writeback);
            Assert.Equal("one", SerialOf(a));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, a.Drivers[0].Write(0, new byte[1024]));
        }

        using (FrontendSession b = FrontendSession.Open(daemon.Sockets[1]))
        {
            BlkConfig config = ConfigOf(b);
            Assert.Equal((5, 126u, 0u, 512u), (config.NumQueues, config.SegMax, config.SizeMax, config.BlkSize));
            Assert.Equal((64u, 4u, (byte)0), (config.MaxDiscardSectors, config.MaxDiscardSeg, config.Writeback));
            Assert.False(Has(b, (ulong)BlkFeatures.VIRTIO_BLK_F_RO));
            Assert.False(Has(b, (ulong)Virtio.VirtioFeatures.VIRTIO_RING_F_EVENT_IDX));
            Assert.Equal("b", SerialOf(b));
            b.VerifyRoundTrip(new DiskImage(folder["b.img"]), sector: 8);
        }

        await daemon.StopAsync();
    }

    [Fact]
    public async Task Sectors_of_4096_bytes_are_the_smallest_there_are_to_read_or_write()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        await using ManyDiskDaemon daemon = await ManyDiskDaemon.StartAsync(
            folder, ["3.sock"], "-s", "3,virtio-blk,disk.img,sectorsize=4096", "--socket-dir", folder.FullName);
        using (FrontendSession session = FrontendSession.Open(daemon.Sockets[0]))
        {
            Assert.Equal((4096u, (byte)0), (ConfigOf(session).BlkSize, ConfigOf(session).PhysicalBlockExp));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, session.Drivers[0].Write(1, new byte[4096]));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, session.Drivers[0].Read(0, new byte[512]));
            session.VerifyRoundTrip(image, sector: 8);
        }

        await daemon.StopAsync();
    }

    [Fact]
    public async Task Shared_memory_is_the_guests_disk_to_programs_of_the_host()
    {
        using TestFolder folder = new();
        string name = $"vbf-{Path.GetFileName(folder.FullName)}";
        byte[] data = new byte[512];
        Random.Shared.NextBytes(data);
        await using ManyDiskDaemon daemon = await ManyDiskDaemon.StartAsync(folder, ["m.sock"], "--disk", $"memory:1M,shm={name},socket={folder["m.sock"]}");
        using (FrontendSession session = FrontendSession.Open(daemon.Sockets[0]))
        {
            Assert.Equal(2048ul, ConfigOf(session).Capacity);
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Write(2047, data));
            Assert.Equal(data, new DiskImage($"/dev/shm/{name}").Read(2047 * 512, 512));
            using (FileStream host = new($"/dev/shm/{name}", FileMode.Open, FileAccess.Write, FileShare.ReadWrite))
            {
                host.Write(data);
            }

            byte[] read = new byte[512];
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Read(0, read));
            Assert.Equal(data, read);
        }

        await daemon.StopAsync();
        Assert.False(File.Exists($"/dev/shm/{name}"), "It made the object, and it is to go with it.");
    }

    [Fact]
    public async Task A_null_disk_takes_everything_and_reads_as_zeros_if_told_to()
    {
        using TestFolder folder = new();
        await using ManyDiskDaemon daemon = await ManyDiskDaemon.StartAsync(folder, ["n.sock"], "--disk", $"null:1T,zeroes,socket={folder["n.sock"]}");
        using (FrontendSession session = FrontendSession.Open(daemon.Sockets[0]))
        {
            byte[] data = [.. Enumerable.Repeat((byte)7, 512)];
            Assert.Equal(1ul << 31, ConfigOf(session).Capacity);
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Write((1ul << 31) - 1, data));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Read((1ul << 31) - 1, data));
            Assert.Equal(new byte[512], data);
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, session.Drivers[0].Read(1ul << 31, data));
        }

        await daemon.StopAsync();
    }

    [Theory]
    [InlineData("memory:1M")]
    [InlineData("null:1M")]
    [InlineData("file:disk.img,range=8/8")]
    public async Task Any_disk_may_be_read_only(string disk)
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateRandomImage(1, seed: 4);
        string before = image.Sha256();
        await using ManyDiskDaemon daemon = await ManyDiskDaemon.StartAsync(
            folder, ["disk0.sock"], "--disk", $"{disk},ro", "--socket-dir", folder.FullName);
        using (FrontendSession session = FrontendSession.Open(daemon.Sockets[0]))
        {
            Assert.True(Has(session, (ulong)BlkFeatures.VIRTIO_BLK_F_RO));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, session.Drivers[0].Write(0, new byte[512]));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Read(0, new byte[512]));
        }

        await daemon.StopAsync();
        Assert.Equal(before, image.Sha256());
    }

    [Theory]
    [InlineData("file:disk.img,sectorsize=4096", "not a multiple", "16781312")]
    [InlineData("memory:1000", "multiple of 512")]
    [InlineData("memory:1M,shm=x,huge-pages=2M", "huge pages")]
    public async Task What_cannot_be_opened_as_asked_is_refused_at_the_start(string disk, params string[] words)
    {
        using TestFolder folder = new();
        using (FileStream image = File.Create(folder["disk.img"]))
        {
            image.SetLength((16 << 20) + 512);
        }

        ProgramEnd end = await Vblkflow.RunAsync(folder, "--disk", disk);

        end.AssertRefusedWith(ProgramEnd.Failure, words);
    }

    private static BlkConfig ConfigOf(FrontendSession session) => MemoryMarshal.Read<BlkConfig>(session.Frontend.GetConfig(0, 256));

    private static bool Has(FrontendSession session, ulong feature) => (session.Frontend.GetFeatures() & feature) != 0;

    private static string SerialOf(FrontendSession session)
    {
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].GetId(out string id));
        return id;
    }
}
