using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.EndToEndTests.Program;

/// <summary>--fd: the socket comes from whoever started the daemon.</summary>
public class DescriptorTests(LauncherFixture launcher) : IClassFixture<LauncherFixture>
{
    [Fact]
    public async Task A_listening_descriptor_serves_one_front_end_after_another()
    {
        using TestFolder folder = new();
        string socket = folder[Vblkflow.SocketName];
        DiskImage image = folder.CreateImage(16);
        await using ChildProcess daemon = await Vblkflow.StartListeningByAsync(
            folder, launcher.Launcher, "listen", socket, RepoPaths.Daemon, "--fd", "3", "--blk-file", image.FilePath);

        for (int i = 0; i < 3; i++)
        {
            using FrontendSession session = FrontendSession.Open(socket);
            session.VerifyRoundTrip(image, sector: (ulong)i * 64);
        }

        daemon.Signal(ChildProcess.SIGTERM);
        Assert.True(await daemon.WaitForExitAsync(Vblkflow.SignalDeadline));
        Assert.Equal(ProgramEnd.Success, daemon.ExitCode);
        Assert.True(File.Exists(socket), "The socket file belongs to who made it.");
        Assert.Empty(daemon.Errors.Lines);
    }

    [Fact]
    public async Task A_connected_descriptor_serves_its_front_end_and_the_daemon_ends_with_it()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        using ConnectedDaemon connected = await ConnectedDaemon.StartAsync(launcher, folder, image);
        await using ChildProcess daemon = connected.Process;

        using (FrontendSession session = FrontendSession.Open(connected.Frontend))
        {
            session.VerifyRoundTrip(image, sector: 8);
        }

        Assert.True(await daemon.WaitForExitAsync(Vblkflow.EndDeadline), "It goes on without its only front-end.");
        Assert.Equal(ProgramEnd.Success, daemon.ExitCode);
        Assert.Empty(daemon.Errors.Lines);
    }

    [Fact]
    public async Task A_front_end_that_breaks_the_protocol_on_a_connected_descriptor_ends_the_daemon_with_an_error()
    {
        using TestFolder folder = new();
        using ConnectedDaemon connected = await ConnectedDaemon.StartAsync(launcher, folder, folder.CreateImage(16));
        await using ChildProcess daemon = connected.Process;

        connected.Frontend.SendRaw(new byte[12]);

        Assert.True(await daemon.WaitForExitAsync(Vblkflow.EndDeadline));
        Assert.Equal(ProgramEnd.Failure, daemon.ExitCode);
        Assert.Contains("protocol", Assert.Single(daemon.Errors.Lines), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_connected_descriptor_is_no_obstacle_to_SIGTERM()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        using ConnectedDaemon connected = await ConnectedDaemon.StartAsync(launcher, folder, image);
        await using ChildProcess daemon = connected.Process;
        using FrontendSession session = FrontendSession.Open(connected.Frontend);
        session.VerifyRoundTrip(image, sector: 8);

        daemon.Signal(ChildProcess.SIGTERM);

        Assert.True(await daemon.WaitForExitAsync(Vblkflow.SignalDeadline));
        Assert.Equal(ProgramEnd.Success, daemon.ExitCode);
    }

    [Fact]
    public async Task A_disk_in_the_memory_of_an_inherited_descriptor_is_that_memory()
    {
        using TestFolder folder = new();
        // Memory of shm_open(3), which lasts as long as somebody has it open.
        string path = $"/dev/shm/{Path.GetFileName(folder.FullName)}";
        await using FileStream memory = new(path, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.ReadWrite | FileShare.Delete, 0, FileOptions.DeleteOnClose);
        memory.SetLength(1 << 20);
        string command = $"exec '{RepoPaths.Daemon}' --disk memory:1M,memfd=5 --socket-path '{folder[Vblkflow.SocketName]}' 5<>'{path}'";
        await using ChildProcess daemon = await Vblkflow.StartListeningByAsync(folder, "sh", "-c", command);
        byte[] data = new byte[512];
        Random.Shared.NextBytes(data);
        using (FrontendSession session = FrontendSession.Open(folder[Vblkflow.SocketName]))
        {
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Write(2047, data));
        }

        Assert.Equal(data, new DiskImage(path).Read(2047 * 512, 512));
        await Vblkflow.EndBySignalAsync(daemon, folder[Vblkflow.SocketName]);
    }

    [Theory]
    [InlineData("--fd 3 3</dev/null", "3", "not a socket")]
    [InlineData("--fd 1", "1", "not a socket")]
    [InlineData("--fd 77", "77", "not a socket")]
    public async Task A_descriptor_that_is_no_socket_is_refused(string arguments, params string[] words)
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);

        ProgramEnd end = await Vblkflow.EndOfAsync(
            ChildProcess.Start("sh", ["-c", $"exec '{RepoPaths.Daemon}' --blk-file '{image.FilePath}' {arguments}"], folder: folder.FullName));

        end.AssertRefusedWith(ProgramEnd.Failure, words);
    }
}
