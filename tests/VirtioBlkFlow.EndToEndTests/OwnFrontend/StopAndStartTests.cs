using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.VhostUser.Wire;

namespace VirtioBlkFlow.EndToEndTests.OwnFrontend;

/// <summary>Queues stop and start, devices are reset, at any moment; nothing is lost, nothing done twice.</summary>
public class StopAndStartTests
{
    [Theory]
    [InlineData("io_uring")]
    [InlineData("threads")]
    public async Task A_queue_stopped_and_started_100_times_under_load_goes_on_where_it_was(string engine)
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        ShadowDisk shadow = new(16);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new Harness.DaemonOptions(image) { IoEngine = engine });
        using (FrontendSession session = FrontendSession.Open(daemon.SocketPath))
        {
            VerifiedTraffic traffic = new(session.Drivers[0], shadow, 0, shadow.SectorCount, seed: 7);
            bool enough = false;
            Task loading = Task.Run(() => traffic.RunWhile(() => !Volatile.Read(ref enough)));
            try
            {
                for (int round = 0; round < 100; round++)
                {
                    traffic.WaitForProgress();
                    FrontendQueue queue = session.Queues[0];
                    // Half of the rounds as QEMU does it, half without touching ENABLE.
                    bool disable = round % 2 == 0;
                    uint next = queue.Stop(session.Frontend, disable: disable);
                    // VU-57: what was fetched is finished before the answer.
                    Assert.Equal(next, queue.SplitRing.Raw.UsedIndex);
                    queue.Start(session.Frontend, enable: disable, nextAvailable: next);
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
    public async Task A_disabled_queue_has_no_side_effects_and_goes_on_when_it_is_enabled()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new Harness.DaemonOptions(image) { QueueCount = 2 });
        using (FrontendSession session = FrontendSession.Open(daemon.SocketPath, new FrontendOptions { QueueCount = 2 }))
        {
            BlkDriver driver = session.Drivers[0];
            Assert.Equal(0ul, session.Frontend.SetVringEnable(0, enable: false, needReply: true));
            driver.Data(driver.NextSlot)[..4096].Fill(0x5a);
            Assert.True(driver.TrySubmit(Virtio.Blk.BlkRequestType.VIRTIO_BLK_T_OUT, 64, 4096, tag: 0));
            driver.Kick();
            // The other queue is served meanwhile, several times; had the first one been, too, it would be done by now.
            for (int i = 0; i < 100; i++)
            {
                session.VerifyRoundTrip(image, sector: 1024, queue: 1);
            }

            Assert.False(session.Queues[0].Ring.HasUsed);
            Assert.Equal(new byte[4096], image.Read(64 * 512, 4096));
            Assert.Equal(0ul, session.Frontend.SetVringEnable(0, enable: true, needReply: true));
            Assert.True(driver.WaitForCompletion(Frontend.Deadline.In(10_000)));
            Assert.True(driver.TryComplete(out _));
            Assert.Equal(0x5a, image.Read(64 * 512, 1)[0]);
        }

        await daemon.StopAsync();
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_device_reset_again_and_again_also_under_load_is_set_up_anew(bool byMessage)
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        ShadowDisk shadow = new(16);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new Harness.DaemonOptions(image) { QueueCount = 2 });
        // Small, because guest memory is not given back: two sets of queues in each round.
        FrontendOptions options = new() { QueueCount = 2, Driver = new BlkDriverOptions { QueueDepth = 32, MaxTransferBytes = 16 * 1024 } };
        using (FrontendSession session = FrontendSession.Open(daemon.SocketPath, options))
        {
            // Before anything else, too.
            Reset();
            Reset();
            for (int round = 0; round < 3; round++)
            {
                const ulong Half = 8 << 11;
                session.PlaceQueues();
                SetUpAgain();
                VerifiedTraffic[] traffic =
                    [.. session.Drivers.Select((driver, i) => new VerifiedTraffic(driver, shadow, (ulong)i * Half, Half, seed: (10 * round) + i))];
                using CancellationTokenSource cutOff = new();
                Task[] loading = [.. traffic.Select(one => Task.Run(() => one.RunUntilCutOff(cutOff.Token)))];
                Assert.True(SpinWait.SpinUntil(() => traffic.All(one => one.CompletedCount > 200) || loading.Any(task => task.IsCompleted), 20_000));

                Reset();
                ushort[] used = [.. session.Queues.Select(queue => queue.SplitRing.Raw.UsedIndex)];
                Reset();
                Assert.Equal(DeviceStatus.Reset, session.Frontend.GetStatus());
                await cutOff.CancelAsync();
                await Task.WhenAll(loading);
                // Silence after a reset: nothing is used that was not before the answer.
                Assert.Equal(used, session.Queues.Select(queue => queue.SplitRing.Raw.UsedIndex));

                session.PlaceQueues();
                SetUpAgain();
                for (int i = 0; i < traffic.Length; i++)
                {
                    traffic[i].Settle(session.Drivers[i]);
                    traffic[i].VerifyAll(session.Drivers[i]);
                }

                Reset();
            }

            void Reset() => Assert.Equal(
                0ul,
                byMessage ? session.Frontend.ResetDevice(needReply: true) : session.Frontend.SetStatus(DeviceStatus.Reset, needReply: true));

            void SetUpAgain()
            {
                // Memory, protocol features and owner stay; the rest is negotiated anew.
                Assert.Equal(0ul, session.Frontend.SetFeatures(session.Negotiation.Features, needReply: true));
                session.Negotiation.StartQueues(session.Frontend, [.. session.Queues]);
            }
        }

        await daemon.StopAsync();
        shadow.AssertEqualTo(image);
    }

    [Fact]
    public async Task A_queue_may_come_back_with_another_size()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        ShadowDisk shadow = new(16);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new Harness.DaemonOptions(image));
        using (FrontendSession session = FrontendSession.Open(daemon.SocketPath, new FrontendOptions { QueueCount = 0 }))
        {
            // Firmware uses a small queue, the system after it a large one.
            foreach (int size in new[] { 4, 512, 16, 1024 })
            {
                BlkDriverOptions driverOptions = new() { QueueDepth = Math.Min(size / 3, 128), MaxTransferBytes = 8192 };
                (FrontendQueue queue, BlkDriver driver) = session.PlaceQueue(0, size, driverOptions);
                queue.Start(session.Frontend);
                new VerifiedTraffic(driver, shadow, 0, shadow.SectorCount, seed: size).Run(2000);
                queue.Stop(session.Frontend);
            }
        }

        await daemon.StopAsync();
        shadow.AssertEqualTo(image);
    }
}
