using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.ConformanceTests.Rig;

/// <summary>What many tests ask of a session.</summary>
internal static class SessionChecks
{
    /// <summary>Writes a sector, reads it back, and looks into the file: for drivers with little memory or without FLUSH.</summary>
    public static void VerifyRoundTripSmall(this FrontendSession session, DiskImage image, ulong sector, int queue = 0)
    {
        byte[] written = new byte[512];
        Random.Shared.NextBytes(written);
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[queue].Write(sector, written));
        byte[] read = new byte[512];
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[queue].Read(sector, read));
        Assert.Equal(written, read);
        Assert.Equal(written, image.Read((long)sector * 512, 512));
    }
}
