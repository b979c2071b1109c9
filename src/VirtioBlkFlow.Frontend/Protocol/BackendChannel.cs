using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.VhostUser.Connection;
using VirtioBlkFlow.VhostUser.Wire;

namespace VirtioBlkFlow.Frontend.Protocol;

/// <summary>
/// The channel the back-end sends its own requests on (vhost-user.rst, "Back-end communication"). Used by one thread at a time;
/// it may be another than the front-end's.
/// </summary>
public sealed class BackendChannel : IDisposable
{
    private readonly SafeFileHandle _socket;
    private readonly VhostUserConnection _connection;
    private readonly ReceivedMessage _received = new();
    private SafeFileHandle? _peer;

    /// <summary>Makes a pair of sockets, of which <see cref="VhostUserFrontend.SetBackendReqFd"/> sends one away.</summary>
    public BackendChannel()
    {
        (_socket, _peer) = UnixSocket.Pair();
        _connection = new VhostUserConnection(_socket);
    }

    /// <summary>Waits for a request and acknowledges it if the back-end asks for that.</summary>
    /// <param name="deadline">Until when.</param>
    /// <param name="acknowledgement">What to answer; 0 is success.</param>
    /// <returns>The request, or null when none came in time or the back-end closed the channel.</returns>
    public BackendRequest? WaitForRequest(Deadline deadline, ulong acknowledgement = 0)
    {
        if (!DescriptorWait.UntilReadable(UnixSocket.Number(_socket), deadline) || _connection.Receive(_received) != ReceiveOutcome.Message)
        {
            return null;
        }

        MessageHeader header = _received.Header;
        if (header.NeedsReply)
        {
            _ = _connection.SendReply(header.Request, MemoryMarshal.AsBytes(new ReadOnlySpan<ulong>(in acknowledgement)));
        }

        return (BackendRequest)header.Request;
    }

    /// <summary>Whether a request comes before the deadline; it stays unread and unanswered.</summary>
    public bool WaitUntilReadable(Deadline deadline) => DescriptorWait.UntilReadable(UnixSocket.Number(_socket), deadline);

    /// <summary>The end for the back-end; can be taken once, and is the caller's.</summary>
    internal SafeFileHandle TakePeer()
    {
        SafeFileHandle peer = _peer ?? throw new InvalidOperationException("The other end of this channel was sent away before.");
        _peer = null;
        return peer;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _received.Dispose();
        _connection.Dispose();
        _peer?.Dispose();
    }
}
