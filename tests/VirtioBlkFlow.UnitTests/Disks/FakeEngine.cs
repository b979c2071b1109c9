using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Virtio;

namespace VirtioBlkFlow.UnitTests.Disks;

/// <summary>What an operation was asked to do.</summary>
internal enum FakeCall
{
    Read,
    Write,
    Fdatasync,
    Fallocate,
    Ioctl,
    Discard,
}

/// <summary>An operation a disk gave to the engine.</summary>
internal sealed record FakeOperation(FakeCall Call, ulong OffsetBytes, ulong LengthBytes, int Pieces, bool Durable, int Mode, uint Token)
{
    /// <summary>Addresses of the pieces, for the engine that plays a file.</summary>
    public Iovec[] Memory { get; init; } = [];
}

/// <summary>
/// An engine that does nothing by itself: it notes what it is given, and the test says how each operation ends. By default the file it
/// plays is a buffer of bytes.
/// </summary>
internal sealed unsafe class FakeEngine : IIoEngine
{
    private readonly Queue<FakeOperation> _waiting = new();

    public List<FakeOperation> Operations { get; } = [];

    public FakeEngine() => Agenda = new EngineAgenda(Clock, () => Wakes++);

    /// <summary>The time as the agenda has it; stands still unless it is moved.</summary>
    public ManualClock Clock { get; } = new();

    public EngineAgenda Agenda { get; }

    /// <summary>How often somebody wanted the owner awake.</summary>
    public int Wakes { get; private set; }

    public bool HasCompletions => false;

    public ulong SystemCallCount => 0;

    public int RegisterFile(SafeFileHandle file) => 0;

    public void Read(int file, Iovec* pieces, int count, ulong offsetBytes, uint token) =>
        Note(FakeCall.Read, pieces, count, offsetBytes, durable: false, token);

    public void Write(int file, Iovec* pieces, int count, ulong offsetBytes, bool durable, uint token) =>
        Note(FakeCall.Write, pieces, count, offsetBytes, durable, token);

    public void Fdatasync(int file, uint token) => Note(new FakeOperation(FakeCall.Fdatasync, 0, 0, 0, false, 0, token));

    public void Fallocate(int file, int mode, ulong offsetBytes, ulong lengthBytes, uint token) =>
        Note(new FakeOperation(FakeCall.Fallocate, offsetBytes, lengthBytes, 0, false, mode, token));

    /// <summary>Takes every argument for a range: two numbers of 64 bits.</summary>
    public void Ioctl(int file, nuint request, void* argument, uint token) =>
        Note(new FakeOperation(FakeCall.Ioctl, ((ulong*)argument)[0], ((ulong*)argument)[1], 0, false, (int)request, token));

    /// <summary>Whether it knows a command to discard.</summary>
    public bool HasDiscardCommand { get; set; }

    public bool TryDiscard(int file, ulong offsetBytes, ulong lengthBytes, uint token)
    {
        if (HasDiscardCommand)
        {
            Note(new FakeOperation(FakeCall.Discard, offsetBytes, lengthBytes, 0, false, 0, token));
        }

        return HasDiscardCommand;
    }

    /// <summary>The oldest operation that has not ended.</summary>
    public FakeOperation Next() => _waiting.Dequeue();

    public bool HasWaiting => _waiting.Count > 0;

    public void Watch(int watch, SafeFileHandle descriptor) => throw new NotSupportedException();

    public void Unwatch(int watch) => throw new NotSupportedException();

    public void Submit()
    {
    }

    public void Wait(long timeoutNanoseconds) => throw new NotSupportedException();

    public int Reap(Span<IoCompletion> destination)
    {
        Agenda.Run();
        return 0;
    }

    /// <summary>Lets time pass and does what is due by then.</summary>
    public void Pass(TimeSpan time)
    {
        Clock.NowNs += (long)time.TotalNanoseconds;
        Agenda.Run();
    }

    public void Wake()
    {
    }

    public void Dispose()
    {
    }

    private void Note(FakeCall call, Iovec* pieces, int count, ulong offsetBytes, bool durable, uint token)
    {
        var memory = new ReadOnlySpan<Iovec>(pieces, count).ToArray();
        ulong length = 0;
        foreach (Iovec piece in memory)
        {
            length += piece.LengthBytes;
        }

        Note(new FakeOperation(call, offsetBytes, length, count, durable, 0, token) { Memory = memory });
    }

    private void Note(FakeOperation operation)
    {
        Operations.Add(operation);
        _waiting.Enqueue(operation);
    }
}
