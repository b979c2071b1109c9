using VirtioBlkFlow.Disks.Streaming;
using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.EndToEndTests.Program;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.EndToEndTests.Exchange;

/// <summary><c>vblkflow exchange --stream</c>, from stdin to stdout, with our own front-end for a guest.</summary>
public class StreamTests
{
    private const int GuestFailed = 3;
    private const int FrontendLeft = 4;
    private const int Interrupted = 5;

    // Sectors as docs/exchange.md has them, with rings of 4096 bytes.
    private const ulong InProducer = 1;
    private const ulong InConsumer = 16;
    private const ulong OutProducer = 24;
    private const ulong InData = 32;
    private const ulong OutData = 40;

    [Fact]
    public async Task Both_directions_outlive_their_front_end_and_lose_nothing()
    {
        using TestFolder folder = new();
        await using ChildProcess program = await StartAsync(folder);
        program.WriteLine("first");
        using (FrontendSession session = Open(folder))
        {
            Assert.Equal("first\n", ReadIn(session, position: 0, produced: 6));
            SetIndex(session, InConsumer, new RingIndex(6));
            WriteOut(session, position: 0, "one\n");
            SetIndex(session, OutProducer, new RingIndex(4));
            await program.Output.WaitForAsync(line => line == "one", Vblkflow.EndDeadline);
            // Written and not counted: the next one does it again.
            WriteOut(session, position: 4, "lost\n");
        }

        program.WriteLine("second");
        program.CloseInput();
        using FrontendSession next = Open(folder);
        Assert.Equal((6ul, 4ul), (IndexAt(next, InConsumer).Position, IndexAt(next, OutProducer).Position));
        Assert.Equal("second\n", ReadIn(next, position: 6, produced: 13));
        Assert.True(SpinWait.SpinUntil(() => IndexAt(next, InProducer).State == RingState.Ended, Vblkflow.EndDeadline), "The end of stdin is not seen.");
        SetIndex(next, InConsumer, new RingIndex(13));
        WriteOut(next, position: 4, "two\n");
        SetIndex(next, OutProducer, new RingIndex(8, RingState.Ended));

        ProgramEnd end = await Vblkflow.EndOfAsync(program);
        Assert.True(end.ExitCode == ProgramEnd.Success, end.Error);
        Assert.Equal(["one", "two"], end.Output);
        Assert.Empty(end.Errors);
        Assert.Empty(Directory.EnumerateFileSystemEntries(folder.FullName));
    }

    [Fact]
    public async Task A_guest_that_gives_up_ends_it_with_its_code()
    {
        using TestFolder folder = new();
        await using ChildProcess program = await StartAsync(folder);
        using FrontendSession session = Open(folder);
        SetIndex(session, OutProducer, new RingIndex(0, RingState.Aborted, 17));
        (await Vblkflow.EndOfAsync(program)).AssertRefusedWith(GuestFailed, "gave up", "17");
    }

    [Fact]
    public async Task A_guest_that_breaks_the_rules_ends_it_with_what_was_seen()
    {
        using TestFolder folder = new();
        await using ChildProcess program = await StartAsync(folder, "--log-level", "none");
        using FrontendSession session = Open(folder);
        byte[] sector = new byte[512];
        new RingIndex(4097).Write(sector, StreamOf(session));
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, session.Drivers[0].Write(OutProducer, sector));
        (await Vblkflow.EndOfAsync(program)).AssertRefusedWith(GuestFailed, "producer index is 4097", "4096");
    }

    [Fact]
    public async Task With_once_it_ends_with_its_front_end_and_after_a_signal_at_once()
    {
        using TestFolder folder = new();
        await using (ChildProcess once = await StartAsync(folder, "--once"))
        {
            Open(folder).Dispose();
            (await Vblkflow.EndOfAsync(once)).AssertRefusedWith(FrontendLeft, "front-end left");
        }

        await using ChildProcess program = await StartAsync(folder);
        using FrontendSession session = Open(folder);
        program.Signal(ChildProcess.SIGTERM);
        (await Vblkflow.EndOfAsync(program)).AssertRefusedWith(Interrupted, "signal");
    }

    [Theory]
    [InlineData("exec \"$0\" \"$@\" >/dev/full")]
    // A pipe that was closed by its only reader.
    [InlineData("mkfifo pipe; exec 3<>pipe; exec \"$0\" \"$@\" >pipe 3<&-")]
    public async Task When_nobody_reads_its_stdout_it_says_so_and_tells_the_guest_no_lies(string script)
    {
        using TestFolder folder = new();
        await using ChildProcess program = await ListeningSocket.StartListenerAsync(
            folder,
            Vblkflow.SocketName,
            () => ChildProcess.Start("sh", ["-c", script, RepoPaths.Daemon, .. Arguments(folder)], folder: folder.FullName));
        using FrontendSession session = Open(folder);
        WriteOut(session, position: 0, "lost\n");
        SetIndex(session, OutProducer, new RingIndex(5));
        (await Vblkflow.EndOfAsync(program)).AssertRefusedWith(ProgramEnd.Failure, "stdout");
    }

    [Theory]
    [InlineData("exec \"$0\" \"$@\" </")]
    [InlineData("exec \"$0\" \"$@\" 0>only-for-writing")]
    public async Task When_its_stdin_cannot_be_read_it_says_so(string script)
    {
        using TestFolder folder = new();
        await using ChildProcess program = ChildProcess.Start("sh", ["-c", script, RepoPaths.Daemon, .. Arguments(folder)], folder: folder.FullName);
        (await Vblkflow.EndOfAsync(program)).AssertRefusedWith(ProgramEnd.Failure, "stdin");
    }

    private static string[] Arguments(TestFolder folder, params string[] more) =>
        ["exchange", "--stream", "--ring-size", "4K", "--linger", "0", "--socket-path", folder[Vblkflow.SocketName], .. more];

    private static Task<ChildProcess> StartAsync(TestFolder folder, params string[] more) =>
        ListeningSocket.StartListenerAsync(folder, Vblkflow.SocketName, () => Vblkflow.Start(folder, Arguments(folder, more)));

    private static FrontendSession Open(TestFolder folder) => FrontendSession.Open(folder[Vblkflow.SocketName]);

    private static byte[] Read(FrontendSession session, ulong sector)
    {
        byte[] bytes = new byte[512];
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Read(sector, bytes));
        return bytes;
    }

    private static ulong StreamOf(FrontendSession session) => BitConverter.ToUInt64(Read(session, 0), 16);

    private static RingIndex IndexAt(FrontendSession session, ulong sector)
    {
        Assert.True(RingIndex.TryRead(Read(session, sector), out RingIndex index, out _, out string problem), problem);
        return index;
    }

    // All within the first sector of the ring, which is enough here; the rest is for the unit tests and the guests.
    private static string ReadIn(FrontendSession session, int position, ulong produced)
    {
        Assert.True(SpinWait.SpinUntil(() => IndexAt(session, InProducer).Position == produced, Vblkflow.EndDeadline), "Its stdin does not arrive.");
        return System.Text.Encoding.ASCII.GetString(Read(session, InData).AsSpan(position, (int)produced - position));
    }

    private static void WriteOut(FrontendSession session, int position, string text)
    {
        byte[] sector = Read(session, OutData);
        System.Text.Encoding.ASCII.GetBytes(text, sector.AsSpan(position));
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Write(OutData, sector));
    }

    private static void SetIndex(FrontendSession session, ulong number, RingIndex index)
    {
        byte[] sector = new byte[512];
        index.Write(sector, StreamOf(session));
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Write(number, sector));
    }
}
