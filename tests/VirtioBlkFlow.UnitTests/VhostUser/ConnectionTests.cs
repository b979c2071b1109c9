using Microsoft.Win32.SafeHandles;
using Mono.Unix.Native;
using VirtioBlkFlow.VhostUser.Connection;
using VirtioBlkFlow.VhostUser.Wire;
using Xunit;

namespace VirtioBlkFlow.UnitTests.VhostUser;

public sealed class ConnectionTests : IDisposable
{
    private readonly RawFrontend _peer;
    private readonly SafeFileHandle _socket;
    private readonly VhostUserConnection _connection;
    private readonly ReceivedMessage _message = new();

    public ConnectionTests()
    {
        (var ours, _socket) = RawFrontend.NewPair();
        _peer = new RawFrontend(ours);
        _connection = new VhostUserConnection(_socket);
    }

    [Fact]
    public void Assembles_a_message_that_arrives_byte_by_byte_with_the_descriptor_on_the_first()
    {
        using var file = new TestFiles(4096);
        var bytes = RawFrontend.Message(FrontendRequest.SET_VRING_KICK, RawFrontend.Bytes(2UL));
        var sender = new Thread(() =>
        {
            for (var i = 0; i < bytes.Length; i++)
            {
                _peer.SendRaw(bytes.AsSpan(i, 1), i == 0 ? [file.Handle] : []);
            }
        });
        sender.Start();

        Assert.Equal(ReceiveOutcome.Message, _connection.Receive(_message));
        sender.Join();
        Assert.Equal((uint)FrontendRequest.SET_VRING_KICK, _message.Header.Request);
        Assert.True(_message.TryReadPayload(out ulong payload));
        Assert.Equal(2UL, payload);
        Assert.Equal(1, _message.DescriptorCount);
        Assert.Equal(2, file.CountDescriptors());
    }

    [Fact]
    public void Leaves_the_next_message_and_its_descriptors_alone()
    {
        using var file = new TestFiles(4096);
        _peer.Send(FrontendRequest.SET_OWNER);
        _peer.Send(FrontendRequest.SET_VRING_CALL, 1UL, file.Handle);

        Assert.Equal(ReceiveOutcome.Message, _connection.Receive(_message));
        Assert.Equal((uint)FrontendRequest.SET_OWNER, _message.Header.Request);
        Assert.Equal(0, _message.DescriptorCount);
        Assert.Equal(ReceiveOutcome.Message, _connection.Receive(_message));
        Assert.Equal(1, _message.DescriptorCount);
    }

    [Fact]
    public void Refuses_descriptors_in_the_midst_of_a_message_and_closes_them()
    {
        using var file = new TestFiles(4096);
        var bytes = RawFrontend.Message(FrontendRequest.SET_VRING_KICK, RawFrontend.Bytes(0UL));
        _peer.SendRaw(bytes.AsSpan(0, 12));
        _peer.SendRaw(bytes.AsSpan(12), file.Handle);

        Assert.Equal(ReceiveOutcome.ProtocolViolation, _connection.Receive(_message));
        Assert.Contains("midst", _message.Violation, StringComparison.Ordinal);
        Assert.Equal(1, file.CountDescriptors());
    }

    [Fact]
    public void Refuses_more_descriptors_than_it_has_room_for_and_closes_them()
    {
        using var file = new TestFiles(4096);
        _peer.SendRaw(RawFrontend.Message(FrontendRequest.SET_MEM_TABLE, []), [.. Enumerable.Repeat(file.Handle, 40)]);

        Assert.Equal(ReceiveOutcome.ProtocolViolation, _connection.Receive(_message));
        Assert.Equal(1, file.CountDescriptors());
    }

    [Theory]
    [InlineData(0u)]
    [InlineData(2u)]
    [InlineData(3u)]
    public void Refuses_other_versions(uint flags)
    {
        _peer.SendRaw(RawFrontend.Message(FrontendRequest.SET_OWNER, [], flags));
        Assert.Equal(ReceiveOutcome.ProtocolViolation, _connection.Receive(_message));
    }

    [Fact]
    public void Accepts_the_largest_payload_and_refuses_one_byte_more()
    {
        _peer.Send(FrontendRequest.SET_CONFIG, new byte[ProtocolLimits.MaxPayloadBytes]);
        Assert.Equal(ReceiveOutcome.Message, _connection.Receive(_message));
        Assert.Equal(ProtocolLimits.MaxPayloadBytes, _message.Payload.Length);

        _peer.Send(FrontendRequest.SET_CONFIG, new byte[ProtocolLimits.MaxPayloadBytes + 1]);
        Assert.Equal(ReceiveOutcome.ProtocolViolation, _connection.Receive(_message));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(11)]
    [InlineData(12)]
    [InlineData(19)]
    public void Says_closed_when_the_peer_leaves_within_a_message(int sentBytes)
    {
        using var file = new TestFiles(4096);
        if (sentBytes > 0)
        {
            _peer.SendRaw(RawFrontend.Message(FrontendRequest.SET_VRING_KICK, RawFrontend.Bytes(0UL)).AsSpan(0, sentBytes), file.Handle);
        }

        _peer.Dispose();
        Assert.Equal(ReceiveOutcome.Closed, _connection.Receive(_message));
        Assert.Equal(1, file.CountDescriptors());
    }

    [Fact]
    public void Is_interrupted_by_another_thread()
    {
        var receiver = new Thread(() => Assert.Equal(ReceiveOutcome.Closed, _connection.Receive(_message)));
        receiver.Start();
        _connection.Interrupt();
        Assert.True(receiver.Join(RawFrontend.DeadlineMs));
        _connection.Dispose();
        _connection.Interrupt();
    }

    [Fact]
    public void Ignores_what_waits_in_the_socket_once_interrupted()
    {
        _peer.Send(FrontendRequest.SET_OWNER);
        _connection.Interrupt();
        Assert.Equal(ReceiveOutcome.Closed, _connection.Receive(_message));
    }

    [Fact]
    public void Works_on_a_socket_that_does_not_block()
    {
        var number = (int)_socket.DangerousGetHandle();
        Assert.Equal(0, Syscall.fcntl(number, FcntlCommand.F_SETFL, (int)OpenFlags.O_NONBLOCK));
        var receiver = new Thread(() => Assert.Equal(ReceiveOutcome.Message, _connection.Receive(_message)));
        receiver.Start();
        _peer.Send(FrontendRequest.SET_OWNER);
        Assert.True(receiver.Join(RawFrontend.DeadlineMs));
    }

    [Fact]
    public void Sends_requests_and_replies_that_the_other_side_receives_with_their_descriptors()
    {
        var (a, b) = RawFrontend.NewPair();
        using var frontend = new VhostUserConnection(a);
        using var backend = new VhostUserConnection(b);
        using var file = new TestFiles(4096);

        Assert.Equal(SendOutcome.Sent, frontend.SendRequest(FrontendRequest.SET_VRING_ERR, RawFrontend.Bytes(3UL), [file.Handle], needReply: true));
        Assert.Equal(ReceiveOutcome.Message, backend.Receive(_message));
        Assert.True(_message.Header.NeedsReply);
        using (var taken = _message.TakeDescriptor(0))
        {
            Assert.Equal(2, file.CountDescriptors());
            Assert.Throws<InvalidOperationException>(() => _message.TakeDescriptor(0));
        }

        Assert.Equal(SendOutcome.Sent, backend.SendReply(_message.Header.Request, RawFrontend.Bytes(0UL)));
        Assert.Equal(ReceiveOutcome.Message, frontend.Receive(_message));
        Assert.Equal(MessageHeader.ReplyFlags, _message.Header.Flags);
    }

    [Fact]
    public void Says_closed_when_sending_to_a_peer_that_left()
    {
        _peer.Dispose();
        Assert.Equal(SendOutcome.Closed, _connection.SendReply(1, RawFrontend.Bytes(0UL)));
    }

    [Fact]
    public void Does_not_wait_for_room_when_asked_not_to()
    {
        var outcome = SendOutcome.Sent;
        for (var i = 0; i < 1_000_000 && outcome == SendOutcome.Sent; i++)
        {
            outcome = _connection.TrySendWithoutWaiting(2, VirtioBlkFlow.VhostUser.Wire.MessageFlags.Version1);
        }

        Assert.Equal(SendOutcome.WouldBlock, outcome);
    }

    public void Dispose()
    {
        _message.Dispose();
        _connection.Dispose();
        _peer.Dispose();
    }
}
