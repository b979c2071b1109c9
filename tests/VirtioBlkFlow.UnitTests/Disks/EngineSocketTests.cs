using System.Net.Sockets;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.UnitTests.Abi;
using VirtioBlkFlow.UnitTests.Device;
using VirtioBlkFlow.Virtio;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Disks;

/// <summary>Transfers over sockets, on both engines.</summary>
public sealed unsafe class EngineSocketTests : IDisposable, ISocketUser
{
    private const int BufferBytes = 4 << 20;
    private readonly Socket _ours;
    private readonly Socket _peer;
    private readonly SafeFileHandle _handle;
    private readonly byte* _buffer = (byte*)NativeMemory.AllocZeroed(BufferBytes);
    private readonly SocketMessage* _messages = (SocketMessage*)NativeMemory.AllocZeroed(2, (nuint)sizeof(SocketMessage));
    private readonly Iovec* _pieces = (Iovec*)NativeMemory.AllocZeroed(8, (nuint)sizeof(Iovec));
    private readonly Queue<(int Token, int Result)> _ended = new();

    public EngineSocketTests()
    {
        using var listener = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        string path = Path.Combine(Path.GetTempPath(), $"virtioblkflow-test-{Guid.NewGuid():n}");
        listener.Bind(new UnixDomainSocketEndPoint(path));
        listener.Listen(1);
        _ours = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        _ours.Connect(new UnixDomainSocketEndPoint(path));
        _peer = listener.Accept();
        File.Delete(path);
        _handle = new SafeFileHandle(_ours.Handle, ownsHandle: false);
    }

    public static TheoryData<IoEngineKind> Engines => [.. Enum.GetValues<IoEngineKind>()];

    public void Dispose()
    {
        _ours.Dispose();
        _peer.Dispose();
        NativeMemory.Free(_buffer);
        NativeMemory.Free(_messages);
        NativeMemory.Free(_pieces);
    }

    void ISocketUser.OnSocketCompleted(int token, int result) => _ended.Enqueue((token, result));

    [Fact]
    public void A_message_is_laid_out_as_msghdr()
    {
        SocketMessage* m = _messages;
        Assert.Equal(
            new Dictionary<string, long>
            {
                ["sizeof(struct msghdr)"] = sizeof(SocketMessage),
                ["offsetof(struct msghdr, msg_namelen)"] = (byte*)&m->NameBytes - (byte*)m,
                ["offsetof(struct msghdr, msg_iov)"] = (byte*)&m->Pieces - (byte*)m,
                ["offsetof(struct msghdr, msg_iovlen)"] = (byte*)&m->PieceCount - (byte*)m,
                ["offsetof(struct msghdr, msg_control)"] = (byte*)&m->Control - (byte*)m,
                ["offsetof(struct msghdr, msg_controllen)"] = (byte*)&m->ControlBytes - (byte*)m,
                ["offsetof(struct msghdr, msg_flags)"] = (byte*)&m->Flags - (byte*)m,
            },
            CProgram.Evaluate(
                ["stddef.h", "sys/socket.h"],
                [
                    "sizeof(struct msghdr)", "offsetof(struct msghdr, msg_namelen)", "offsetof(struct msghdr, msg_iov)", "offsetof(struct msghdr, msg_iovlen)",
                    "offsetof(struct msghdr, msg_control)", "offsetof(struct msghdr, msg_controllen)", "offsetof(struct msghdr, msg_flags)",
                ]));
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void What_is_sent_arrives_and_what_comes_is_received_into_pieces_whenever_it_comes(IoEngineKind kind)
    {
        using IIoEngine engine = IoEngines.Create(kind, 16);
        for (int round = 0; round < 20; round++)
        {
            bool comesFirst = round % 2 == 0;
            if (comesFirst)
            {
                _peer.Send([1, 2, 3, 4, 5]);
            }

            StartReceive(engine, 7, (0, 2), (100, 10));
            engine.Wait(0);
            if (!comesFirst)
            {
                // The owner sleeps meanwhile.
                Task.Run(() => _peer.Send([1, 2, 3, 4, 5]));
            }

            Assert.Equal((7, 5), NextEnd(engine));
            Assert.Equal([1, 2], new ReadOnlySpan<byte>(_buffer, 2).ToArray());
            Assert.Equal([3, 4, 5, 0], new ReadOnlySpan<byte>(_buffer + 100, 4).ToArray());
            StartSend(engine, 8, (100, 3), (0, 1));
            Assert.Equal((8, 4), NextEnd(engine));
            byte[] received = new byte[4];
            Assert.Equal(4, _peer.Receive(received));
            Assert.Equal([3, 4, 5, 1], received);
        }
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void A_peer_that_reads_nothing_keeps_a_send_waiting_and_nothing_else(IoEngineKind kind)
    {
        using IIoEngine engine = IoEngines.Create(kind, 16);
        StartSend(engine, 1, (0, BufferBytes));
        (int Token, int Result) first = NextEnd(engine);
        // More than the socket takes: what is left is the caller's to send, and waits.
        Assert.InRange(first.Result, 1, BufferBytes - 1);
        StartSend(engine, 2, (0, BufferBytes));
        _peer.Send([9]);
        StartReceive(engine, 3, (0, 1));
        Assert.Equal((3, 1), NextEnd(engine));
        var signalled = new Thread(engine.Wake);
        signalled.Start();
        engine.Wait(30_000_000_000);
        signalled.Join();
        Drain(engine);
        Assert.Empty(_ended);
        byte[] sink = new byte[BufferBytes];
        for (int left = first.Result; left > 0;)
        {
            left -= _peer.Receive(sink, Math.Min(left, sink.Length), SocketFlags.None);
        }

        Assert.Equal(2, NextEnd(engine).Token);
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void The_end_of_a_connection_ends_transfers(IoEngineKind kind)
    {
        using IIoEngine engine = IoEngines.Create(kind, 16);
        StartReceive(engine, 1, (0, 10));
        engine.Wait(0);
        // By our own hand, as when a server is given up.
        _ours.Shutdown(SocketShutdown.Both);
        Assert.Equal((1, 0), NextEnd(engine));
        StartSend(engine, 2, (0, 10));
        // Neither a signal to the process.
        const int EPIPE = 32;
        Assert.Equal((2, -EPIPE), NextEnd(engine));
        _peer.Dispose();
        StartReceive(engine, 3, (0, 10));
        Assert.Equal((3, 0), NextEnd(engine));
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void An_engine_that_ends_leaves_no_transfer_behind(IoEngineKind kind)
    {
        IIoEngine engine = IoEngines.Create(kind, 16);
        StartReceive(engine, 1, (0, 10));
        engine.Wait(0);
        engine.Dispose();
        _peer.Send([1, 2, 3]);
        byte[] received = new byte[3];
        Assert.Equal(3, _ours.Receive(received));
        Assert.Equal(0, *_buffer);
        Assert.Empty(_ended);
    }

    private void StartSend(IIoEngine engine, int token, params ReadOnlySpan<(int Offset, int LengthBytes)> pieces)
    {
        Fill(_messages, _pieces, pieces);
        engine.Send(_handle, _messages, this, token);
    }

    private void StartReceive(IIoEngine engine, int token, params ReadOnlySpan<(int Offset, int LengthBytes)> pieces)
    {
        Fill(_messages + 1, _pieces + 4, pieces);
        engine.Receive(_handle, _messages + 1, this, token);
    }

    private void Fill(SocketMessage* message, Iovec* list, ReadOnlySpan<(int Offset, int LengthBytes)> pieces)
    {
        for (int i = 0; i < pieces.Length; i++)
        {
            list[i] = new Iovec(_buffer + pieces[i].Offset, (nuint)pieces[i].LengthBytes);
        }

        message->Pieces = list;
        message->PieceCount = (nuint)pieces.Length;
    }

    private (int Token, int Result) NextEnd(IIoEngine engine)
    {
        Deadline deadline = Deadline.In(Eventually.PatienceMs);
        while (_ended.Count == 0)
        {
            Assert.False(deadline.HasPassed, "Nothing ends.");
            engine.Wait(1_000_000_000);
            Drain(engine);
        }

        return _ended.Dequeue();
    }

    private static void Drain(IIoEngine engine)
    {
        Span<IoCompletion> completions = stackalloc IoCompletion[8];
        while (engine.Reap(completions) == completions.Length)
        {
        }
    }
}
