using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.VhostUser.Connection;
using VirtioBlkFlow.VhostUser.Wire;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Frontend;

/// <summary>A device's state through a pipe, in both directions, larger than the pipe.</summary>
public sealed class DeviceStateTests : IDisposable
{
    private const int TimeoutMs = 10_000;

    private readonly VhostUserFrontend _frontend;
    private readonly VhostUserConnection _peer;
    private readonly byte[] _state = new byte[1 << 20];

    public DeviceStateTests()
    {
        (SafeFileHandle frontend, SafeFileHandle backend) = VhostUserFrontend.CreateSocketPair();
        _frontend = new VhostUserFrontend(frontend, TimeoutMs);
        _peer = new VhostUserConnection(backend);
        new Random(1).NextBytes(_state);
    }

    public void Dispose()
    {
        _frontend.Dispose();
        _peer.Dispose();
    }

    [Fact]
    public async Task A_saved_state_is_read_to_its_end()
    {
        Task<uint> peer = ServeAsync(stream => stream.Write(_state), FileAccess.Write, check: 0);
        Assert.Equal(_state, DeviceState.SaveFrom(_frontend));
        Assert.Equal(0u, await peer);
    }

    [Fact]
    public async Task A_state_to_load_is_written_to_its_end()
    {
        using var loaded = new MemoryStream();
        Task<uint> peer = ServeAsync(stream => stream.CopyTo(loaded), FileAccess.Read, check: 0);
        DeviceState.LoadInto(_frontend, _state);
        Assert.Equal(1u, await peer);
        Assert.Equal(_state, loaded.ToArray());
    }

    [Fact]
    public async Task A_state_the_back_end_does_not_like_is_refused()
    {
        Task<uint> peer = ServeAsync(stream => stream.CopyTo(Stream.Null), FileAccess.Read, check: 1);
        Assert.Throws<BackendRefusedException>(() => DeviceState.LoadInto(_frontend, _state));
        await peer;
    }

    // Answers with bit 8: no descriptor of its own. Returns the direction.
    private Task<uint> ServeAsync(Action<FileStream> transfer, FileAccess access, ulong check) => Task.Run(() =>
    {
        using var message = new ReceivedMessage();
        Assert.Equal(ReceiveOutcome.Message, _peer.Receive(message));
        Assert.True(message.TryReadPayload(out DeviceStateTransfer asked));
        using (var stream = new FileStream(message.TakeDescriptor(0), access))
        {
            Reply(FrontendRequest.SET_DEVICE_STATE_FD, 0x100);
            transfer(stream);
        }

        Assert.Equal(ReceiveOutcome.Message, _peer.Receive(message));
        Reply(FrontendRequest.CHECK_DEVICE_STATE, check);
        return asked.Direction;
    });

    private void Reply(FrontendRequest request, ulong value) =>
        _peer.SendReply((uint)request, MemoryMarshal.AsBytes(new ReadOnlySpan<ulong>(in value)));
}
