using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.VhostUser.Connection;
using VirtioBlkFlow.VhostUser.Wire;

namespace VirtioBlkFlow.Frontend.Protocol;

/// <summary>
/// A vhost-user front-end: one connection to a back-end and every message of the protocol, in whatever order the caller likes; legal or
/// not is up to the caller. Used by one thread at a time. Each wait has a deadline.
/// </summary>
/// <remarks>
/// This part sends and receives; the messages one by one are in <c>VhostUserFrontend.Messages.cs</c>, a sensible order of them in
/// <see cref="Negotiation"/>.
/// </remarks>
public sealed partial class VhostUserFrontend : IDisposable
{
    /// <summary>How long a reply may take if nothing else is said. Generous and arbitrary: a back-end drains I/O before it answers a stop.</summary>
    public const int DefaultTimeoutMs = 10_000;

    // Fixed at construction.
    private readonly SafeFileHandle _socket;
    private readonly VhostUserConnection _connection;
    private readonly int _timeoutMs;

    // A connection waits without end for the rest of a message, and for room to send. When this fires it is given up.
    private readonly Timer _watchdog;

    // Owned by the thread that uses the front-end.
    private readonly ReceivedMessage _received = new();

    /// <summary>Takes over a connected socket.</summary>
    /// <param name="socket">AF_UNIX stream socket; closed with this object.</param>
    /// <param name="timeoutMs">How long a reply may take.</param>
    public VhostUserFrontend(SafeFileHandle socket, int timeoutMs = DefaultTimeoutMs)
    {
        ArgumentNullException.ThrowIfNull(socket);
        _socket = socket;
        _connection = new VhostUserConnection(socket);
        _timeoutMs = timeoutMs;
        _watchdog = new Timer(static connection => ((VhostUserConnection)connection!).Interrupt(), _connection, Timeout.Infinite, Timeout.Infinite);
    }

    /// <summary>Connects to a back-end.</summary>
    /// <exception cref="IOException">Nobody listens there.</exception>
    public static VhostUserFrontend Connect(string socketPath, int timeoutMs = DefaultTimeoutMs) =>
        new(UnixSocket.Connect(socketPath), timeoutMs);

    /// <summary>Two connected sockets: one for a front-end, one for a back-end in the same process.</summary>
    public static (SafeFileHandle Frontend, SafeFileHandle Backend) CreateSocketPair() => UnixSocket.Pair();

    /// <summary>Sends a request and does not wait for anything.</summary>
    /// <exception cref="BackendClosedException">The back-end does not listen any more.</exception>
    public void Send(FrontendRequest request, ReadOnlySpan<byte> payload = default, ReadOnlySpan<SafeFileHandle> descriptors = default, bool needReply = false)
    {
        _watchdog.Change(_timeoutMs, Timeout.Infinite);
        SendOutcome outcome = _connection.SendRequest(request, payload, descriptors, needReply);
        _watchdog.Change(Timeout.Infinite, Timeout.Infinite);
        if (outcome != SendOutcome.Sent)
        {
            throw new BackendClosedException($"The back-end closed the connection before {request} was sent.");
        }
    }

    /// <summary>Sends a header of one's own, followed by whatever bytes: for lying sizes, unknown requests, wrong flags, descriptors without end.</summary>
    /// <exception cref="BackendClosedException">The back-end does not listen any more.</exception>
    public void SendRaw(MessageHeader header, ReadOnlySpan<byte> payload = default, ReadOnlySpan<SafeFileHandle> descriptors = default)
    {
        byte[] bytes = new byte[MessageHeader.SizeBytes + payload.Length];
        MemoryMarshal.Write(bytes, in header);
        payload.CopyTo(bytes.AsSpan(MessageHeader.SizeBytes));
        SendRaw(bytes, descriptors);
    }

    /// <summary>Sends bytes, with descriptors on the first one: half a message, or several at once.</summary>
    /// <exception cref="BackendClosedException">The back-end does not listen any more.</exception>
    public void SendRaw(ReadOnlySpan<byte> bytes, ReadOnlySpan<SafeFileHandle> descriptors = default) =>
        UnixSocket.SendBytes(_socket, bytes, descriptors);

    /// <summary>
    /// Receives the reply to a request. The message is valid until the next one; a descriptor in it belongs to whoever takes it.
    /// </summary>
    /// <exception cref="TimeoutException">No reply came in time.</exception>
    /// <exception cref="BackendClosedException">The back-end closed instead.</exception>
    /// <exception cref="BackendProtocolException">Something else came.</exception>
    public ReceivedMessage ReceiveReply(FrontendRequest request)
    {
        if (!DescriptorWait.UntilReadable(UnixSocket.Number(_socket), Deadline.In(_timeoutMs)))
        {
            throw new TimeoutException($"The back-end did not answer {request} within {_timeoutMs} ms.");
        }

        switch (ReceiveWithinTimeout())
        {
            case ReceiveOutcome.Closed:
                throw new BackendClosedException($"The back-end closed the connection, or fell silent within a message, instead of answering {request}.");
            case ReceiveOutcome.ProtocolViolation:
                throw new BackendProtocolException($"The answer to {request} breaks the framing: {_received.Violation}.");
        }

        MessageHeader header = _received.Header;
        // QEMU compares the flags for equality: a reply that echoes NEED_REPLY would end its connection.
        if (header.Request != (uint)request || header.Flags != MessageHeader.ReplyFlags)
        {
            throw new BackendProtocolException($"Request {header.Request} with flags 0x{(uint)header.Flags:x} came where the reply to {request} was due.");
        }

        return _received;
    }

    /// <summary>Whether the back-end has closed the connection, now or before the deadline. Anything it says instead is an error.</summary>
    /// <exception cref="BackendProtocolException">A message came.</exception>
    public bool WaitForClose(Deadline deadline)
    {
        if (!DescriptorWait.UntilReadable(UnixSocket.Number(_socket), deadline))
        {
            return false;
        }

        return ReceiveWithinTimeout() == ReceiveOutcome.Closed
            ? true
            : throw new BackendProtocolException($"Request {_received.Header.Request} came where the end was due.");
    }

    /// <summary>Whether the back-end has sent something that nobody has read: after a request without a reply it must not.</summary>
    public bool HasUnreadReply => DescriptorWait.UntilReadable(UnixSocket.Number(_socket), Deadline.In(0));

    /// <summary>Closes the connection; to the back-end the front-end is gone.</summary>
    public void Dispose()
    {
        _watchdog.Dispose();
        _received.Dispose();
        _connection.Dispose();
    }

    private ReceiveOutcome ReceiveWithinTimeout()
    {
        _watchdog.Change(_timeoutMs, Timeout.Infinite);
        ReceiveOutcome outcome = _connection.Receive(_received);
        _watchdog.Change(Timeout.Infinite, Timeout.Infinite);
        return outcome;
    }

    // Sends a request; receives its acknowledgement if one was asked for. 0 stands for success, and for not asked.
    private ulong SendAcknowledged(FrontendRequest request, ReadOnlySpan<byte> payload, bool needReply, ReadOnlySpan<SafeFileHandle> descriptors = default)
    {
        Send(request, payload, descriptors, needReply);
        return needReply ? ReceivePayload<ulong>(request) : 0;
    }

    private T Query<T>(FrontendRequest request, ReadOnlySpan<byte> payload, bool needReply, ReadOnlySpan<SafeFileHandle> descriptors = default)
        where T : unmanaged
    {
        Send(request, payload, descriptors, needReply);
        return ReceivePayload<T>(request);
    }

    private T ReceivePayload<T>(FrontendRequest request)
        where T : unmanaged
    {
        ReceivedMessage reply = ReceiveReply(request);
        return reply.TryReadPayload(out T payload)
            ? payload
            : throw new BackendProtocolException($"The answer to {request} has {reply.Header.PayloadBytes} bytes instead of {Unsafe.SizeOf<T>()}.");
    }

    private static ReadOnlySpan<byte> Bytes<T>(in T payload)
        where T : unmanaged => MemoryMarshal.AsBytes(new ReadOnlySpan<T>(in payload));
}
