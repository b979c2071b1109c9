using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.Frontend.Blk;

namespace VirtioBlkFlow.EndToEndTests.OwnFrontend;

/// <summary>Options that only change what serving costs: every byte is what it would be without them.</summary>
public class ServingOptionTests
{
    private const int Mebibytes = 16;
    private const int QueueCount = 3;

    [Theory]
    [InlineData("--merge off")]
    [InlineData("--call-moderation 100/8")]
    [InlineData("--call-moderation 100/8 --poll")]
    [InlineData("--register-memory")]
    [InlineData("--register-memory --io-engine threads")]
    [InlineData("--reactors 1")]
    [InlineData("--reactors 2 --register-memory --call-moderation 20/4 --no-poll")]
    [InlineData("--reactors 2 --io-engine threads")]
    [InlineData("--cpus 0")]
    [InlineData("--cpus 0 --reactors 2")]
    public async Task Data_survives_with(string options)
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(Mebibytes);
        ShadowDisk shadow = new(Mebibytes);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(
            folder, new Harness.DaemonOptions(image) { QueueCount = QueueCount, Cache = "writeback", More = options.Split(' ') });
        // Two front-ends, one after the other: what the first used is given back.
        for (int round = 0; round < 2; round++)
        {
            using FrontendSession session = FrontendSession.Open(daemon.SocketPath, new FrontendOptions
            {
                QueueCount = QueueCount,
                Driver = new BlkDriverOptions { QueueDepth = 32, Wait = CompletionWait.Call },
            });
            ulong share = shadow.SectorCount / QueueCount;
            VerifiedTraffic[] traffic =
                [.. session.Drivers.Select((driver, i) => new VerifiedTraffic(driver, shadow, (ulong)i * share, share, seed: (10 * round) + i))];
            await Task.WhenAll(traffic.Select(one => Task.Run(() => one.Run(800))));
            foreach (VerifiedTraffic one in traffic)
            {
                one.VerifyAll(session.Drivers[0]);
            }
        }

        if (options.Contains("--register-memory --io-engine threads", StringComparison.Ordinal))
        {
            Assert.Contains("without registered guest memory", daemon.Log, StringComparison.Ordinal);
        }
        else
        {
            Assert.DoesNotContain("without registered guest memory", daemon.Log, StringComparison.Ordinal);
        }

        await daemon.StopAsync();
        shadow.AssertEqualTo(image);
    }

    [Theory]
    [InlineData("--reactors 1", new[] { "reactor-0" })]
    [InlineData("--reactors 2", new[] { "reactor-0", "reactor-1" })]
    [InlineData("--merge on", new[] { "queue-0", "queue-1", "queue-2" })]
    public async Task Queues_run_on_as_many_threads_as_asked_for(string options, string[] threads)
    {
        using TestFolder folder = new();
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(
            folder, new Harness.DaemonOptions(folder.CreateImage(1)) { QueueCount = QueueCount, More = options.Split(' ') });
        using (FrontendSession.Open(daemon.SocketPath, new FrontendOptions { QueueCount = QueueCount }))
        {
            Assert.Equal(threads, ThreadNamesOf(daemon.ProcessId).Where(name => name.StartsWith("queue-", StringComparison.Ordinal) || name.StartsWith("reactor-", StringComparison.Ordinal)).Order());
        }

        await daemon.StopAsync();
    }

    private static IEnumerable<string> ThreadNamesOf(int process) =>
        Directory.EnumerateDirectories($"/proc/{process}/task").Select(task => File.ReadAllText($"{task}/comm").Trim());
}
