using System.Globalization;
using VirtioBlkFlow.EndToEndTests.Harness;

namespace VirtioBlkFlow.EndToEndTests.Program;

/// <summary>Two writers never share an image: neither two of ours, nor one of ours and a QEMU.</summary>
public class ImageLockTests
{
    private static readonly TimeSpan s_toolDeadline = TimeSpan.FromSeconds(30);

    [Theory]
    [InlineData(false, false)]
    [InlineData(false, true)]
    [InlineData(true, false)]
    public async Task A_second_daemon_is_refused_and_told_who_holds_the_image(bool firstReads, bool secondReads)
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        await using ChildProcess first = await Vblkflow.StartListeningAsync(folder, ["--blk-file", image.FilePath, .. ReadOnlyIf(firstReads)]);

        ProgramEnd end = await Vblkflow.RunAsync(
            folder, ["--socket-path", folder["second.sock"], "--blk-file", image.FilePath, .. ReadOnlyIf(secondReads)]);

        end.AssertRefusedWith(
            ProgramEnd.Failure, image.FilePath, "in use", $"pid {first.ProcessId.ToString(CultureInfo.InvariantCulture)}", "--no-lock");
        Assert.False(first.HasExited);
    }

    [Theory]
    [InlineData("--read-only")]
    [InlineData("--no-lock")]
    public async Task Two_daemons_share_an_image_when_both_only_read_or_the_operator_insists(string option)
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        await using ChildProcess first = await Vblkflow.StartListeningAsync(
            folder, option == "--no-lock" ? ["--blk-file", image.FilePath] : ["--blk-file", image.FilePath, option]);

        await using ChildProcess second = await ListeningSocket.StartListenerAsync(
            folder, "second.sock", () => Vblkflow.Start(folder, "--socket-path", folder["second.sock"], "--blk-file", image.FilePath, option));

        await Vblkflow.EndBySignalAsync(second, folder["second.sock"]);
        await Vblkflow.EndBySignalAsync(first, folder[Vblkflow.SocketName]);
    }

    [Fact]
    public async Task The_lock_goes_with_the_daemon_even_if_it_is_killed()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        await using (ChildProcess first = await Vblkflow.StartListeningAsync(folder, "--blk-file", image.FilePath))
        {
            await first.KillAsync();
        }

        await using ChildProcess second = await ListeningSocket.StartListenerAsync(
            folder, "second.sock", () => Vblkflow.Start(folder, "--socket-path", folder["second.sock"], "--blk-file", image.FilePath));

        await Vblkflow.EndBySignalAsync(second, folder["second.sock"]);
    }

    [Theory]
    [InlineData(false, false)]
    [InlineData(false, true)]
    [InlineData(true, false)]
    public async Task A_QEMU_that_has_the_image_keeps_the_daemon_out(bool qemuReads, bool daemonReads)
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        await using ChildProcess qemu = await HoldWithQemuIoAsync(image, qemuReads);

        ProgramEnd end = await Vblkflow.RunAsync(
            folder, ["--socket-path", folder[Vblkflow.SocketName], "--blk-file", image.FilePath, .. ReadOnlyIf(daemonReads)]);

        end.AssertRefusedWith(
            ProgramEnd.Failure, image.FilePath, "in use", "qemu-io", $"pid {qemu.ProcessId.ToString(CultureInfo.InvariantCulture)}", "--no-lock");
        Assert.False(qemu.HasExited);
    }

    [Fact]
    public async Task A_QEMU_that_only_reads_shares_the_image_with_a_daemon_that_only_reads()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        await using ChildProcess qemu = await HoldWithQemuIoAsync(image, readOnly: true);

        await using ChildProcess daemon = await Vblkflow.StartListeningAsync(folder, "--blk-file", image.FilePath, "--read-only");

        await Vblkflow.EndBySignalAsync(daemon, folder[Vblkflow.SocketName]);
    }

    [Theory]
    [InlineData(false, false)]
    [InlineData(false, true)]
    [InlineData(true, false)]
    public async Task QEMU_is_kept_out_of_an_image_that_the_daemon_has(bool daemonReads, bool qemuReads)
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        await using ChildProcess daemon = await Vblkflow.StartListeningAsync(folder, ["--blk-file", image.FilePath, .. ReadOnlyIf(daemonReads)]);

        await using ChildProcess qemu = ChildProcess.Start("qemu-io", [.. QemuIo(qemuReads), "-c", "read 0 512", image.FilePath]);

        Assert.True(await qemu.WaitForExitAsync(s_toolDeadline));
        Assert.NotEqual(0, qemu.ExitCode);
        Assert.Contains("lock", qemu.Errors.ToString(), StringComparison.OrdinalIgnoreCase);
        Assert.False(daemon.HasExited);
    }

    private static string[] ReadOnlyIf(bool readOnly) => readOnly ? ["--read-only"] : [];

    private static string[] QemuIo(bool readOnly) => readOnly ? ["-r", "-f", "raw"] : ["-f", "raw"];

    // The node takes its locks when it is opened; /proc/locks shows them.
    private static async Task<ChildProcess> HoldWithQemuIoAsync(DiskImage image, bool readOnly)
    {
        string inode = (await ChildProcess.RunAsync("stat", ["--format=%i", image.FilePath], s_toolDeadline)).Trim();
        ChildProcess qemu = ChildProcess.Start("qemu-io", [.. QemuIo(readOnly), "-c", "sleep 600000", image.FilePath]);
        Assert.True(
            SpinWait.SpinUntil(() => qemu.HasExited || HasLocks(inode), s_toolDeadline) && !qemu.HasExited, $"qemu-io takes no lock.\n{qemu.Errors}");
        return qemu;
    }

    // For example: 3: OFDLCK ADVISORY  READ -1 00:1c:12345 100 101
    private static bool HasLocks(string inode) => File.ReadLines("/proc/locks").Any(line =>
        line.Contains("OFDLCK", StringComparison.Ordinal) && line.Contains($":{inode} ", StringComparison.Ordinal));
}
