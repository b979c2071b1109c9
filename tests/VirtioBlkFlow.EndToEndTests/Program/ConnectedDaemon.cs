using System.Net.Sockets;
using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.Frontend.Protocol;

namespace VirtioBlkFlow.EndToEndTests.Program;

/// <summary>A daemon whose descriptor 3 is the other end of a front-end's socket.</summary>
internal sealed class ConnectedDaemon : IDisposable
{
    private ConnectedDaemon(ChildProcess process, SafeFileHandle socket)
    {
        Process = process;
        Frontend = new VhostUserFrontend(socket);
    }

    public ChildProcess Process { get; }

    public VhostUserFrontend Frontend { get; }

    public static Task<ConnectedDaemon> StartAsync(LauncherFixture launcher, TestFolder folder, DiskImage image) =>
        StartAsync(launcher, folder, "--fd", "3", "--blk-file", image.FilePath);

    public static async Task<ConnectedDaemon> StartAsync(LauncherFixture launcher, TestFolder folder, params string[] arguments)
    {
        string path = folder["front-end.sock"];
        using Socket listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        listener.Bind(new UnixDomainSocketEndPoint(path));
        listener.Listen();
        ChildProcess daemon = ChildProcess.Start(
            launcher.Launcher, ["connect", path, RepoPaths.Daemon, .. arguments], folder: folder.FullName);
        try
        {
            using CancellationTokenSource deadline = new(Vblkflow.EndDeadline);
            Socket socket = await listener.AcceptAsync(deadline.Token);
            SafeFileHandle handle = new(socket.Handle, ownsHandle: true);
            // The descriptor is the front-end's now.
            socket.SafeHandle.SetHandleAsInvalid();
            return new ConnectedDaemon(daemon, handle);
        }
        catch
        {
            await daemon.DisposeAsync();
            throw;
        }
    }

    public void Dispose() => Frontend.Dispose();
}
