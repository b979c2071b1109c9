using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Mono.Unix.Native;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.VhostUser.Session;
using VirtioBlkFlow.VhostUser.Wire;
using Xunit;

namespace VirtioBlkFlow.UnitTests.VhostUser;

/// <summary>SET_DEVICE_STATE_FD and CHECK_DEVICE_STATE over pipes.</summary>
public sealed class DeviceStateTests : IDisposable
{
    private const DeviceStateDirection Save = DeviceStateDirection.VHOST_TRANSFER_STATE_DIRECTION_SAVE;
    private const DeviceStateDirection Load = DeviceStateDirection.VHOST_TRANSFER_STATE_DIRECTION_LOAD;

    // Lies in a pipe already: of the 64 KiB that a pipe holds 4 are left, so that a larger state has to wait for its reader.
    private const int FillingBytes = 60 * 1024;

    private readonly RecordingBackend _backend = new();
    private readonly RawFrontend _frontend;

    public DeviceStateTests()
    {
        _frontend = new RawFrontend(_backend);
        _frontend.Negotiate();
    }

    [Theory] // VU-38, VU-77
    [InlineData(0)]
    [InlineData(5)]
    [InlineData(ProtocolLimits.MaxDeviceStateBytes)]
    public void Saves_the_state_to_its_end_while_questions_are_answered(int bytes)
    {
        _backend.State = Pattern(bytes);
        var (reader, writer) = NewPipeAlmostFull();
        using (reader)
        {
            Assert.Equal(0x100UL, Transfer(Save, writer));
            writer.Dispose();
            _frontend.Barrier(); // The pipe is full or not: nobody has read it.
            Assert.Equal(_backend.State, ReadToEnd(reader)[FillingBytes..]);
            Assert.Equal(0UL, Check());
        }
    }

    [Theory] // VU-39
    [InlineData(0)]
    [InlineData(5)]
    [InlineData(ProtocolLimits.MaxDeviceStateBytes)]
    public void Loads_the_state_when_asked_how_it_went_and_reads_to_the_end_before(int bytes)
    {
        var state = Pattern(bytes);
        var (reader, writer) = DeviceState.OpenPipe();
        using (writer)
        {
            Assert.Equal(0x100UL, Transfer(Load, reader));
            reader.Dispose();
            _frontend.Send(FrontendRequest.CHECK_DEVICE_STATE); // Asked before anything is written.
            WriteAll(writer, state);
            Assert.False(_frontend.HasSomethingToRead());
        }

        Assert.Equal(0UL, MemoryMarshal.Read<ulong>(_frontend.ReceiveReply(FrontendRequest.CHECK_DEVICE_STATE)));
        Assert.Equal($"Load {bytes}", _backend.Calls[^1]);
        Assert.Equal(state, _backend.State);
    }

    [Fact] // VU-41
    public void Says_so_when_the_device_does_not_understand_a_state()
    {
        _backend.AcceptsState = false;
        Assert.NotEqual(0UL, LoadAll(Pattern(100)));
        Assert.NotEqual(0UL, Check()); // Nothing to say any more.
    }

    [Fact]
    public void Refuses_a_state_larger_than_any_device_has()
    {
        Assert.NotEqual(0UL, LoadAll(Pattern(ProtocolLimits.MaxDeviceStateBytes + 1)));
        Assert.DoesNotContain(_backend.Calls, call => call.StartsWith("Load", StringComparison.Ordinal));

        _backend.State = Pattern(ProtocolLimits.MaxDeviceStateBytes + 1);
        var (reader, writer) = DeviceState.OpenPipe();
        using (reader)
        using (writer)
        {
            Assert.Equal(0x101UL, Transfer(Save, writer));
        }
    }

    [Fact]
    public void Says_so_when_the_reader_of_a_state_has_left()
    {
        _backend.State = Pattern(50_000);
        var (reader, writer) = NewPipeAlmostFull();
        Assert.Equal(0x100UL, Transfer(Save, writer));
        writer.Dispose();
        reader.Dispose();
        Assert.NotEqual(0UL, Check());
    }

    [Theory] // VU-77
    [InlineData(2u, 0u)]
    [InlineData(0u, 1u)]
    [InlineData(1u, 0xffff_ffffu)]
    public void Refuses_directions_and_phases_there_are_not_with_an_error_and_no_descriptor(uint direction, uint phase)
    {
        using var file = new TestFiles(0);
        _frontend.Send(FrontendRequest.SET_DEVICE_STATE_FD, new DeviceStateParameters((DeviceStateDirection)direction, phase), file.Handle);
        ExpectRefused();
        Assert.Equal(1, file.CountDescriptors());
        Assert.NotEqual(0UL, Check());
    }

    [Fact]
    public void Refuses_channels_that_are_none()
    {
        var (reader, writer) = DeviceState.OpenPipe();
        using (reader)
        using (writer)
        {
            Assert.Equal(0x101UL, Transfer(Save, reader));
            Assert.Equal(0x101UL, Transfer(Load, writer));
        }

        using var device = TestFiles.OpenNull();
        Assert.Equal(0x101UL, Transfer(Save, device));
        _frontend.Send(FrontendRequest.SET_DEVICE_STATE_FD, new DeviceStateParameters(Save, 0));
        ExpectRefused();
    }

    [Fact]
    public void Refuses_a_transfer_while_a_queue_runs()
    {
        using var ram = new TestFiles(0x10000);
        _frontend.Send(
            FrontendRequest.SET_MEM_TABLE,
            [.. RawFrontend.Bytes(new MemoryTableHeader(1, 0)), .. RawFrontend.Bytes(new MemoryRegion(0, 0x10000, 0, 0))],
            ram.Handle);
        using var file = new TestFiles(0);
        Assert.Equal(0x100UL, Transfer(Load, file.Handle));
        _frontend.StartVring(1, TestFiles.VringAt(1, 0));

        // What was begun before the queue runs is too late as well.
        Assert.NotEqual(0UL, Check());
        Assert.Equal(0x101UL, Transfer(Load, file.Handle));
        Assert.DoesNotContain(_backend.Calls, call => call.StartsWith("Load", StringComparison.Ordinal));
        _frontend.Ask(FrontendRequest.GET_VRING_BASE, RawFrontend.Bytes(new VringState(1, 0)));
        Assert.Equal(0x100UL, Transfer(Load, file.Handle));
        Assert.Equal(0UL, Check());
        Assert.Equal(1, file.CountDescriptors());
    }

    [Fact]
    public void A_file_and_a_socket_are_channels_too()
    {
        _backend.State = Pattern(40_000);
        using var file = new TestFiles(0);
        Assert.Equal(0x100UL, Transfer(Save, file.Handle));
        Assert.Equal(0UL, Check());
        Assert.Equal(_backend.State, File.ReadAllBytes(file.Path));

        var (ours, theirs) = RawFrontend.NewPair();
        Assert.Equal(0x100UL, Transfer(Save, theirs));
        theirs.Dispose();
        Assert.Equal(_backend.State, ReadToEnd(ours));
        ours.Dispose();
        Assert.Equal(0UL, Check());
    }

    [Fact]
    public void A_transfer_that_was_begun_anew_gives_up_the_one_before()
    {
        _backend.State = Pattern(60_000);
        var (stuckReader, stuckWriter) = NewPipeAlmostFull();
        var (reader, writer) = DeviceState.OpenPipe();
        Assert.Equal(0x100UL, Transfer(Save, stuckWriter));
        stuckWriter.Dispose();
        Assert.Equal(0x100UL, Transfer(Save, writer));
        writer.Dispose();
        Assert.True(ReadToEnd(stuckReader).Length < FillingBytes + 60_000);
        Assert.Equal(_backend.State, ReadToEnd(reader));
        Assert.Equal(0UL, Check());
        stuckReader.Dispose();
        reader.Dispose();
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_transfer_that_never_ends_does_not_keep_the_session(bool isInterrupted)
    {
        var (reader, writer) = DeviceState.OpenPipe();
        using (writer)
        {
            Assert.Equal(0x100UL, Transfer(Load, reader));
            reader.Dispose();
            _frontend.Send(FrontendRequest.CHECK_DEVICE_STATE);
            if (isInterrupted)
            {
                _frontend.Session!.Interrupt();
                Assert.Equal(SessionOutcome.Interrupted, _frontend.End());
            }
            else
            {
                Assert.Equal(SessionOutcome.FrontendLeft, _frontend.Leave());
            }

            // The only reader was the session's, and it is closed. A process that another test is just starting may have it for a moment.
            Pollfd[] waiting = [new() { fd = (int)writer.DangerousGetHandle() }];
            Assert.True(Syscall.poll(waiting, 30_000) > 0);
            Assert.Equal(PollEvents.POLLERR, waiting[0].revents);
        }
    }

    public void Dispose() => _frontend.Dispose();

    private static byte[] Pattern(int bytes) => [.. Enumerable.Range(0, bytes).Select(static i => (byte)(i * 7))];

    private static (SafeFileHandle Reader, SafeFileHandle Writer) NewPipeAlmostFull()
    {
        var pipe = DeviceState.OpenPipe();
        WriteAll(pipe.Writer, new byte[FillingBytes]);
        return pipe;
    }

    private static unsafe void WriteAll(SafeFileHandle channel, byte[] bytes)
    {
        const int PageBytes = 4096; // What a pipe that is ready takes without waiting.
        for (var written = 0; written < bytes.Length;)
        {
            Pollfd[] waiting = [new() { fd = (int)channel.DangerousGetHandle(), events = PollEvents.POLLOUT }];
            Assert.True(Syscall.poll(waiting, RawFrontend.DeadlineMs) > 0, "nobody reads the channel");
            fixed (byte* start = &bytes[written])
            {
                var count = Syscall.write(waiting[0].fd, start, (ulong)Math.Min(bytes.Length - written, PageBytes));
                Assert.True(count > 0, "the channel has no reader");
                written += (int)count;
            }
        }
    }

    private static unsafe byte[] ReadToEnd(SafeFileHandle channel)
    {
        var all = new List<byte>();
        var piece = new byte[1000];
        fixed (byte* start = piece)
        {
            while (true)
            {
                Pollfd[] waiting = [new() { fd = (int)channel.DangerousGetHandle(), events = PollEvents.POLLIN }];
                Assert.True(Syscall.poll(waiting, RawFrontend.DeadlineMs) > 0, "the channel is not closed");
                var count = (int)Syscall.read(waiting[0].fd, start, (ulong)piece.Length);
                Assert.True(count >= 0);
                if (count == 0)
                {
                    return [.. all];
                }

                all.AddRange(piece.AsSpan(0, count));
            }
        }
    }

    private ulong Transfer(DeviceStateDirection direction, SafeFileHandle channel)
    {
        _frontend.Send(FrontendRequest.SET_DEVICE_STATE_FD, new DeviceStateParameters(direction, 0), channel);
        var reply = MemoryMarshal.Read<ulong>(_frontend.ReceiveReply(FrontendRequest.SET_DEVICE_STATE_FD, out var descriptor));
        Assert.Null(descriptor);
        return reply;
    }

    private void ExpectRefused() =>
        Assert.Equal(0x101UL, MemoryMarshal.Read<ulong>(_frontend.ReceiveReply(FrontendRequest.SET_DEVICE_STATE_FD)));

    private ulong Check() => _frontend.AskU64(FrontendRequest.CHECK_DEVICE_STATE);

    private ulong LoadAll(byte[] state)
    {
        var (reader, writer) = DeviceState.OpenPipe();
        using (writer)
        {
            Assert.Equal(0x100UL, Transfer(Load, reader));
            reader.Dispose();
            WriteAll(writer, state);
        }

        return Check();
    }
}
