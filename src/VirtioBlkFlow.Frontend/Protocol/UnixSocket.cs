using Microsoft.Win32.SafeHandles;
using Mono.Unix.Native;

namespace VirtioBlkFlow.Frontend.Protocol;

/// <summary>AF_UNIX stream sockets as plain descriptors, which .NET's own sockets do not give away.</summary>
internal static unsafe class UnixSocket
{
    /// <summary>Connects to a listening socket.</summary>
    /// <exception cref="IOException">Nobody listens there.</exception>
    public static SafeFileHandle Connect(string path)
    {
        var socket = new SafeFileHandle(
            Syscall.socket(UnixAddressFamily.AF_UNIX, UnixSocketType.SOCK_STREAM, UnixSocketFlags.SOCK_CLOEXEC, 0), ownsHandle: true);
        if (socket.IsInvalid || Syscall.connect(Number(socket), new SockaddrUn(path)) != 0)
        {
            Errno errno = Stdlib.GetLastError();
            socket.Dispose();
            throw new IOException($"Cannot connect to the back-end's socket '{path}': {errno}.");
        }

        return socket;
    }

    /// <summary>Two sockets connected to each other.</summary>
    public static (SafeFileHandle First, SafeFileHandle Second) Pair()
    {
        if (Syscall.socketpair(UnixAddressFamily.AF_UNIX, UnixSocketType.SOCK_STREAM, UnixSocketFlags.SOCK_CLOEXEC, 0, out int first, out int second) != 0)
        {
            throw new IOException($"socketpair: {Stdlib.GetLastError()}.");
        }

        return (new SafeFileHandle(first, ownsHandle: true), new SafeFileHandle(second, ownsHandle: true));
    }

    /// <summary>Sends bytes as they are, with descriptors on the first one: for messages no front-end would send.</summary>
    /// <exception cref="BackendClosedException">The peer does not listen any more.</exception>
    public static void SendBytes(SafeFileHandle socket, ReadOnlySpan<byte> bytes, ReadOnlySpan<SafeFileHandle> descriptors)
    {
        fixed (byte* start = bytes)
        {
            int sent = 0;
            while (sent < bytes.Length)
            {
                var message = new Msghdr
                {
                    msg_iov = [new Iovec { iov_base = (nint)(start + sent), iov_len = (ulong)(bytes.Length - sent) }],
                    msg_iovlen = 1,
                };
                if (sent == 0 && !descriptors.IsEmpty)
                {
                    Attach(message, descriptors);
                }

                long result = Syscall.sendmsg(Number(socket), message, MessageFlags.MSG_NOSIGNAL);
                if (result >= 0)
                {
                    sent += (int)result;
                }
                else if (Stdlib.GetLastError() is var errno and not Errno.EINTR)
                {
                    throw new BackendClosedException($"The back-end takes no bytes: {errno}.");
                }
            }
        }
    }

    public static int Number(SafeFileHandle socket) => (int)socket.DangerousGetHandle();

    private static void Attach(Msghdr message, ReadOnlySpan<SafeFileHandle> descriptors)
    {
        ulong dataBytes = (ulong)descriptors.Length * sizeof(int);
        message.msg_control = new byte[Syscall.CMSG_SPACE(dataBytes)];
        message.msg_controllen = message.msg_control.Length;
        new Cmsghdr
        {
            cmsg_len = (long)Syscall.CMSG_LEN(dataBytes),
            cmsg_level = UnixSocketProtocol.SOL_SOCKET,
            cmsg_type = UnixSocketControlMessage.SCM_RIGHTS,
        }.WriteToBuffer(message, 0);
        Span<int> numbers = MemoryMarshal.Cast<byte, int>(message.msg_control.AsSpan((int)Syscall.CMSG_DATA(message, 0), (int)dataBytes));
        for (int i = 0; i < descriptors.Length; i++)
        {
            numbers[i] = Number(descriptors[i]);
        }
    }
}
