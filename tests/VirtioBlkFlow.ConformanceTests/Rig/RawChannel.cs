using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.VhostUser.Connection;
using VirtioBlkFlow.VhostUser.Wire;

namespace VirtioBlkFlow.ConformanceTests.Rig;

/// <summary>The channel for the back-end's requests with every byte of them in sight.</summary>
internal sealed class RawChannel : IDisposable
{
    private readonly SafeFileHandle _socket;
    private readonly VhostUserConnection _connection;
    private readonly ReceivedMessage _received = new();

    /// <summary>Makes one and hands it over.</summary>
    public RawChannel(VhostUserFrontend frontend)
    {
        (_socket, SafeFileHandle theirs) = VhostUserFrontend.CreateSocketPair();
        _connection = new VhostUserConnection(_socket);
        using (theirs)
        {
            Assert.Equal(0ul, frontend.Ask(FrontendRequest.SET_BACKEND_REQ_FD, [], theirs));
        }
    }

    /// <summary>Whether a message waits, now.</summary>
    public bool HasMessage => Poll(0);

    /// <summary>Waits for a message; it brings no descriptors.</summary>
    public MessageHeader Receive()
    {
        Assert.True(Poll(Await.DeadlineMs), "No message came.");
        Assert.Equal(ReceiveOutcome.Message, _connection.Receive(_received));
        Assert.Equal(0, _received.DescriptorCount);
        return _received.Header;
    }

    public void Dispose()
    {
        _received.Dispose();
        _connection.Dispose();
    }

    private bool Poll(int timeoutMs) => Mono.Unix.Native.Syscall.poll(
        [new Mono.Unix.Native.Pollfd { fd = (int)_socket.DangerousGetHandle(), events = Mono.Unix.Native.PollEvents.POLLIN }], timeoutMs) > 0;
}
