using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;

namespace VirtioBlkFlow.EndToEndTests.Program;

/// <summary>SIGTERM and SIGINT end it at once, whatever it is doing, with exit code 0 and without its socket (VU-83, VU-84).</summary>
public class SignalTests(LauncherFixture launcher) : IClassFixture<LauncherFixture>
{
    private const int SIGINT = 2;

    [Theory]
    [InlineData(ChildProcess.SIGTERM)]
    [InlineData(SIGINT)]
    public async Task A_signal_ends_an_idle_daemon(int signal)
    {
        using TestFolder folder = new();
        await using ChildProcess daemon = await StartAsync(folder, folder.CreateImage(16));

        await Vblkflow.EndBySignalAsync(daemon, folder[Vblkflow.SocketName], signal);

        Assert.Empty(daemon.Errors.Lines);
    }

    [Theory]
    [InlineData(ChildProcess.SIGTERM)]
    [InlineData(SIGINT)]
    public async Task A_signal_ends_a_daemon_that_has_a_front_end(int signal)
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        await using ChildProcess daemon = await StartAsync(folder, image);
        using FrontendSession session = FrontendSession.Open(folder[Vblkflow.SocketName]);
        session.VerifyRoundTrip(image, sector: 8);

        await Vblkflow.EndBySignalAsync(daemon, folder[Vblkflow.SocketName], signal);

        Assert.Empty(daemon.Errors.Lines);
    }

    [Theory]
    [InlineData(ChildProcess.SIGTERM, "io_uring", "--poll")]
    [InlineData(SIGINT, "io_uring", "--no-poll")]
    [InlineData(ChildProcess.SIGTERM, "threads", "--no-poll")]
    public async Task A_signal_ends_a_daemon_under_load_and_flushed_data_is_there(int signal, string engine, string polling)
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        ShadowDisk shadow = new(16);
        await using ChildProcess daemon = await StartAsync(folder, image, "--io-engine", engine, polling);
        using (FrontendSession session = FrontendSession.Open(folder[Vblkflow.SocketName], new FrontendOptions { QueueCount = 2 }))
        {
            const ulong Half = 8 << 11;
            VerifiedTraffic flushed = new(session.Drivers[0], shadow, 0, Half, seed: 1);
            flushed.Run(500);
            session.Drivers[0].Flush();
            VerifiedTraffic load = new(session.Drivers[1], shadow, Half, Half, seed: 2);
            using CancellationTokenSource cutOff = new();
            Task loading = Task.Run(() => load.RunUntilCutOff(cutOff.Token));
            Assert.True(SpinWait.SpinUntil(() => load.CompletedCount > 500 || loading.IsCompleted, Vblkflow.EndDeadline));

            await Vblkflow.EndBySignalAsync(daemon, folder[Vblkflow.SocketName], signal);

            cutOff.Cancel();
            await loading;
            Assert.Equal(shadow.At(0, 8 << 20).ToArray(), image.Read(0, 8 << 20));
        }

        Assert.Empty(daemon.Errors.Lines);
    }

    [Fact]
    public async Task It_stays_the_child_of_who_started_it()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        await using ChildProcess daemon = await StartAsync(folder, image);

        using (FrontendSession session = FrontendSession.Open(folder[Vblkflow.SocketName]))
        {
            session.VerifyRoundTrip(image, sector: 8);
            string parent = File.ReadLines($"/proc/{daemon.ProcessId}/status").Single(line => line.StartsWith("PPid:", StringComparison.Ordinal));
            Assert.Equal($"PPid:\t{Environment.ProcessId}", parent);
            Assert.False(daemon.HasExited);
        }

        await Vblkflow.EndBySignalAsync(daemon, folder[Vblkflow.SocketName]);
    }

    // By way of the launcher: in a job in the background, SIGINT would be ignored from the start.
    private Task<ChildProcess> StartAsync(TestFolder folder, DiskImage image, params string[] more) => Vblkflow.StartListeningByAsync(
        folder,
        launcher.Launcher,
        ["plain", RepoPaths.Daemon, "--socket-path", folder[Vblkflow.SocketName], "--blk-file", image.FilePath, .. more]);
}
