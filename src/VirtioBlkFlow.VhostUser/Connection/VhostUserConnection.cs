using System.Diagnostics;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Mono.Unix.Native;
using VirtioBlkFlow.VhostUser.Wire;
using WireFlags = VirtioBlkFlow.VhostUser.Wire.MessageFlags;

namespace VirtioBlkFlow.VhostUser.Connection;

/// <summary>
/// Whole messages with descriptors over a connected AF_UNIX stream socket (vhost-user.rst, "Communication"). Symmetric: a back-end receives
/// requests and sends replies, a front-end the other way round.
/// </summary>
/// <remarks>
/// One thread receives and one thread sends (the same or another); <see cref="Interrupt"/> may come from any. Nothing is read beyond
/// the current message, so the descriptors of the next one stay with it.
/// </remarks>
public sealed class VhostUserConnection : IDisposable
{
    private const Mono.Unix.Native.MessageFlags SendFlags = Mono.Unix.Native.MessageFlags.MSG_NOSIGNAL;

    // Fixed at construction.
    private readonly SafeFileHandle _socket;
    private readonly int _descriptor;

    // Owned by the receiving thread.
    private readonly byte[] _header = new byte[MessageHeader.SizeBytes];
    private readonly byte[] _control = new byte[Syscall.CMSG_SPACE(ProtocolLimits.MaxDescriptors * sizeof(int))];

    // Shared: set once by Interrupt, read by the receiving thread.
    private volatile bool _interrupted;

    /// <summary>Takes over a connected socket.</summary>
    /// <param name="socket">AF_UNIX stream socket, blocking or not; closed by <see cref="Dispose"/>.</param>
    public VhostUserConnection(SafeFileHandle socket)
    {
        ArgumentNullException.ThrowIfNull(socket);
        _socket = socket;
        _descriptor = (int)socket.DangerousGetHandle();
    }

    /// <summary>
    /// After <see cref="ReceiveOutcome.Closed"/>: the error the socket gave; null if the peer ended the connection in order. ECONNRESET is a peer
    /// that went without reading all that was sent to it.
    /// </summary>
    public Errno? ReceiveError { get; private set; }

    /// <summary>Waits for one whole message.</summary>
    /// <param name="message">Filled on <see cref="ReceiveOutcome.Message"/>; descriptors left in it before are closed.</param>
    public ReceiveOutcome Receive(ReceivedMessage message)
    {
        ArgumentNullException.ThrowIfNull(message);
        message.Clear();
        var outcome = ReceivePieces(message);
        if (outcome != ReceiveOutcome.Message)
        {
            var violation = message.Violation;
            message.Clear();
            message.Violation = violation;
        }

        return outcome;
    }

    /// <summary>Sends a request of a front-end.</summary>
    /// <param name="request">Its number.</param>
    /// <param name="payload">Its payload, at most <see cref="ProtocolLimits.MaxPayloadBytes"/>.</param>
    /// <param name="descriptors">Descriptors to go with the first byte; they stay the caller's.</param>
    /// <param name="needReply">Whether to ask for an acknowledgement; needs REPLY_ACK.</param>
    public SendOutcome SendRequest(
        FrontendRequest request, ReadOnlySpan<byte> payload, ReadOnlySpan<SafeFileHandle> descriptors = default, bool needReply = false) =>
        Send((uint)request, needReply ? WireFlags.Version1 | WireFlags.NeedReply : WireFlags.Version1, payload, descriptors);

    /// <summary>Sends the reply to a request, with the flags that front-ends insist on.</summary>
    /// <param name="request">Number of what is answered.</param>
    /// <param name="payload">Payload of the reply.</param>
    /// <param name="descriptors">Descriptors to go with the first byte; they stay the caller's.</param>
    public SendOutcome SendReply(uint request, ReadOnlySpan<byte> payload, ReadOnlySpan<SafeFileHandle> descriptors = default) =>
        Send(request, MessageHeader.ReplyFlags, payload, descriptors);

    /// <summary>Sends one whole message, and waits for room in the socket if need be.</summary>
    /// <param name="request">Number of the request.</param>
    /// <param name="flags">Flags of the header.</param>
    /// <param name="payload">The payload.</param>
    /// <param name="descriptors">Descriptors to go with the first byte; they stay the caller's.</param>
    public SendOutcome Send(
        uint request, WireFlags flags, ReadOnlySpan<byte> payload, ReadOnlySpan<SafeFileHandle> descriptors = default) =>
        Send(request, flags, payload, descriptors, SendFlags);

    /// <summary>Sends a message without payload and descriptors, or nothing of it if the socket has no room.</summary>
    /// <param name="request">Number of the request.</param>
    /// <param name="flags">Flags of the header.</param>
    public SendOutcome TrySendWithoutWaiting(uint request, WireFlags flags) =>
        Send(request, flags, [], [], SendFlags | Mono.Unix.Native.MessageFlags.MSG_DONTWAIT);

    /// <summary>Waits for a descriptor to become readable. By the thread that receives.</summary>
    /// <param name="descriptor">What to wait for; messages that arrive meanwhile stay unread.</param>
    /// <returns>False if the peer has closed the connection, or <see cref="Interrupt"/> was called, before that.</returns>
    internal bool WaitWhileOpen(int descriptor)
    {
        // An end that is closed, or both of whose directions are shut down, shows POLLHUP unasked.
        Pollfd[] waiting = [new() { fd = _descriptor }, new() { fd = descriptor, events = PollEvents.POLLIN }];
        while (Syscall.poll(waiting, -1) < 0)
        {
            // EINTR: the runtime signals its threads.
        }

        return waiting[1].revents != 0;
    }

    /// <summary>
    /// Makes <see cref="Receive"/> return <see cref="ReceiveOutcome.Closed"/> now and for ever, and the peer see the end. Callable from any
    /// thread, more than once, also while the connection is disposed of.
    /// </summary>
    public void Interrupt()
    {
        _interrupted = true;
        var held = false;
        try
        {
            // The reference keeps the number from being closed, and given to another file, before the call below.
            _socket.DangerousAddRef(ref held);
            _ = Syscall.shutdown(_descriptor, ShutdownOption.SHUT_RDWR);
        }
        catch (ObjectDisposedException)
        {
            // Disposed of already, so nobody waits in Receive.
        }
        finally
        {
            if (held)
            {
                _socket.DangerousRelease();
            }
        }
    }

    /// <summary>Closes the socket.</summary>
    public void Dispose() => _socket.Dispose();

    private ReceiveOutcome ReceivePieces(ReceivedMessage message)
    {
        var received = 0;
        while (received < MessageHeader.SizeBytes)
        {
            var outcome = ReceivePiece(_header.AsSpan(received), received == 0 ? message : null, message, out var count);
            if (outcome != ReceiveOutcome.Message)
            {
                return outcome;
            }

            received += count;
        }

        var header = MemoryMarshal.Read<MessageHeader>(_header);
        if (!header.HasKnownVersion)
        {
            return Violate(message, $"request {header.Request}: flags 0x{(uint)header.Flags:x} do not say version 1");
        }

        if (header.PayloadBytes > ProtocolLimits.MaxPayloadBytes)
        {
            return Violate(message, $"request {header.Request}: {header.PayloadBytes} bytes of payload, more than {ProtocolLimits.MaxPayloadBytes}");
        }

        received = 0;
        while (received < (int)header.PayloadBytes)
        {
            var rest = message.PayloadBuffer.Span[received..(int)header.PayloadBytes];
            var outcome = ReceivePiece(rest, null, message, out var count);
            if (outcome != ReceiveOutcome.Message)
            {
                return outcome;
            }

            received += count;
        }

        message.Header = header;
        return ReceiveOutcome.Message;
    }

    /// <summary>One recvmsg. Descriptors are legal only with the first byte of a message, for which <paramref name="descriptors"/> is given.</summary>
    private unsafe ReceiveOutcome ReceivePiece(Span<byte> destination, ReceivedMessage? descriptors, ReceivedMessage message, out int count)
    {
        count = 0;
        fixed (byte* start = destination)
        {
            var msghdr = new Msghdr
            {
                msg_iov = [new Iovec { iov_base = (nint)start, iov_len = (ulong)destination.Length }],
                msg_iovlen = 1,
                msg_control = descriptors is null ? null : _control,
                msg_controllen = descriptors is null ? 0 : _control.Length,
            };

            long result;
            do
            {
                if (_interrupted)
                {
                    return ReceiveOutcome.Closed;
                }

                result = Syscall.recvmsg(_descriptor, msghdr, Mono.Unix.Native.MessageFlags.MSG_CMSG_CLOEXEC);
            }
            while (result < 0 && IsWorthRepeating(PollEvents.POLLIN));

            if (result <= 0)
            {
                // Whatever the error: nothing further will come from this peer.
                ReceiveError = result < 0 ? Stdlib.GetLastError() : null;
                return ReceiveOutcome.Closed;
            }

            if (descriptors is not null)
            {
                CollectDescriptors(msghdr, descriptors);
            }

            // Without a control buffer the kernel closes descriptors by itself and says so by the same flag.
            if ((msghdr.msg_flags & Mono.Unix.Native.MessageFlags.MSG_CTRUNC) != 0)
            {
                return Violate(message, "descriptors came in the midst of a message, or more than 32 with one");
            }

            count = (int)result;
            return ReceiveOutcome.Message;
        }
    }

    private static void CollectDescriptors(Msghdr msghdr, ReceivedMessage message)
    {
        for (var offset = Syscall.CMSG_FIRSTHDR(msghdr); offset >= 0; offset = Syscall.CMSG_NXTHDR(msghdr, offset))
        {
            var header = Cmsghdr.ReadFromBuffer(msghdr, offset);
            if (header.cmsg_level != UnixSocketProtocol.SOL_SOCKET || header.cmsg_type != UnixSocketControlMessage.SCM_RIGHTS)
            {
                continue;
            }

            var data = (int)Syscall.CMSG_DATA(msghdr, offset);
            var dataBytes = (int)(header.cmsg_len - (data - offset));
            foreach (var number in MemoryMarshal.Cast<byte, int>(msghdr.msg_control.AsSpan(data, dataBytes)))
            {
                message.AddDescriptor(new SafeFileHandle(number, ownsHandle: true));
            }
        }
    }

    private unsafe SendOutcome Send(
        uint request, WireFlags flags, ReadOnlySpan<byte> payload, ReadOnlySpan<SafeFileHandle> descriptors, Mono.Unix.Native.MessageFlags sendFlags)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(payload.Length, ProtocolLimits.MaxPayloadBytes, nameof(payload));
        ArgumentOutOfRangeException.ThrowIfGreaterThan(descriptors.Length, ProtocolLimits.MaxDescriptors, nameof(descriptors));

        // One buffer and one call, because a message that arrives in one piece wakes the peer once.
        Span<byte> message = stackalloc byte[MessageHeader.SizeBytes + payload.Length];
        MemoryMarshal.Write(message, new MessageHeader(request, flags, (uint)payload.Length));
        payload.CopyTo(message[MessageHeader.SizeBytes..]);

        var sent = 0;
        fixed (byte* start = message)
        {
            while (sent < message.Length)
            {
                var msghdr = new Msghdr
                {
                    msg_iov = [new Iovec { iov_base = (nint)(start + sent), iov_len = (ulong)(message.Length - sent) }],
                    msg_iovlen = 1,
                };
                if (sent == 0 && descriptors.Length > 0)
                {
                    AttachDescriptors(msghdr, descriptors);
                }

                var result = Syscall.sendmsg(_descriptor, msghdr, sendFlags);
                if (result >= 0)
                {
                    sent += (int)result;
                    continue;
                }

                var mayWait = (sendFlags & Mono.Unix.Native.MessageFlags.MSG_DONTWAIT) == 0 || sent > 0;
                if (!mayWait && Stdlib.GetLastError() == Errno.EAGAIN)
                {
                    return SendOutcome.WouldBlock;
                }

                if (!IsWorthRepeating(PollEvents.POLLOUT))
                {
                    return SendOutcome.Closed;
                }
            }
        }

        return SendOutcome.Sent;
    }

    /// <summary>
    /// After a failed call: whether the same call can still succeed. Waits if the socket does not block by itself, as an inherited one
    /// may not; O_NONBLOCK is left as it is, because it is shared with whoever passed the socket on.
    /// </summary>
    private bool IsWorthRepeating(PollEvents readiness)
    {
        switch (Stdlib.GetLastError())
        {
            case Errno.EINTR:
                return true;
            case Errno.EAGAIN:
                _ = Syscall.poll([new Pollfd { fd = _descriptor, events = readiness }], -1);
                return true;
            default:
                return false;
        }
    }

    private static void AttachDescriptors(Msghdr msghdr, ReadOnlySpan<SafeFileHandle> descriptors)
    {
        var dataBytes = (ulong)(descriptors.Length * sizeof(int));
        msghdr.msg_control = new byte[Syscall.CMSG_SPACE(dataBytes)];
        msghdr.msg_controllen = msghdr.msg_control.Length;
        new Cmsghdr
        {
            cmsg_len = (long)Syscall.CMSG_LEN(dataBytes),
            cmsg_level = UnixSocketProtocol.SOL_SOCKET,
            cmsg_type = UnixSocketControlMessage.SCM_RIGHTS,
        }.WriteToBuffer(msghdr, 0);

        var numbers = MemoryMarshal.Cast<byte, int>(msghdr.msg_control.AsSpan((int)Syscall.CMSG_DATA(msghdr, 0), (int)dataBytes));
        for (var i = 0; i < descriptors.Length; i++)
        {
            numbers[i] = (int)descriptors[i].DangerousGetHandle();
        }
    }

    private static ReceiveOutcome Violate(ReceivedMessage message, string reason)
    {
        Debug.Assert(reason.Length > 0, "a violation says what it is");
        message.Violation = reason;
        return ReceiveOutcome.ProtocolViolation;
    }
}
