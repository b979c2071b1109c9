using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.EndToEndTests.Program;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Frontend.Protocol;

namespace VirtioBlkFlow.EndToEndTests.Ceph;

/// <summary>The program with disks of a cluster, each on a socket of its own, from the moment all of them listen.</summary>
internal sealed class RbdDaemon : IAsyncDisposable
{
    /// <summary>For what the cluster does on a machine that builds something beside it.</summary>
    public const int PatienceMs = 60_000;

    // A lock of a client that is gone is waited for.
    private static readonly TimeSpan s_startDeadline = TimeSpan.FromSeconds(90);

    private readonly TestFolder _folder;

    private RbdDaemon(TestFolder folder, ChildProcess process, int diskCount)
    {
        _folder = folder;
        Process = process;
        Sockets = [.. Enumerable.Range(0, diskCount).Select(i => folder[$"disk{i}.sock"])];
    }

    public ChildProcess Process { get; }

    public IReadOnlyList<string> Sockets { get; }

    public static async Task<RbdDaemon> StartAsync(params string[] disks)
    {
        TestFolder folder = new();
        ChildProcess process = Vblkflow.Start(folder, [.. disks.SelectMany(disk => new[] { "--disk", disk }), "--socket-dir", folder.FullName]);
        var daemon = new RbdDaemon(folder, process, disks.Length);
        bool isReady = await Task.Run(() => SpinWait.SpinUntil(() => process.HasExited || ListeningSocket.IsListening(daemon.Sockets[^1]), s_startDeadline));
        if (!isReady || process.HasExited)
        {
            string report = $"{process.CommandLine}\nended or does not listen\n{process.Output}\n{process.Errors}";
            await daemon.DisposeAsync();
            Assert.Fail(report);
        }

        return daemon;
    }

    /// <summary>A front-end that has the patience of a cluster.</summary>
    public FrontendSession Connect(int disk = 0, BackendChannel? channel = null) => FrontendSession.Open(
        VhostUserFrontend.Connect(Sockets[disk], PatienceMs), new FrontendOptions { Channel = channel, Driver = new BlkDriverOptions { QueueDepth = 32, TimeoutMs = PatienceMs } });

    /// <summary>A line of its log that is printed already or comes in time.</summary>
    public Task<string> WaitForLogAsync(string text) =>
        Process.Errors.WaitForAsync(line => line.Contains(text, StringComparison.Ordinal), TimeSpan.FromMilliseconds(PatienceMs));

    /// <summary>SIGTERM; ends in time with exit code 0.</summary>
    public Task StopAsync() => Vblkflow.EndBySignalAsync(Process, Sockets[0]);

    public async ValueTask DisposeAsync()
    {
        await Process.DisposeAsync();
        _folder.Dispose();
    }
}
