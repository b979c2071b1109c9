using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.EndToEndTests.OwnFrontend;

/// <summary>What requests do to the file on the host, and what they must not.</summary>
public class DataEffectTests
{
    private const int Mebibytes = 16;

    [Theory]
    [InlineData("io_uring")]
    [InlineData("threads")]
    public async Task Discard_and_zeroing_with_unmap_give_room_back_and_zeroing_without_keeps_it(string engine)
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateRandomImage(Mebibytes, seed: 9);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new Harness.DaemonOptions(image) { IoEngine = engine });
        using (FrontendSession session = FrontendSession.Open(daemon.SocketPath))
        {
            BlkDriver driver = session.Drivers[0];
            byte[] before = image.Read(0, Mebibytes << 20);
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Flush());
            long allocated = await image.AllocatedBytesAsync();
            Assert.True(allocated >= Mebibytes << 20, $"{allocated} bytes of the image are allocated at first.");

            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.WriteZeroes(Mebibyte(1)));
            AssertZeros(1);
            await AssertAllocatedAsync(allocated);

            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.WriteZeroes(Mebibyte(2, BlkSegment.UnmapFlag)));
            AssertZeros(2);
            await AssertAllocatedAsync(allocated - (1 << 20));

            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Discard(Mebibyte(3), Mebibyte(5)));
            await AssertAllocatedAsync(allocated - (3 << 20));

            // A sector by itself: less than a page, more than nothing.
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.WriteZeroes(new BlkSegment { Sector = (7 << 11) + 3, SectorCount = 1 }));
            before.AsSpan((7 << 20) + (3 * 512), 512).Clear();
            foreach (int mebibyte in new[] { 0, 4, 6, 7, 15 })
            {
                Assert.Equal(before[(mebibyte << 20)..((mebibyte + 1) << 20)], image.Read(mebibyte << 20, 1 << 20));
            }

            Assert.Equal(Mebibytes << 20, new FileInfo(image.FilePath).Length);
        }

        await daemon.StopAsync();

        // The file system's own blocks, which tell where the holes are, come on top.
        async Task AssertAllocatedAsync(long expected) => Assert.InRange(await image.AllocatedBytesAsync(), expected, expected + (64 << 10));

        void AssertZeros(int mebibyte) => Assert.Equal(new byte[1 << 20], image.Read(mebibyte << 20, 1 << 20));
    }

    [Fact]
    public async Task A_read_only_disk_is_read_and_never_changed()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateRandomImage(Mebibytes, seed: 10);
        string before = image.Sha256();
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new Harness.DaemonOptions(image) { ReadOnly = true });
        using (FrontendSession session = FrontendSession.Open(daemon.SocketPath))
        {
            Assert.True(((BlkFeatures)session.Negotiation.OfferedFeatures).HasFlag(BlkFeatures.VIRTIO_BLK_F_RO));
            BlkDriver driver = session.Drivers[0];
            byte[] read = new byte[65536];
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Read(128, read));
            Assert.Equal(image.Read(65536, 65536), read);
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Flush());
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, driver.Write(0, new byte[512]));
            Assert.NotEqual(BlkStatus.VIRTIO_BLK_S_OK, driver.Discard(Mebibyte(1)));
            Assert.NotEqual(BlkStatus.VIRTIO_BLK_S_OK, driver.WriteZeroes(Mebibyte(1)));
        }

        // Not even for a driver that did not take the feature.
        NegotiationOptions negotiation = new() { BlkFeatures = BlkFeatures.VIRTIO_BLK_F_FLUSH };
        using (FrontendSession session = FrontendSession.Open(daemon.SocketPath, new FrontendOptions { Negotiation = negotiation }))
        {
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, session.Drivers[0].Write(0, new byte[512]));
        }

        await daemon.StopAsync();
        Assert.Equal(before, image.Sha256());
    }

    // HARD-10, HARD-12, HARD-13.
    [Fact]
    public async Task An_odd_request_gets_its_status_and_the_next_one_is_served()
    {
        (uint Type, ulong Sector, uint DataBytes, BlkStatus Expected)[] oddities =
        [
            (0u, 0ul, 513u, BlkStatus.VIRTIO_BLK_S_IOERR),
            (1u, 0ul, 511u, BlkStatus.VIRTIO_BLK_S_IOERR),
            (0u, 32767ul, 512u, BlkStatus.VIRTIO_BLK_S_OK),
            (0u, 32767ul, 1024u, BlkStatus.VIRTIO_BLK_S_IOERR),
            (1u, 32768ul, 512u, BlkStatus.VIRTIO_BLK_S_IOERR),
            (1u, ulong.MaxValue, 512u, BlkStatus.VIRTIO_BLK_S_IOERR),
            (0u, ulong.MaxValue - 1, 1024u, BlkStatus.VIRTIO_BLK_S_IOERR),
            (1u, 1ul << 55, 512u, BlkStatus.VIRTIO_BLK_S_IOERR),
            (0u, 0ul, 0u, BlkStatus.VIRTIO_BLK_S_OK),
            (4u, 77ul, 0u, BlkStatus.VIRTIO_BLK_S_OK),
            (4u, 77ul, 512u, BlkStatus.VIRTIO_BLK_S_OK),
            (11u, 0ul, 0u, BlkStatus.VIRTIO_BLK_S_IOERR),
            (13u, 0ul, 15u, BlkStatus.VIRTIO_BLK_S_IOERR),
            (13u, 0ul, 17u, BlkStatus.VIRTIO_BLK_S_IOERR),
            (11u, 0ul, 33u * 16, BlkStatus.VIRTIO_BLK_S_IOERR),
            (2u, 0ul, 0u, BlkStatus.VIRTIO_BLK_S_UNSUPP),
            (15u, 0ul, 0u, BlkStatus.VIRTIO_BLK_S_UNSUPP),
            (uint.MaxValue, 0ul, 512u, BlkStatus.VIRTIO_BLK_S_UNSUPP),
        ];
        using TestFolder folder = new();
        DiskImage image = folder.CreateRandomImage(Mebibytes, seed: 11);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new Harness.DaemonOptions(image));
        using (FrontendSession session = FrontendSession.Open(daemon.SocketPath))
        {
            foreach ((uint type, ulong sector, uint dataBytes, BlkStatus expected) in oddities)
            {
                string before = image.Sha256();
                session.Drivers[0].Data(session.Drivers[0].NextSlot).Clear();
                BlkStatus status = session.Drivers[0].Execute((BlkRequestType)type, sector, dataBytes).Status;
                Assert.True(status == expected, $"{status} for type {type} with {dataBytes} bytes at sector {sector}, {expected} was expected.");
                Assert.Equal(before, image.Sha256());
                session.VerifyRoundTrip(image, sector: 8);
            }
        }

        await daemon.StopAsync();
    }

    // HARD-12.
    [Theory]
    [InlineData(0ul, uint.MaxValue, 0u, BlkStatus.VIRTIO_BLK_S_IOERR)]
    [InlineData(ulong.MaxValue, 2u, 0u, BlkStatus.VIRTIO_BLK_S_IOERR)]
    [InlineData(32767ul, 2u, 0u, BlkStatus.VIRTIO_BLK_S_IOERR)]
    [InlineData(0ul, 1u, 2u, BlkStatus.VIRTIO_BLK_S_UNSUPP)]
    public async Task A_segment_that_cannot_be_keeps_all_others_of_the_request_from_happening(ulong sector, uint count, uint flags, BlkStatus expected)
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateRandomImage(Mebibytes, seed: 12);
        string before = image.Sha256();
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new Harness.DaemonOptions(image));
        using (FrontendSession session = FrontendSession.Open(daemon.SocketPath))
        {
            BlkSegment bad = new() { Sector = sector, SectorCount = count, Flags = flags };
            Assert.Equal(expected, session.Drivers[0].WriteZeroes(Mebibyte(1), bad));
            Assert.Equal(expected, session.Drivers[0].Discard(Mebibyte(1), bad));
            Assert.Equal(before, image.Sha256());
        }

        await daemon.StopAsync();
    }

    private static BlkSegment Mebibyte(int number, uint flags = 0) => new() { Sector = (ulong)number << 11, SectorCount = 1 << 11, Flags = flags };
}
