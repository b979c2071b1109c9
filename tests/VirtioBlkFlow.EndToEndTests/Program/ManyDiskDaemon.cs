using VirtioBlkFlow.EndToEndTests.Harness;

namespace VirtioBlkFlow.EndToEndTests.Program;

/// <summary>A daemon that serves several disks, from the moment all of them listen.</summary>
internal sealed class ManyDiskDaemon : IDiskServer, IAsyncDisposable
{
    private ManyDiskDaemon(ChildProcess process, IReadOnlyList<string> sockets)
    {
        Process = process;
        Sockets = sockets;
    }

    public ChildProcess Process { get; }

    public IReadOnlyList<string> Sockets { get; }

    /// <summary>Of the first disk.</summary>
    public string SocketPath => Sockets[0];

    public string Log => $"{Process.CommandLine}\n{Process.Output}\n{Process.Errors}";

    /// <summary>Starts it in the test's folder.</summary>
    /// <param name="folder">Where it runs, and where the sockets are.</param>
    /// <param name="socketNames">What it will listen on, in the order of the disks: the last one comes last.</param>
    /// <param name="arguments">All of its arguments.</param>
    public static async Task<ManyDiskDaemon> StartAsync(TestFolder folder, string[] socketNames, params string[] arguments)
    {
        ChildProcess process = await ListeningSocket.StartListenerAsync(folder, socketNames[^1], () => Vblkflow.Start(folder, arguments));
        return new ManyDiskDaemon(process, [.. socketNames.Select(name => folder[name])]);
    }

    /// <summary>SIGTERM; ends in time with exit code 0 and without its sockets.</summary>
    public async Task StopAsync()
    {
        await Vblkflow.EndBySignalAsync(Process, Sockets[0]);
        Assert.All(Sockets, socket => Assert.False(File.Exists(socket), $"It left '{socket}' behind."));
    }

    public ValueTask DisposeAsync() => Process.DisposeAsync();
}
