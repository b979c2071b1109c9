using VirtioBlkFlow.Disks.Engine;

namespace VirtioBlkFlow.Device.Reactor;

/// <summary>
/// A queue's part of an engine that several queues use: its tokens carry the queue's number. The first queue of a reactor, mostly the only
/// one, needs none of this.
/// </summary>
internal sealed unsafe class EngineShare : IIoEngine
{
    private readonly IIoEngine _engine;
    private readonly uint _firstToken;

    private EngineShare(IIoEngine engine, int queueNumber)
    {
        _engine = engine;
        _firstToken = (uint)queueNumber << QueueReactor.SlotBits;
    }

    /// <summary>What the queue of that number is to use.</summary>
    public static IIoEngine Of(IIoEngine engine, int queueNumber) => queueNumber == 0 ? engine : new EngineShare(engine, queueNumber);

    public bool HasCompletions => _engine.HasCompletions;

    public EngineAgenda Agenda => _engine.Agenda;

    public ulong SystemCallCount => _engine.SystemCallCount;

    public int RegisterFile(SafeFileHandle file) => _engine.RegisterFile(file);

    public bool TryRegisterMemory(ReadOnlySpan<Iovec> areas, out string obstacle) => _engine.TryRegisterMemory(areas, out obstacle);

    public void UnregisterMemory(ReadOnlySpan<Iovec> areas) => _engine.UnregisterMemory(areas);

    public void Read(int file, Iovec* pieces, int count, ulong offsetBytes, uint token) =>
        _engine.Read(file, pieces, count, offsetBytes, _firstToken | token);

    public void Write(int file, Iovec* pieces, int count, ulong offsetBytes, bool durable, uint token) =>
        _engine.Write(file, pieces, count, offsetBytes, durable, _firstToken | token);

    public void Fdatasync(int file, uint token) => _engine.Fdatasync(file, _firstToken | token);

    public void Fallocate(int file, int mode, ulong offsetBytes, ulong lengthBytes, uint token) =>
        _engine.Fallocate(file, mode, offsetBytes, lengthBytes, _firstToken | token);

    public void Ioctl(int file, nuint request, void* argument, uint token) => _engine.Ioctl(file, request, argument, _firstToken | token);

    public bool TryDiscard(int file, ulong offsetBytes, ulong lengthBytes, uint token) =>
        _engine.TryDiscard(file, offsetBytes, lengthBytes, _firstToken | token);

    public void Send(SafeFileHandle socket, SocketMessage* message, ISocketUser user, int token) => _engine.Send(socket, message, user, token);

    public void Receive(SafeFileHandle socket, SocketMessage* message, ISocketUser user, int token) => _engine.Receive(socket, message, user, token);

    public void Watch(int watch, SafeFileHandle descriptor) => throw OwnersBusiness();

    public void Unwatch(int watch) => throw OwnersBusiness();

    public void Submit() => _engine.Submit();

    public void Wait(long timeoutNanoseconds) => throw OwnersBusiness();

    public int Reap(Span<IoCompletion> destination) => throw OwnersBusiness();

    public void Wake() => _engine.Wake();

    /// <summary>The engine is the reactor's to end.</summary>
    public void Dispose()
    {
    }

    private static InvalidOperationException OwnersBusiness() => new("Only the reactor watches, waits and reaps: it does so for all its queues.");
}
