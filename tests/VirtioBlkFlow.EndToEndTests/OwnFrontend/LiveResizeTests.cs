using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.VhostUser.Wire;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.EndToEndTests.OwnFrontend;

/// <summary>The image changes its size under load, and the back-end says so on its own channel (vhost-user.rst, "Back-end message types").</summary>
public class LiveResizeTests
{
    private const int SmallMebibytes = 12;
    private const int LargeMebibytes = 24;
    private const int DeadlineMs = 20_000;

    // Beyond the small disk, within the large one.
    private const ulong LateSector = 16 * 2048;

    [Fact]
    public async Task The_disk_grows_and_shrinks_under_load()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(SmallMebibytes);
        ShadowDisk shadow = new(SmallMebibytes);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new Harness.DaemonOptions(image) { QueueCount = 2 });
        using (BackendChannel channel = new())
        using (FrontendSession session = FrontendSession.Open(daemon.SocketPath, new FrontendOptions { QueueCount = 2, Channel = channel }))
        {
            VerifiedTraffic traffic = new(session.Drivers[0], shadow, 0, shadow.SectorCount, seed: 5);
            bool enough = false;
            Task loading = Task.Run(() => traffic.RunWhile(() => !Volatile.Read(ref enough)));
            try
            {
                for (int round = 0; round < 6; round++)
                {
                    traffic.WaitForProgress();
                    int mebibytes = round % 2 == 0 ? LargeMebibytes : SmallMebibytes;
                    Resize(image, mebibytes);
                    daemon.ReadSizeAgain();
                    Assert.True(channel.WaitUntilReadable(Deadline.In(DeadlineMs)), "The back-end does not tell.");
                    // QEMU asks before it answers; a back-end that waited for the answer first would never give one.
                    Assert.Equal((ulong)mebibytes * 2048, session.Frontend.GetDeviceConfig().CapacitySectors);
                    Assert.Equal(BackendRequest.CONFIG_CHANGE_MSG, channel.WaitForRequest(Deadline.In(DeadlineMs)));
                    BlkStatus late = mebibytes == LargeMebibytes ? BlkStatus.VIRTIO_BLK_S_OK : BlkStatus.VIRTIO_BLK_S_IOERR;
                    Assert.Equal(late, session.Drivers[1].Write(LateSector, new byte[4096]));
                    Assert.Equal(late, session.Drivers[1].Read(LateSector, new byte[4096]));
                    Assert.Equal((long)mebibytes << 20, new FileInfo(image.FilePath).Length);
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
    public async Task Requests_in_flight_beyond_the_new_end_fail_and_all_of_them_come_back()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(LargeMebibytes);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new Harness.DaemonOptions(image));
        using (BackendChannel channel = new())
        using (FrontendSession session = FrontendSession.Open(daemon.SocketPath, new FrontendOptions { Channel = channel }))
        {
            BlkDriver driver = session.Drivers[0];
            int failed = 0;
            int served = 0;
            bool isSmall = false;
            // Reads without end beyond the new end, 32 in flight; some of them while the size changes.
            while (failed < 100)
            {
                while (driver.NextSlot >= 0)
                {
                    Assert.True(driver.TrySubmit(BlkRequestType.VIRTIO_BLK_T_IN, LateSector, 4096, tag: 0));
                }

                driver.Kick();
                Assert.True(driver.WaitForCompletion(Deadline.In(DeadlineMs)), $"{driver.InFlightCount} reads do not come back.");
                while (driver.TryComplete(out BlkCompletion completion))
                {
                    Assert.True(completion.Status is BlkStatus.VIRTIO_BLK_S_OK or BlkStatus.VIRTIO_BLK_S_IOERR, $"{completion.Status}");
                    failed += completion.Status == BlkStatus.VIRTIO_BLK_S_IOERR ? 1 : 0;
                    served += completion.Status == BlkStatus.VIRTIO_BLK_S_OK ? 1 : 0;
                }

                if (served > 500 && !isSmall)
                {
                    isSmall = true;
                    Resize(image, SmallMebibytes);
                    daemon.ReadSizeAgain();
                }
            }

            while (driver.InFlightCount > 0)
            {
                Assert.True(driver.WaitForCompletion(Deadline.In(DeadlineMs)), $"{driver.InFlightCount} reads do not come back.");
                while (driver.TryComplete(out _))
                {
                }
            }

            Assert.Equal(BackendRequest.CONFIG_CHANGE_MSG, channel.WaitForRequest(Deadline.In(DeadlineMs)));
            session.VerifyRoundTrip(image, sector: 8);
        }

        await daemon.StopAsync();
    }

    private static void Resize(DiskImage image, int mebibytes)
    {
        using FileStream file = new(image.FilePath, FileMode.Open, FileAccess.Write, FileShare.ReadWrite);
        file.SetLength((long)mebibytes << 20);
    }
}
