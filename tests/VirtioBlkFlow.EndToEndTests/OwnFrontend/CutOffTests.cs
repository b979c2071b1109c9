using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.VhostUser.Wire;

namespace VirtioBlkFlow.EndToEndTests.OwnFrontend;

/// <summary>The front-end goes away at any moment, with 32 requests in flight on each queue; and another comes.</summary>
public class CutOffTests
{
    private const int Mebibytes = 16;

    [Theory]
    [InlineData("io_uring", 20)]
    [InlineData("threads", 10)]
    public async Task A_cut_connection_loses_nothing_but_what_was_in_flight(string engine, int rounds)
    {
        const int QueueCount = 2;
        int seed = RandomSeed.Take();
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(Mebibytes);
        ShadowDisk shadow = new(Mebibytes);
        Random random = new(seed);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(
            folder, new Harness.DaemonOptions(image) { QueueCount = QueueCount, IoEngine = engine });
        FrontendOptions options = new() { QueueCount = QueueCount };
        ProcessFootprint? before = null;
        try
        {
            for (int round = 0; round < rounds; round++)
            {
                await CutOffAndSettleAsync(round);
                before ??= ProcessFootprint.OfIdle(daemon);
            }

            before!.AssertStaysAfter(rounds, daemon);
        }
        catch (Exception exception)
        {
            throw new InvalidOperationException($"Seed {seed}: {exception.Message}\n{daemon.Log}", exception);
        }

        await daemon.StopAsync();
        shadow.AssertEqualTo(image);

        async Task CutOffAndSettleAsync(int round)
        {
            ulong share = shadow.SectorCount / QueueCount;
            FrontendSession cut = FrontendSession.Open(daemon.SocketPath, options);
            VerifiedTraffic[] traffic =
                [.. cut.Drivers.Select((driver, i) => new VerifiedTraffic(driver, shadow, (ulong)i * share, share, seed + (round * QueueCount) + i))];
            using CancellationTokenSource cutOff = new();
            Task[] loading = [.. traffic.Select(one => Task.Run(() => one.RunUntilCutOff(cutOff.Token)))];
            // The moment: a number of requests, so that it does not depend on the clock.
            int moment = random.Next(1, 1500);
            SpinWait.SpinUntil(() => traffic.Sum(one => one.CompletedCount) >= moment || loading.Any(task => task.IsCompleted), 20_000);
            cut.Frontend.Dispose();
            // The next one is there before the daemon has noticed that the last one left; it waits its turn.
            using (FrontendSession next = FrontendSession.Open(daemon.SocketPath, options))
            {
                await cutOff.CancelAsync();
                await Task.WhenAll(loading);
                for (int i = 0; i < QueueCount; i++)
                {
                    traffic[i].Settle(next.Drivers[i]);
                    traffic[i].VerifyAll(next.Drivers[i]);
                }
            }

            cut.Dispose();
        }
    }

    [Fact]
    public async Task A_front_end_that_connects_while_another_is_served_waits_until_that_one_leaves()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(Mebibytes);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new Harness.DaemonOptions(image));
        FrontendSession first = FrontendSession.Open(daemon.SocketPath);
        using VhostUserFrontend second = VhostUserFrontend.Connect(daemon.SocketPath);
        second.Send(FrontendRequest.GET_FEATURES);
        for (int i = 0; i < 200; i++)
        {
            first.VerifyRoundTrip(image, sector: 8);
            Assert.NotEqual(0ul, first.Frontend.GetFeatures());
        }

        Assert.False(second.HasUnreadReply);
        first.Dispose();

        Assert.NotEmpty(second.ReceiveReply(FrontendRequest.GET_FEATURES).Payload.ToArray());
        using (FrontendSession session = FrontendSession.Open(second))
        {
            session.VerifyRoundTrip(image, sector: 8);
        }

        await daemon.StopAsync();
    }

    [Fact]
    public async Task Front_ends_that_connect_and_leave_at_once_leave_nothing()
    {
        const int Rounds = 300;
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(Mebibytes);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new Harness.DaemonOptions(image));
        FrontendSession.Open(daemon.SocketPath).Dispose();
        ProcessFootprint before = ProcessFootprint.OfIdle(daemon);
        for (int round = 0; round < Rounds; round++)
        {
            using VhostUserFrontend frontend = VhostUserFrontend.Connect(daemon.SocketPath);
            if (round % 3 == 0)
            {
                frontend.GetFeatures();
            }
            else if (round % 3 == 1)
            {
                // Half a header.
                frontend.SendRaw(new byte[] { 1, 0, 0, 0, 1 });
            }
        }

        using (FrontendSession session = FrontendSession.Open(daemon.SocketPath))
        {
            session.VerifyRoundTrip(image, sector: 8);
        }

        before.AssertStaysAfter(Rounds, daemon);
        await daemon.StopAsync();
    }
}
