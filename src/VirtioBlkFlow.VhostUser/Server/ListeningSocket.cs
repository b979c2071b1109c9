using System.Text;
using Microsoft.Win32.SafeHandles;
using Mono.Unix.Native;

namespace VirtioBlkFlow.VhostUser.Server;

/// <summary>What <see cref="ListeningSocket.Accept"/> came back with.</summary>
public enum AcceptOutcome
{
    /// <summary>A front-end has connected.</summary>
    Accepted,

    /// <summary>The stop signal was set.</summary>
    Stopped,

    /// <summary>The process or the system has no descriptor or memory left for one more; worth trying again later.</summary>
    Exhausted,
}

/// <summary>
/// A socket that front-ends connect to: made at a path, or inherited. One thread accepts and, after that, disposes.
/// </summary>
/// <remarks>
/// A front-end that connects counts on being served; QEMU 7.2 hangs if the back-end is not ready yet. So make this last, when the
/// device stands.
/// </remarks>
public sealed class ListeningSocket : IDisposable
{
    /// <summary>Mode of the socket file unless told otherwise: rw for the owner. To connect takes the right to write.</summary>
    public const int DefaultMode = 0x180; // 0600

    /// <summary>Longest path in bytes: sun_path of &lt;sys/un.h&gt; has 108, with the zero at the end.</summary>
    public const int MaxPathBytes = 107;

    /// <summary>Front-ends that may wait while one is served, unless told otherwise. Arbitrary; one is served at a time.</summary>
    public const int DefaultBacklog = 4;

    private readonly SafeFileHandle _socket;
    private readonly string? _path;
    private readonly (ulong Device, ulong Inode) _identity;

    private ListeningSocket(SafeFileHandle socket, string? path, (ulong Device, ulong Inode) identity)
    {
        _socket = socket;
        _path = path;
        _identity = identity;
    }

    /// <summary>The listening descriptor, for who accepts by other means; it stays this object's.</summary>
    public int Descriptor => (int)_socket.DangerousGetHandle();

    /// <summary>Where it listens, for logs.</summary>
    public string Where => _path ?? $"descriptor {Descriptor}";

    /// <summary>
    /// Creates a socket at a path and listens. A file left behind by a process that is gone is replaced.
    /// </summary>
    /// <param name="path">At most 107 bytes in UTF-8.</param>
    /// <param name="mode">Permissions of the file, whatever the umask: nobody can connect before they are set.</param>
    /// <param name="backlog">How many may wait to be accepted; see listen(2).</param>
    /// <exception cref="SocketUnavailableException">
    /// The path is too long, taken by a process that lives or by a file of another kind, or the system refuses.
    /// </exception>
    public static ListeningSocket Listen(string path, int mode = DefaultMode, int backlog = DefaultBacklog)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        var pathBytes = Encoding.UTF8.GetByteCount(path);
        if (pathBytes > MaxPathBytes)
        {
            throw new SocketUnavailableException(
                SocketUnavailableReason.PathTooLong,
                $"The socket path has {pathBytes} bytes, a socket address holds {MaxPathBytes}: '{path}'. Choose a shorter one, or a relative one.");
        }

        RemoveStale(path);
        var socket = NewSocket();
        try
        {
            Check(Syscall.bind((int)socket.DangerousGetHandle(), new SockaddrUn(path)), path, "bind");

            // Until listen every connect is refused, so the mode is in force before the first one can succeed.
            Check(Syscall.chmod(path, (FilePermissions)mode), path, "chmod");
            Check(Syscall.lstat(path, out var status), path, "lstat");
            Check(Syscall.listen((int)socket.DangerousGetHandle(), backlog), path, "listen");
            return new ListeningSocket(socket, path, (status.st_dev, status.st_ino));
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    /// <summary>Takes over a socket that listens already; its file, if any, belongs to who made it.</summary>
    /// <param name="socket">A listening AF_UNIX stream socket; closed by <see cref="Dispose"/>.</param>
    public static ListeningSocket FromDescriptor(SafeFileHandle socket)
    {
        ArgumentNullException.ThrowIfNull(socket);
        return new ListeningSocket(socket, null, default);
    }

    /// <summary>Whether a socket listens (SO_ACCEPTCONN) rather than being connected.</summary>
    /// <param name="socket">A socket.</param>
    /// <exception cref="IOException">It is none.</exception>
    public static bool IsListening(SafeFileHandle socket)
    {
        ArgumentNullException.ThrowIfNull(socket);
        var descriptor = (int)socket.DangerousGetHandle();
        if (Syscall.getsockopt(descriptor, UnixSocketProtocol.SOL_SOCKET, UnixSocketOptionName.SO_ACCEPTCONN, out int value) != 0)
        {
            throw new IOException($"Descriptor {descriptor} is not a socket ({Stdlib.GetLastError()}). Hand over a listening or a connected AF_UNIX stream socket.");
        }

        return value != 0;
    }

    /// <summary>Waits for a front-end.</summary>
    /// <param name="stop">Ends the wait.</param>
    /// <param name="connection">The connected socket, if accepted; the caller's.</param>
    /// <exception cref="IOException">The socket does not listen any more.</exception>
    public AcceptOutcome Accept(StopSignal stop, out SafeFileHandle? connection)
    {
        ArgumentNullException.ThrowIfNull(stop);
        connection = null;
        Pollfd[] descriptors = Pollable(stop);
        while (true)
        {
            if (Syscall.poll(descriptors, -1) < 0)
            {
                continue; // EINTR
            }

            if (descriptors[0].revents != 0)
            {
                return AcceptOutcome.Stopped;
            }

            if (AcceptNow(out connection) is { } outcome)
            {
                return outcome;
            }
        }
    }

    /// <summary>Waits until somebody has connected, and leaves the accepting to others.</summary>
    /// <param name="stop">Ends the wait.</param>
    /// <returns>False if the stop signal was set.</returns>
    public bool AwaitCaller(StopSignal stop)
    {
        ArgumentNullException.ThrowIfNull(stop);
        Pollfd[] descriptors = Pollable(stop);
        while (Syscall.poll(descriptors, -1) < 0)
        {
            // EINTR
        }

        return descriptors[0].revents == 0;
    }

    /// <summary>Accepts who waits at this moment; null if that is nobody. Blocks then only if the socket does.</summary>
    /// <param name="connection">The connected socket, if accepted; the caller's.</param>
    /// <exception cref="IOException">The socket does not listen any more.</exception>
    internal AcceptOutcome? AcceptNow(out SafeFileHandle? connection)
    {
        connection = null;
        var accepted = Syscall.accept4(Descriptor, null, UnixSocketFlags.SOCK_CLOEXEC);
        if (accepted >= 0)
        {
            connection = new SafeFileHandle(accepted, ownsHandle: true);
            return AcceptOutcome.Accepted;
        }

        return Stdlib.GetLastError() switch
        {
            Errno.EINTR or Errno.EAGAIN or Errno.ECONNABORTED => null,
            Errno.EMFILE or Errno.ENFILE or Errno.ENOBUFS or Errno.ENOMEM => AcceptOutcome.Exhausted,
            var error => throw new IOException($"accept on {Where} fails with {error}"),
        };
    }

    /// <summary>Closes the socket, and removes its file if it is still ours.</summary>
    public void Dispose()
    {
        if (_socket.IsClosed)
        {
            return;
        }

        // A successor may have taken the path meanwhile. While our socket is open no new file can get the inode of ours.
        if (_path is not null && Syscall.lstat(_path, out var status) == 0 && (status.st_dev, status.st_ino) == _identity)
        {
            _ = Syscall.unlink(_path);
        }

        _socket.Dispose();
    }

    private Pollfd[] Pollable(StopSignal stop) =>
    [
        new() { fd = stop.Descriptor, events = PollEvents.POLLIN },
        new() { fd = Descriptor, events = PollEvents.POLLIN },
    ];

    /// <summary>
    /// Removes a socket file that nobody listens on. Two programs started on the same path in the same instant can still take it from
    /// one another; the loser is left with a socket nobody finds.
    /// </summary>
    private static void RemoveStale(string path)
    {
        if (Syscall.lstat(path, out var status) != 0)
        {
            return; // Nothing there; of anything else bind tells.
        }

        if ((status.st_mode & FilePermissions.S_IFMT) != FilePermissions.S_IFSOCK)
        {
            throw new SocketUnavailableException(
                SocketUnavailableReason.NotASocket, $"'{path}' exists and is no socket. Remove it, or choose another socket path.");
        }

        using var probe = NewSocket();
        var result = Syscall.connect((int)probe.DangerousGetHandle(), new SockaddrUn(path));
        switch (result == 0 ? 0 : Stdlib.GetLastError())
        {
            case Errno.ECONNREFUSED:
                _ = Syscall.unlink(path);
                break;
            case Errno.ENOENT:
                break;
            case Errno.EACCES or Errno.EPERM:
                throw new SocketUnavailableException(
                    SocketUnavailableReason.System, $"'{path}' exists and belongs to somebody else. Remove it, or choose another socket path.");
            default:
                // Connected, backlog full (EAGAIN), or a socket of another type (EPROTOTYPE): somebody is there.
                throw new SocketUnavailableException(
                    SocketUnavailableReason.InUse, $"Another process listens on '{path}'. End it, or choose another socket path.");
        }
    }

    private static SafeFileHandle NewSocket()
    {
        // Not blocking, for the probe's sake: connect waits if the backlog is full. Accept polls first, so it does not mind.
        var descriptor = Syscall.socket(
            UnixAddressFamily.AF_UNIX,
            UnixSocketType.SOCK_STREAM,
            UnixSocketFlags.SOCK_CLOEXEC | UnixSocketFlags.SOCK_NONBLOCK,
            0);
        return descriptor >= 0
            ? new SafeFileHandle(descriptor, ownsHandle: true)
            : throw new SocketUnavailableException(SocketUnavailableReason.System, $"socket fails with {Stdlib.GetLastError()}.");
    }

    private static void Check(int result, string path, string call)
    {
        if (result != 0)
        {
            var error = Stdlib.GetLastError();
            throw new SocketUnavailableException(
                SocketUnavailableReason.System,
                $"Cannot listen on '{path}': {call} fails with {error}. The directory must exist and be writable for this user.");
        }
    }
}
