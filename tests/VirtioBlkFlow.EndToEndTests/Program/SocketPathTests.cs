using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;

namespace VirtioBlkFlow.EndToEndTests.Program;

/// <summary>--socket-path: what may be there already, who may connect, what is left behind.</summary>
public class SocketPathTests
{
    [Fact]
    public async Task A_socket_that_another_daemon_serves_is_refused_and_goes_on_working()
    {
        using TestFolder folder = new();
        string socket = folder[Vblkflow.SocketName];
        DiskImage image = folder.CreateImage(16);
        await using ChildProcess first = await Vblkflow.StartListeningAsync(folder, "--blk-file", image.FilePath);

        ProgramEnd end = await Vblkflow.RunAsync(folder, "--socket-path", socket, "--blk-file", folder.CreateImage(16, "other.img").FilePath);

        end.AssertRefusedWith(ProgramEnd.Failure, socket, "Another process listens", "another socket path");
        using (FrontendSession session = FrontendSession.Open(socket))
        {
            session.VerifyRoundTrip(image, sector: 8);
        }

        await Vblkflow.EndBySignalAsync(first, socket);
    }

    [Fact]
    public async Task A_socket_that_a_killed_daemon_left_behind_is_replaced()
    {
        using TestFolder folder = new();
        string socket = folder[Vblkflow.SocketName];
        DiskImage image = folder.CreateImage(16);
        await using (ChildProcess killed = await Vblkflow.StartListeningAsync(folder, "--blk-file", image.FilePath))
        {
            await killed.KillAsync();
        }

        Assert.True(File.Exists(socket), "Nothing was left behind, so nothing is tested.");
        await using ChildProcess daemon = Vblkflow.Start(folder, "--socket-path", socket, "--blk-file", image.FilePath);
        Vblkflow.WaitUntilListening(socket, daemon);

        using (FrontendSession session = FrontendSession.Open(socket))
        {
            session.VerifyRoundTrip(image, sector: 8);
        }

        await Vblkflow.EndBySignalAsync(daemon, socket);
    }

    [Fact]
    public async Task A_file_at_the_socket_path_is_refused_and_left_alone()
    {
        using TestFolder folder = new();
        string path = folder["notes.txt"];
        File.WriteAllText(path, "precious");

        ProgramEnd end = await Vblkflow.RunAsync(folder, "--socket-path", path, "--blk-file", folder.CreateImage(16).FilePath);

        end.AssertRefusedWith(ProgramEnd.Failure, path, "no socket", "another socket path");
        Assert.Equal("precious", File.ReadAllText(path));
    }

    [Fact]
    public async Task A_path_that_no_socket_address_holds_is_refused()
    {
        using TestFolder folder = new();
        string path = folder[new string('s', 108)];

        ProgramEnd end = await Vblkflow.RunAsync(folder, "--socket-path", path, "--blk-file", folder.CreateImage(16).FilePath);

        end.AssertRefusedWith(ProgramEnd.Failure, path, "107", "shorter");
    }

    [Fact]
    public async Task A_path_in_a_directory_that_is_not_there_is_refused()
    {
        using TestFolder folder = new();
        string path = folder["missing/vblkflow.sock"];

        ProgramEnd end = await Vblkflow.RunAsync(folder, "--socket-path", path, "--blk-file", folder.CreateImage(16).FilePath);

        end.AssertRefusedWith(ProgramEnd.Failure, path, "directory must exist");
    }

    [Theory]
    [InlineData("0000", "600")]
    [InlineData("0777", "600")]
    [InlineData("0000", "660", "--socket-mode", "0660")]
    [InlineData("0777", "660", "--socket-mode", "660")]
    public async Task The_mode_of_the_socket_is_as_asked_whatever_the_umask(string umask, string expected, params string[] options)
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        string[] arguments = ["-c", $"umask {umask}; exec \"$@\"", "sh", RepoPaths.Daemon, "--socket-path", folder[Vblkflow.SocketName]];

        await using ChildProcess daemon = await Vblkflow.StartListeningByAsync(folder, "sh", [.. arguments, "--blk-file", image.FilePath, .. options]);

        string mode = await ChildProcess.RunAsync("stat", ["--format=%a", folder[Vblkflow.SocketName]], Vblkflow.EndDeadline);
        Assert.Equal(expected, mode.Trim());
        await Vblkflow.EndBySignalAsync(daemon, folder[Vblkflow.SocketName]);
    }

    [Fact]
    public async Task A_successor_that_took_the_path_keeps_its_socket_when_the_predecessor_ends()
    {
        using TestFolder folder = new();
        string socket = folder[Vblkflow.SocketName];
        DiskImage image = folder.CreateImage(16);
        await using ChildProcess first = await Vblkflow.StartListeningAsync(folder, "--blk-file", folder.CreateImage(16, "first.img").FilePath);
        File.Delete(socket);
        await using ChildProcess second = await Vblkflow.StartListeningAsync(folder, "--blk-file", image.FilePath);

        first.Signal(ChildProcess.SIGTERM);
        Assert.True(await first.WaitForExitAsync(Vblkflow.SignalDeadline));

        using (FrontendSession session = FrontendSession.Open(socket))
        {
            session.VerifyRoundTrip(image, sector: 8);
        }

        await Vblkflow.EndBySignalAsync(second, socket);
    }
}
