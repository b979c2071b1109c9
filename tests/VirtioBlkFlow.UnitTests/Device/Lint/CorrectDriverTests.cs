using VirtioBlkFlow.Device;
using VirtioBlkFlow.Disks.Zoned;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Device.Lint;

/// <summary>Nobody is accused who keeps the rules: a driver that does every kind of request there is.</summary>
public sealed class CorrectDriverTests
{
    private const int Sectors = 4096;

    public static TheoryData<VirtioFeatures, bool> Rings
    {
        get
        {
            var rings = new TheoryData<VirtioFeatures, bool>();
            foreach (VirtioFeatures kind in (VirtioFeatures[])[VirtioFeatures.None, VirtioFeatures.VIRTIO_F_RING_PACKED])
            {
                foreach (VirtioFeatures eventIndex in (VirtioFeatures[])[VirtioFeatures.None, VirtioFeatures.VIRTIO_RING_F_EVENT_IDX])
                {
                    rings.Add(kind | eventIndex, false);
                    rings.Add(kind | eventIndex | VirtioFeatures.VIRTIO_RING_F_INDIRECT_DESC, true);
                }
            }

            return rings;
        }
    }

    [Theory]
    [MemberData(nameof(Rings))]
    public void Every_request_that_keeps_the_rules_passes(VirtioFeatures features, bool indirect)
    {
        using var image = new TemporaryImage(Sectors * 512);
        using var session = new LintedSession(image.Open(), new BlkDeviceOptions { SizeMax = 65536 });
        session.Start(features, new BlkDriverOptions { QueueDepth = 8, UseIndirect = indirect, TimeoutMs = Eventually.PatienceMs });
        BlkDriver driver = session.Driver;
        for (int round = 0; round < 40; round++)
        {
            byte[] data = new byte[512 * ((round % 16) + 1)];
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Write((ulong)(round * 8), data));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Read((ulong)(round * 8), data));
        }

        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Read(Sectors - 1, new byte[512]));
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Flush());
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.GetId(out _));
        Assert.Equal(
            BlkStatus.VIRTIO_BLK_S_OK,
            driver.Discard(new BlkSegment { Sector = 128, SectorCount = 128 }, new BlkSegment { Sector = 512, SectorCount = 8 }));
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.WriteZeroes(new BlkSegment { Sector = 9, SectorCount = 3, Flags = BlkSegment.UnmapFlag }));
        session.AssertSpotless();
    }

    [Fact]
    public void Every_zoned_request_that_keeps_the_rules_passes()
    {
        using var image = new TemporaryImage(1 << 20);
        var zones = new ZoneGeometry { ZoneBytes = 1 << 17, MaxAppendBytes = 4096 };
        using var session = new LintedSession(ZonedDisk.Open(image.Open(), zones));
        session.Start(VirtioFeatures.VIRTIO_RING_F_EVENT_IDX);
        BlkDriver driver = session.Driver;
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Write(0, new byte[4096]));
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.ZoneAppend(0, new byte[4096], out _));
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.ZoneReport(0, out _, 4096));
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.ZoneOpen(256));
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.ZoneClose(256));
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.ZoneFinish(0));
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.ZoneReset(0));
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.ZoneResetAll());
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Flush());
        session.AssertSpotless();
        File.Delete(image.Path + ".zones");
    }
}
