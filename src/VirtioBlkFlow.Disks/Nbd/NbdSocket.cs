using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using static VirtioBlkFlow.Disks.LibC;

namespace VirtioBlkFlow.Disks.Nbd;

/// <summary>
/// A connection to a server as the control path uses it: blocking, with a deadline. Whoever has it uses it alone. It is handed to a queue's
/// engine when nothing is under way.
/// </summary>
internal sealed unsafe class NbdSocket : IDisposable
{
    private static readonly TimeSpan s_least = TimeSpan.FromMilliseconds(1);

    // Fixed at construction.
    private readonly SafeFileHandle _handle;

    // Owned by who has the socket.
    private long _deadline;

    private NbdSocket(SafeFileHandle handle) => _handle = handle;

    /// <summary>For the engine.</summary>
    public SafeFileHandle Handle => _handle;

    /// <summary>Connects.</summary>
    /// <param name="address">To whom.</param>
    /// <param name="patience">How long that, and what follows up to <see cref="Allow"/>, may take.</param>
    /// <exception cref="IOException">Nobody answers in time.</exception>
    public static NbdSocket Connect(NbdAddress address, TimeSpan patience)
    {
        long deadline = Stopwatch.GetTimestamp() + (long)(patience.TotalSeconds * Stopwatch.Frequency);
        IOException? failure = null;
        foreach (EndPoint endPoint in EndPointsOf(address))
        {
            try
            {
                return Connect(endPoint, deadline);
            }
            catch (IOException exception)
            {
                failure = exception;
            }
        }

        throw failure ?? new IOException($"'{address.Host}' has no address.");
    }

    /// <summary>Lets go of deadlines: from here on an engine has it, and calls that block there are to end with the connection only.</summary>
    public void AllowForEver() => SetTimeouts(TimeSpan.Zero);

    /// <summary>Gives what follows its own time.</summary>
    public void Allow(TimeSpan patience)
    {
        _deadline = Stopwatch.GetTimestamp() + (long)(patience.TotalSeconds * Stopwatch.Frequency);
        SetTimeouts(Longer(patience));
    }

    /// <summary>Sends all of it.</summary>
    /// <exception cref="IOException">It cannot be sent, or not in time.</exception>
    public void Send(ReadOnlySpan<byte> bytes)
    {
        while (bytes.Length > 0)
        {
            RequireTime();
            nint sent;
            fixed (byte* first = bytes)
            {
                sent = send((int)_handle.DangerousGetHandle(), first, (nuint)bytes.Length, (int)MSG_NOSIGNAL);
            }

            if (sent < 0)
            {
                RequireMayGoOn("The server cannot be written to");
                continue;
            }

            bytes = bytes[(int)sent..];
        }
    }

    /// <summary>Sends it if that is possible at once.</summary>
    public void TrySend(ReadOnlySpan<byte> bytes)
    {
        fixed (byte* first = bytes)
        {
            _ = send((int)_handle.DangerousGetHandle(), first, (nuint)bytes.Length, (int)(MSG_NOSIGNAL | MSG_DONTWAIT));
        }
    }

    /// <summary>Receives as much as there is room for.</summary>
    /// <exception cref="IOException">It does not come, or not in time.</exception>
    public void Receive(Span<byte> bytes)
    {
        while (bytes.Length > 0)
        {
            RequireTime();
            nint received;
            fixed (byte* first = bytes)
            {
                received = recv((int)_handle.DangerousGetHandle(), first, (nuint)bytes.Length, 0);
            }

            if (received == 0)
            {
                throw new IOException("The server has closed the connection.");
            }

            if (received < 0)
            {
                RequireMayGoOn("The server cannot be read from");
                continue;
            }

            bytes = bytes[(int)received..];
        }
    }

    /// <summary>Ends both directions at once, so that whatever waits for the socket ends too. From any thread.</summary>
    public void Shutdown()
    {
        if (!_handle.IsClosed)
        {
            _ = shutdown((int)_handle.DangerousGetHandle(), SHUT_RDWR);
        }
    }

    /// <summary>Whether one side has ended it, as far as this host has heard. From any thread; false once it is closed.</summary>
    public bool HasEnded()
    {
        bool referenced = false;
        try
        {
            _handle.DangerousAddRef(ref referenced);
            // struct pollfd of <poll.h>: int fd, short events, short revents. Errors and ends are reported unasked.
            int* descriptor = stackalloc int[2] { (int)_handle.DangerousGetHandle(), POLLRDHUP };
            return poll(descriptor, 1, timeoutMs: 0) > 0;
        }
        catch (ObjectDisposedException)
        {
            return false;
        }
        finally
        {
            if (referenced)
            {
                _handle.DangerousRelease();
            }
        }
    }

    public void Dispose() => _handle.Dispose();

    private static IEnumerable<EndPoint> EndPointsOf(NbdAddress address)
    {
        if (address.SocketPath is { } path)
        {
            return [new UnixDomainSocketEndPoint(path)];
        }

        try
        {
            return Dns.GetHostAddresses(address.Host).Select(found => new IPEndPoint(found, address.Port));
        }
        catch (Exception exception) when (exception is SocketException or ArgumentException)
        {
            // The latter for what can be no host: 0.0.0.0, or a name of too many characters.
            throw new IOException($"'{address.Host}' cannot be found: {exception.Message}.", exception);
        }
    }

    private static NbdSocket Connect(EndPoint endPoint, long deadline)
    {
        // AF_UNIX, AF_INET and AF_INET6 in the first two bytes, as the kernel numbers them.
        ReadOnlySpan<byte> address = endPoint.Serialize().Buffer.Span[..endPoint.Serialize().Size];
        int descriptor = socket(BitConverter.ToUInt16(address), SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (descriptor < 0)
        {
            throw new IOException($"socket(2) failed: {Marshal.GetLastPInvokeErrorMessage()}.");
        }

        var made = new NbdSocket(new SafeFileHandle(descriptor, ownsHandle: true)) { _deadline = deadline };
        try
        {
            made.SetTimeouts(Longer(Stopwatch.GetElapsedTime(Stopwatch.GetTimestamp(), deadline)));
            int result;
            fixed (byte* first = address)
            {
                // SO_SNDTIMEO ends this too (socket(7)).
                result = connect(descriptor, first, (uint)address.Length);
            }

            if (result != 0)
            {
                throw new IOException($"Nobody answers at {endPoint}: {Marshal.GetLastPInvokeErrorMessage()}.");
            }

            if (endPoint is IPEndPoint)
            {
                // Small requests go out at once, and a host that vanishes is noticed some time.
                made.Set(IPPROTO_TCP, TCP_NODELAY);
                made.Set(SOL_SOCKET, SO_KEEPALIVE);
            }

            return made;
        }
        catch
        {
            made.Dispose();
            throw;
        }
    }

    private void Set(int level, int option)
    {
        int on = 1;
        _ = setsockopt((int)_handle.DangerousGetHandle(), level, option, &on, sizeof(int));
    }

    // No time at all would be for ever.
    private static TimeSpan Longer(TimeSpan patience) => patience < s_least ? s_least : patience;

    private void SetTimeouts(TimeSpan patience)
    {
        // struct timeval of <sys/time.h>; all zeros are for ever.
        long* time = stackalloc long[2];
        long microseconds = (long)patience.TotalMicroseconds;
        time[0] = microseconds / 1_000_000;
        time[1] = microseconds % 1_000_000;
        _ = setsockopt((int)_handle.DangerousGetHandle(), SOL_SOCKET, SO_RCVTIMEO, time, 2 * sizeof(long));
        _ = setsockopt((int)_handle.DangerousGetHandle(), SOL_SOCKET, SO_SNDTIMEO, time, 2 * sizeof(long));
    }

    // A server that sends a byte now and then must not keep us for ever.
    private void RequireTime()
    {
        if (Stopwatch.GetTimestamp() >= _deadline)
        {
            throw new IOException("The server does not answer in time.");
        }
    }

    private static void RequireMayGoOn(string what)
    {
        int errno = Marshal.GetLastPInvokeError();
        string message = Marshal.GetLastPInvokeErrorMessage();
        if (errno == EAGAIN)
        {
            throw new IOException("The server does not answer in time.");
        }

        if (errno != EINTR)
        {
            throw new IOException($"{what}: {message}.");
        }
    }
}
