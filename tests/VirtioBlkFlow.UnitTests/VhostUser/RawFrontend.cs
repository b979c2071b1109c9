using System.Runtime.InteropServices;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Win32.SafeHandles;
using Mono.Unix.Native;
using VirtioBlkFlow.VhostUser.Connection;
using VirtioBlkFlow.VhostUser.Session;
using VirtioBlkFlow.VhostUser.Wire;
using Xunit;
using NativeFlags = Mono.Unix.Native.MessageFlags;

namespace VirtioBlkFlow.UnitTests.VhostUser;

/// <summary>
/// The other end of a session: sends whatever bytes and descriptors a test wants, on system calls of its own rather than through
/// <see cref="VhostUserConnection"/>. Every wait has a deadline.
/// </summary>
internal sealed class RawFrontend : IDisposable
{
    public const uint NeedReply = 0x9;
    public const int DeadlineMs = 20_000;
    public const ulong Bit30 = 1UL << 30;

    private readonly SafeFileHandle _socket;
    private readonly VhostUserConnection? _connection;
    private readonly Thread? _thread;
    private SessionOutcome? _outcome;
    private Exception? _failure;

    /// <summary>Starts a session over a socket pair.</summary>
    public RawFrontend(RecordingBackend backend, VhostUserSessionOptions? options = null)
    {
        (_socket, var theirs) = NewPair();
        _connection = new VhostUserConnection(theirs);
        Session = new VhostUserSession(_connection, backend, options ?? VhostUserSessionOptions.Default, NullLogger.Instance);
        _thread = new Thread(() =>
        {
            try
            {
                _outcome = Session.Run();
            }
            catch (Exception exception)
            {
                _failure = exception;
            }
            finally
            {
                _connection.Dispose();
            }
        });
        _thread.Start();
    }

    /// <summary>Speaks over a socket the test has made.</summary>
    public RawFrontend(SafeFileHandle socket) => _socket = socket;

    public VhostUserSession? Session { get; }

    public static (SafeFileHandle Ours, SafeFileHandle Theirs) NewPair()
    {
        Assert.Equal(0, Syscall.socketpair(UnixAddressFamily.AF_UNIX, UnixSocketType.SOCK_STREAM, UnixSocketFlags.SOCK_CLOEXEC, 0, out var a, out var b));
        return (new SafeFileHandle(a, true), new SafeFileHandle(b, true));
    }

    /// <summary>A connection to a listening socket.</summary>
    public static RawFrontend Connect(string path)
    {
        var socket = Syscall.socket(UnixAddressFamily.AF_UNIX, UnixSocketType.SOCK_STREAM, UnixSocketFlags.SOCK_CLOEXEC, 0);
        Assert.Equal(0, Syscall.connect(socket, new SockaddrUn(path)));
        return new RawFrontend(new SafeFileHandle(socket, true));
    }

    public static byte[] Bytes<T>(T value)
        where T : unmanaged => MemoryMarshal.AsBytes(new ReadOnlySpan<T>(in value)).ToArray();

    public static byte[] Message(FrontendRequest request, byte[] payload, uint flags = 1) =>
        [.. Bytes((uint)request), .. Bytes(flags), .. Bytes((uint)payload.Length), .. payload];

    public void Send(FrontendRequest request, byte[] payload, params SafeFileHandle[] descriptors) =>
        SendRaw(Message(request, payload), descriptors);

    public void Send<T>(FrontendRequest request, T payload, params SafeFileHandle[] descriptors)
        where T : unmanaged => Send(request, Bytes(payload), descriptors);

    public void Send(FrontendRequest request) => Send(request, []);

    /// <summary>Sends with NEED_REPLY, and gives the acknowledgement.</summary>
    public ulong SendForAck<T>(FrontendRequest request, T payload, params SafeFileHandle[] descriptors)
        where T : unmanaged => SendForAck(request, Bytes(payload), descriptors);

    public ulong SendForAck(FrontendRequest request, byte[] payload, params SafeFileHandle[] descriptors)
    {
        SendRaw(Message(request, payload, NeedReply), descriptors);
        return MemoryMarshal.Read<ulong>(ReceiveReply(request));
    }

    public unsafe void SendRaw(ReadOnlySpan<byte> bytes, params SafeFileHandle[] descriptors)
    {
        fixed (byte* start = bytes)
        {
            var message = new Msghdr { msg_iov = [new Iovec { iov_base = (nint)start, iov_len = (ulong)bytes.Length }], msg_iovlen = 1 };
            if (descriptors.Length > 0)
            {
                var numbers = MemoryMarshal.AsBytes<int>(Array.ConvertAll(descriptors, static d => (int)d.DangerousGetHandle())).ToArray();
                message.msg_control = new byte[Syscall.CMSG_SPACE((ulong)numbers.Length)];
                message.msg_controllen = message.msg_control.Length;
                new Cmsghdr
                {
                    cmsg_len = (long)Syscall.CMSG_LEN((ulong)numbers.Length),
                    cmsg_level = UnixSocketProtocol.SOL_SOCKET,
                    cmsg_type = UnixSocketControlMessage.SCM_RIGHTS,
                }.WriteToBuffer(message, 0);
                numbers.CopyTo(message.msg_control, (int)Syscall.CMSG_DATA(message, 0));
            }

            // A session that has closed its end makes this fail, which the test notices at its next receive.
            _ = Syscall.sendmsg(Number, message, NativeFlags.MSG_NOSIGNAL);
        }
    }

    /// <summary>Asks and reads the reply's payload.</summary>
    public byte[] Ask(FrontendRequest request, byte[]? payload = null)
    {
        Send(request, payload ?? []);
        return ReceiveReply(request);
    }

    public ulong AskU64(FrontendRequest request) => MemoryMarshal.Read<ulong>(Ask(request));

    /// <summary>Returns when the session is past everything sent before.</summary>
    public void Barrier() => Ask(FrontendRequest.GET_FEATURES);

    /// <summary>Reads one reply, and checks all of its header.</summary>
    public byte[] ReceiveReply(FrontendRequest request)
    {
        var header = ReceiveHeader() ?? throw new InvalidOperationException($"the connection was closed instead of a reply to {request}");
        Assert.Equal((uint)request, header.Request);
        Assert.Equal(5u, (uint)header.Flags);
        return ReceiveBytes((int)header.PayloadBytes)!;
    }

    /// <summary>Reads one reply that may have a descriptor with it, which becomes the test's; null for none.</summary>
    public unsafe byte[] ReceiveReply(FrontendRequest request, out SafeFileHandle? descriptor)
    {
        Assert.True(WaitForSomethingToRead(), "nothing arrives");
        var bytes = new byte[MessageHeader.SizeBytes];
        fixed (byte* start = bytes)
        {
            var message = new Msghdr
            {
                msg_iov = [new Iovec { iov_base = (nint)start, iov_len = (ulong)bytes.Length }],
                msg_iovlen = 1,
                msg_control = new byte[Syscall.CMSG_SPACE(sizeof(int))],
                msg_controllen = (long)Syscall.CMSG_SPACE(sizeof(int)),
            };
            Assert.Equal(bytes.Length, Syscall.recvmsg(Number, message, NativeFlags.MSG_CMSG_CLOEXEC));
            Assert.True((message.msg_flags & NativeFlags.MSG_CTRUNC) == 0, "more than one descriptor came");
            var offset = Syscall.CMSG_FIRSTHDR(message);
            descriptor = offset < 0
                ? null
                : new SafeFileHandle(MemoryMarshal.Read<int>(message.msg_control.AsSpan((int)Syscall.CMSG_DATA(message, offset))), true);
        }

        var header = MemoryMarshal.Read<MessageHeader>(bytes);
        Assert.Equal(((uint)request, 5u), (header.Request, (uint)header.Flags));
        return ReceiveBytes((int)header.PayloadBytes)!;
    }

    /// <summary>Null at the end of the connection.</summary>
    public MessageHeader? ReceiveHeader() => ReceiveBytes(MessageHeader.SizeBytes) is { } bytes ? MemoryMarshal.Read<MessageHeader>(bytes) : null;

    /// <summary>Waits until the session is past everything sent before, whatever it replied.</summary>
    /// <returns>False if it has ended.</returns>
    public bool TryBarrier()
    {
        Send(FrontendRequest.GET_QUEUE_NUM);
        while (ReceiveHeader() is { } header)
        {
            ReceiveBytes((int)header.PayloadBytes);
            if (header.Request == (uint)FrontendRequest.GET_QUEUE_NUM)
            {
                return true;
            }
        }

        return false;
    }

    public void ExpectClosed() => Assert.Null(ReceiveHeader());

    /// <summary>Whether anything has arrived, without waiting.</summary>
    public bool HasSomethingToRead() => Syscall.poll([new Pollfd { fd = Number, events = PollEvents.POLLIN }], 0) > 0;

    /// <summary>Whether anything arrives before the deadline.</summary>
    public bool WaitForSomethingToRead() => Syscall.poll([new Pollfd { fd = Number, events = PollEvents.POLLIN }], DeadlineMs) > 0;

    /// <summary>Negotiates everything, as a front-end does that uses it all.</summary>
    public void Negotiate(ulong features = RecordingBackend.Version1 | Bit30, ProtocolFeatures? protocol = null)
    {
        Send(FrontendRequest.SET_PROTOCOL_FEATURES, (ulong)(protocol ?? VhostUserSessionOptions.Supported));
        Send(FrontendRequest.SET_OWNER);
        Send(FrontendRequest.SET_FEATURES, features);
    }

    /// <summary>Sets one vring up until it runs, in QEMU's order.</summary>
    public void StartVring(uint index, VringAddress address, uint size = 16, uint start = 0)
    {
        Send(FrontendRequest.SET_VRING_NUM, new VringState(index, size));
        Send(FrontendRequest.SET_VRING_BASE, new VringState(index, start));
        Send(FrontendRequest.SET_VRING_ADDR, address);
        using var kick = TestFiles.OpenNull();
        Send(FrontendRequest.SET_VRING_KICK, (ulong)index, kick);
        Send(FrontendRequest.SET_VRING_ENABLE, new VringState(index, 1));
        Barrier();
    }

    /// <summary>Closes our end, and gives how the session ended.</summary>
    public SessionOutcome Leave()
    {
        _socket.Dispose();
        return End();
    }

    /// <summary>Waits for the session to end by itself.</summary>
    public SessionOutcome End()
    {
        Assert.True(_thread!.Join(DeadlineMs), "the session does not end");
        return _failure is null ? _outcome!.Value : throw new InvalidOperationException("the session failed", _failure);
    }

    public void Dispose()
    {
        _socket.Dispose();
        if (_thread is not null)
        {
            Assert.True(_thread.Join(DeadlineMs), "the session does not end");
        }
    }

    private int Number => (int)_socket.DangerousGetHandle();

    private unsafe byte[]? ReceiveBytes(int count)
    {
        var bytes = new byte[count];
        for (var received = 0; received < count;)
        {
            Assert.True(Syscall.poll([new Pollfd { fd = Number, events = PollEvents.POLLIN }], DeadlineMs) > 0, "nothing arrives");
            fixed (byte* start = bytes)
            {
                var result = Syscall.read(Number, start + received, (ulong)(count - received));
                if (result <= 0)
                {
                    return null;
                }

                received += (int)result;
            }
        }

        return bytes;
    }
}
