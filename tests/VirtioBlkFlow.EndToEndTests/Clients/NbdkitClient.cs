using VirtioBlkFlow.EndToEndTests.Harness;

namespace VirtioBlkFlow.EndToEndTests.Clients;

/// <summary>nbdkit with its libblkio plug-in: a vhost-user front-end without a virtual machine, which any NBD client can use.</summary>
/// <remarks>libblkio requires CONFIG, REPLY_ACK and CONFIGURE_MEM_SLOTS, adds memory regions while the queue runs, and never sends SET_MEM_TABLE.</remarks>
internal sealed class NbdkitClient : IAsyncDisposable
{
    private static readonly TimeSpan s_deadline = TimeSpan.FromSeconds(60);

    private readonly ChildProcess _nbdkit;
    private readonly DaemonProcess _daemon;

    private NbdkitClient(ChildProcess nbdkit, DaemonProcess daemon, string uri)
    {
        _nbdkit = nbdkit;
        _daemon = daemon;
        Uri = uri;
    }

    /// <summary>Where the disk is offered to NBD clients.</summary>
    public string Uri { get; }

    public static async Task<NbdkitClient> StartAsync(TestFolder folder, DaemonProcess daemon)
    {
        const string SocketName = "nbd.sock";
        string plugin = Path.Combine(BlkioTool.LibraryFolder, "nbdkit/plugins/nbdkit-blkio-plugin.so");
        string[] arguments =
        [
            "--foreground", "--unix", folder[SocketName], plugin, "virtio-blk-vhost-user", $"path={daemon.SocketPath}",
        ];
        ChildProcess nbdkit = await ListeningSocket.StartListenerAsync(
            folder, SocketName, () => ChildProcess.Start("nbdkit", arguments, BlkioTool.Environment));
        return new NbdkitClient(nbdkit, daemon, $"nbd+unix:///?socket={folder[SocketName]}");
    }

    /// <summary>Runs an NBD client to its end and returns what it printed; nbdkit must survive it.</summary>
    public async Task<string> RunAsync(string program, params string[] arguments)
    {
        await using ChildProcess client = ChildProcess.Start(program, arguments);
        bool ended = await client.WaitForExitAsync(s_deadline);
        Assert.True(
            ended && client.ExitCode == 0 && !_nbdkit.HasExited,
            $"""
            {client.CommandLine}
            {(ended ? $"ended with exit code {client.ExitCode}" : $"did not end within {s_deadline.TotalSeconds} s")}
            {client.Output}
            {client.Errors}
            --- nbdkit{(_nbdkit.HasExited ? $" ended with exit code {_nbdkit.ExitCode}" : "")}
            {_nbdkit.CommandLine}
            {_nbdkit.Errors}
            --- daemon
            {_daemon.Log}
            """);
        return client.Output.ToString();
    }

    public ValueTask DisposeAsync() => _nbdkit.DisposeAsync();
}
