using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.Program;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.EndToEndTests.Exchange;

/// <summary><c>vblkflow exchange</c> with files, from the command line to the exit code.</summary>
public class ExchangeTests
{
    private const int GuestFailed = 3;
    private const int FrontendLeft = 4;
    private const int Interrupted = 5;

    [Fact]
    public async Task A_guest_reads_its_input_writes_its_output_and_the_program_ends_with_it()
    {
        using TestFolder folder = new();
        byte[] input = WriteRandom(folder["input"], 100_003, seed: 1);
        byte[] output = new byte[70_001];
        new Random(2).NextBytes(output);
        await File.WriteAllTextAsync(folder["output"], "as it was");
        await using ChildProcess program = await StartAsync(folder, "--linger", "5m");

        using (ExchangeSession first = new(folder[Vblkflow.SocketName]))
        {
            Assert.Equal((100_003ul, 200ul, 1ul << 30), (first.InputBytes, first.OutputSector, first.OutputCapacity));
            Assert.Equal(input, first.ReadInput());
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, first.Write(0, new byte[512]));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, first.Mark(1, (1ul << 30) + 1, 0));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, first.Write(first.StatusSector, new byte[512]));
            first.WriteOutput(0, output.AsSpan(0, 32768));
        }

        // It left without a mark: the next one goes on, and finds what was written.
        Assert.Equal("as it was", await File.ReadAllTextAsync(folder["output"]));
        using (ExchangeSession second = new(folder[Vblkflow.SocketName]))
        {
            Assert.Equal(output[..32768], second.Read(second.OutputSector, 32768));
            second.WriteOutput(32768, output.AsSpan(32768));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, second.Mark(1, (ulong)output.Length, 0));
            // The disk is still there for who has to flush, and does not change any more.
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, second.Flush());
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, second.Mark(2, 0, 0));
            Assert.Equal(output[..512], second.Read(second.OutputSector, 512));
            Assert.False(program.HasExited);
        }

        ProgramEnd end = await Vblkflow.EndOfAsync(program);
        Assert.True(end.ExitCode == ProgramEnd.Success, end.Error);
        // What did not count is in the log.
        Assert.Equal(2, end.Errors.Count);
        Assert.Contains("1073741825 bytes of output", end.Error, StringComparison.Ordinal);
        Assert.Contains("not with VBLKEXCH", end.Error, StringComparison.Ordinal);
        Assert.Equal(output, await File.ReadAllBytesAsync(folder["output"]));
        AssertHolds(folder, "input", "output");
    }

    [Fact]
    public async Task A_guest_that_fails_is_heard_and_leaves_the_output_as_it_was()
    {
        using TestFolder folder = new();
        WriteRandom(folder["input"], 0, seed: 1);
        await File.WriteAllTextAsync(folder["output"], "as it was");
        await using ChildProcess program = await StartAsync(folder, "--output-size", "1M", "--io-engine", "threads");
        using (ExchangeSession session = new(folder[Vblkflow.SocketName]))
        {
            Assert.Equal((0ul, 0ul, 1ul << 20), (session.InputBytes, session.OutputSector, session.OutputCapacity));
            session.WriteOutput(0, new byte[512]);
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Mark(2, 512, 42, "no such molecule"));
        }

        (await Vblkflow.EndOfAsync(program)).AssertRefusedWith(GuestFailed, "42", "no such molecule");
        Assert.Equal("as it was", await File.ReadAllTextAsync(folder["output"]));
        AssertHolds(folder, "input", "output");
    }

    [Fact]
    public async Task A_guest_that_writes_on_after_its_mark_had_not_flushed_and_its_output_is_not_taken()
    {
        using TestFolder folder = new();
        WriteRandom(folder["input"], 10, seed: 1);
        await using ChildProcess program = await StartAsync(folder, "--linger", "5m");
        using (ExchangeSession session = new(folder[Vblkflow.SocketName]))
        {
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Mark(1, 512, 0));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, session.Write(session.OutputSector, new byte[512]));
        }

        (await Vblkflow.EndOfAsync(program)).AssertRefusedWith(GuestFailed, "after the mark", "flush first");
        AssertHolds(folder, "input");
    }

    [Fact]
    public async Task With_once_it_ends_with_its_front_end()
    {
        using TestFolder folder = new();
        WriteRandom(folder["input"], 10, seed: 1);
        await using ChildProcess program = await StartAsync(folder, "--once");
        using (ExchangeSession session = new(folder[Vblkflow.SocketName]))
        {
            session.WriteOutput(0, new byte[512]);
        }

        (await Vblkflow.EndOfAsync(program)).AssertRefusedWith(FrontendLeft, "front-end left", "not written");
        AssertHolds(folder, "input");
    }

    [Fact]
    public async Task A_guest_that_stays_and_is_quiet_does_not_keep_it()
    {
        using TestFolder folder = new();
        WriteRandom(folder["input"], 10, seed: 1);
        await using ChildProcess program = await StartAsync(folder, "--linger", "1ms");
        using ExchangeSession session = new(folder[Vblkflow.SocketName]);
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Mark(1, 0, 0));

        Assert.Equal(ProgramEnd.Success, (await Vblkflow.EndOfAsync(program)).ExitCode);
        AssertHolds(folder, "input", "output");
    }

    [Theory]
    [InlineData(ChildProcess.SIGTERM, true)]
    [InlineData(ChildProcess.SIGHUP, false)]
    public async Task A_signal_ends_it_and_nothing_is_left(int signal, bool isConnected)
    {
        using TestFolder folder = new();
        WriteRandom(folder["input"], 10, seed: 1);
        await using ChildProcess program = await StartAsync(folder);
        using ExchangeSession? session = isConnected ? new(folder[Vblkflow.SocketName]) : null;

        program.Signal(signal);

        (await Vblkflow.EndOfAsync(program)).AssertRefusedWith(Interrupted, "signal", "not written");
        AssertHolds(folder, "input");
    }

    [Fact]
    public async Task The_layout_may_be_fixed_for_guests_that_do_not_look()
    {
        using TestFolder folder = new();
        byte[] input = WriteRandom(folder["input"], 700, seed: 1);
        await using ChildProcess program = await StartAsync(folder, "--input-sectors", "64", "--status-sector", "4096");
        using (ExchangeSession session = new(folder[Vblkflow.SocketName]))
        {
            Assert.Equal((4096ul, 64ul, (4096ul - 64) * 512), (session.StatusSector, session.OutputSector, session.OutputCapacity));
            Assert.Equal(input, session.ReadInput());
            Assert.Equal(new byte[512], session.Read(63, 512));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Mark(1, 3, 0));
        }

        Assert.Equal(ProgramEnd.Success, (await Vblkflow.EndOfAsync(program)).ExitCode);
        Assert.Equal(new byte[3], await File.ReadAllBytesAsync(folder["output"]));
    }

    [Theory]
    [InlineData(ProgramEnd.Usage, "--input a", "--output FILE", "vblkflow exchange --help")]
    [InlineData(ProgramEnd.Usage, "--stream --input a", "--stream", "vblkflow exchange --help")]
    [InlineData(ProgramEnd.Usage, "--output-size 1Q", "1Q", "vblkflow exchange --help")]
    [InlineData(ProgramEnd.Failure, "--input missing --output output", "'missing'", "Check the path")]
    [InlineData(ProgramEnd.Failure, "--input . --output output", "'.'", "Check the path")]
    [InlineData(ProgramEnd.Failure, "--input /dev/null --output no/output", "'no/output'", "folder")]
    [InlineData(ProgramEnd.Failure, "--input /dev/null --output /dev/null", "no regular file", "Name a file")]
    [InlineData(ProgramEnd.Failure, "--input /dev/null --output output --status-sector 10 --output-size 1M", "status sector", "behind")]
    [InlineData(ProgramEnd.Failure, "--input /dev/null --output output --socket-path no/socket", "no/socket")]
    public async Task What_cannot_be_is_refused_and_leaves_nothing(int exitCode, string commandLine, params string[] words)
    {
        using TestFolder folder = new();

        ProgramEnd end = await Vblkflow.RunAsync(folder, ["exchange", .. commandLine.Split(' ')]);

        end.AssertRefusedWith(exitCode, words);
        AssertHolds(folder);
    }

    [Fact]
    public async Task Help_lists_every_option()
    {
        using TestFolder folder = new();
        ProgramEnd end = await Vblkflow.RunAsync(folder, "exchange", "--help");
        Assert.Equal(ProgramEnd.Success, end.ExitCode);
        string text = string.Join('\n', end.Output);
        string[] options = ["--input", "--output", "--stream", "--status-sector", "--ring-size", "--once", "--fd"];
        Assert.All(options, option => Assert.Contains(option, text, StringComparison.Ordinal));
    }

    private static Task<ChildProcess> StartAsync(TestFolder folder, params string[] more) => ListeningSocket.StartListenerAsync(
        folder,
        Vblkflow.SocketName,
        () => Vblkflow.Start(folder, ["exchange", "--input", "input", "--output", "output", "--socket-path", folder[Vblkflow.SocketName], .. more]));

    private static byte[] WriteRandom(string path, int lengthBytes, int seed)
    {
        byte[] bytes = new byte[lengthBytes];
        new Random(seed).NextBytes(bytes);
        File.WriteAllBytes(path, bytes);
        return bytes;
    }

    // Neither the socket nor anything of an unfinished output.
    private static void AssertHolds(TestFolder folder, params string[] names) => Assert.Equal(
        names.Order(StringComparer.Ordinal), Directory.EnumerateFileSystemEntries(folder.FullName).Select(Path.GetFileName).Order(StringComparer.Ordinal));
}
