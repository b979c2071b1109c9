using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Virtio;

namespace VirtioBlkFlow.UnitTests.Disks.PowerCut;

/// <summary>
/// An engine over the files of a <see cref="PowerCutHost"/>. Operations end one at a time, when they are told to and in any order; now and
/// then short, interrupted, or with an error. Owned by the queue's thread.
/// </summary>
/// <param name="host">Whose files.</param>
/// <param name="agenda">Calls at a time to come.</param>
/// <param name="random">Decides what ends next, and how.</param>
/// <param name="sabotage">What is done wrong.</param>
internal sealed unsafe class VolatileEngine(PowerCutHost host, EngineAgenda agenda, Random random, Sabotage sabotage) : IIoEngine
{
    private const int SectorBytes = VolatileFile.SectorBytes;

    private readonly List<OpenFile> _files = [];
    private readonly List<Operation> _pending = [];

    // Some hosts' file systems cannot zero a range.
    private readonly bool _hasZeroRange = random.Next(2) == 0;

    private enum Kind
    {
        Read,
        Write,
        Sync,
        Zero,

        // Has ended already and only has to be told of.
        Answer,

        // Was told of already and still has to be done.
        Rest,
    }

    public EngineAgenda Agenda => agenda;

    /// <summary>The files it was given.</summary>
    public IEnumerable<VolatileFile> Files => _files.Select(static open => open.File);

    /// <summary>Operations that have not ended.</summary>
    public int PendingCount => _pending.Count;

    public bool HasCompletions => false;

    public ulong SystemCallCount => 0;

    public int RegisterFile(SafeFileHandle file)
    {
        OpenFile found = host.OpenFileOf(file);
        int index = _files.IndexOf(found);
        if (index < 0)
        {
            index = _files.Count;
            _files.Add(found);
        }

        return index;
    }

    public void Read(int file, Iovec* pieces, int count, ulong offsetBytes, uint token) =>
        _pending.Add(new Operation(Kind.Read, token, _files[file]) { Offset = (long)offsetBytes, Pieces = new ReadOnlySpan<Iovec>(pieces, count).ToArray() });

    public void Write(int file, Iovec* pieces, int count, ulong offsetBytes, bool durable, uint token)
    {
        long length = 0;
        foreach (Iovec piece in new ReadOnlySpan<Iovec>(pieces, count))
        {
            length += (long)piece.LengthBytes;
        }

        byte[] data = new byte[length];
        Iovec.Gather(pieces, count, data);
        lock (host.Gate)
        {
            _pending.Add(new Operation(Kind.Write, token, _files[file])
            {
                Offset = (long)offsetBytes,
                Data = data,
                Durable = durable && sabotage != Sabotage.NoDurableFlag,
                Write = _files[file].File.BeginWrite((long)offsetBytes, data),
            });
        }
    }

    public void Fdatasync(int file, uint token)
    {
        OpenFile synced = _files[file];
        if (sabotage == Sabotage.NoFlush || (sabotage == Sabotage.OneFileFlushed && !synced.File.IsFirst))
        {
            _pending.Add(new Operation(Kind.Answer, token, synced));
            return;
        }

        if (sabotage == Sabotage.FlushAnsweredEarly)
        {
            _pending.Add(new Operation(Kind.Answer, token, synced));
        }

        lock (host.Gate)
        {
            synced.File.Look();
            _pending.Add(new Operation(sabotage == Sabotage.FlushAnsweredEarly ? Kind.Rest : Kind.Sync, token, synced) { SyncBegun = synced.File.Storage.BeginSync() });
        }
    }

    public void Fallocate(int file, int mode, ulong offsetBytes, ulong lengthBytes, uint token)
    {
        const int FALLOC_FL_ZERO_RANGE = 0x10;
        if ((mode & FALLOC_FL_ZERO_RANGE) != 0 && !_hasZeroRange)
        {
            _pending.Add(new Operation(Kind.Answer, token, _files[file]) { Result = -ScriptedDisk.EOPNOTSUPP });
            return;
        }

        lock (host.Gate)
        {
            _pending.Add(new Operation(Kind.Zero, token, _files[file])
            {
                Offset = (long)offsetBytes,
                Length = (long)lengthBytes,
                Write = _files[file].File.BeginZeroes((long)offsetBytes, (long)lengthBytes),
            });
        }
    }

    public void Ioctl(int file, nuint request, void* argument, uint token) => throw new NotSupportedException("Files are asked for nothing by ioctl.");

    public void Watch(int watch, SafeFileHandle descriptor) => throw new NotSupportedException();

    public void Unwatch(int watch) => throw new NotSupportedException();

    public void Submit()
    {
    }

    public void Wait(long timeoutNanoseconds) => throw new NotSupportedException();

    public int Reap(Span<IoCompletion> destination) => throw new NotSupportedException();

    public void Wake()
    {
    }

    public void Dispose()
    {
    }

    /// <summary>Ends one of the operations.</summary>
    /// <param name="token">Its token.</param>
    /// <param name="result">How it ended.</param>
    /// <returns>False if nobody is to hear of it, or there is none.</returns>
    public bool TryEndOne(out uint token, out int result)
    {
        (token, result) = (0, 0);
        if (_pending.Count == 0)
        {
            return false;
        }

        int chosen = random.Next(_pending.Count);
        Operation operation = _pending[chosen];
        _pending.RemoveAt(chosen);
        token = operation.Token;
        lock (host.Gate)
        {
            result = End(operation);
            operation.Open.File.Look();
        }

        return operation.Kind != Kind.Rest;
    }

    private int End(Operation operation)
    {
        VolatileFile file = operation.Open.File;
        int fate = random.Next(100);
        switch (operation.Kind)
        {
            case Kind.Read:
                file.Read(operation.Offset, operation.Pieces);
                return operation.Pieces.Sum(static piece => (int)piece.LengthBytes);
            case Kind.Write:
                return EndWrite(operation, fate);
            case Kind.Zero when fate < 5:
                file.Storage.End(operation.Write!, 0, durable: false);
                return -ScriptedDisk.EINTR;
            case Kind.Zero:
                file.ShowZeroes(operation.Offset, operation.Length);
                file.Storage.End(operation.Write!, durable: false);
                return 0;
            case Kind.Sync or Kind.Rest when operation.Write != null:
                file.Storage.End(operation.Write, durable: true);
                return 0;
            case Kind.Sync or Kind.Rest when fate < 5:
                return -ScriptedDisk.EINTR;
            case Kind.Sync or Kind.Rest:
                if (fate < 7)
                {
                    file.Fail();
                }

                if (operation.Open.TakeError() && sabotage != Sabotage.FailedFlushRepeated)
                {
                    return -ScriptedDisk.EIO;
                }

                file.Storage.EndSync(operation.SyncBegun);
                return 0;
            default:
                return operation.Result;
        }
    }

    private int EndWrite(Operation operation, int fate)
    {
        VolatileFile file = operation.Open.File;
        int sectors = operation.Data.Length / SectorBytes;
        int done = fate switch
        {
            < 5 => 0,
            < 15 => random.Next(1, sectors + 1),
            _ => sectors,
        };
        file.Show(operation.Offset, operation.Data.AsSpan(0, done * SectorBytes));
        if (fate == 0)
        {
            file.Storage.End(operation.Write!, 0, durable: false);
            return -ScriptedDisk.ENOSPC;
        }

        if (done == 0)
        {
            file.Storage.End(operation.Write!, 0, durable: false);
            return -ScriptedDisk.EINTR;
        }

        if (operation.Durable && sabotage == Sabotage.DurableWriteAnsweredEarly && done == sectors)
        {
            // The data is there, and becomes durable when this ends.
            _pending.Add(new Operation(Kind.Rest, operation.Token, operation.Open) { Write = operation.Write });
            return operation.Data.Length;
        }

        if (operation.Durable && operation.Open.TakeError())
        {
            file.Storage.End(operation.Write!, done, durable: false);
            return -ScriptedDisk.EIO;
        }

        file.Storage.End(operation.Write!, done, operation.Durable);
        return done * SectorBytes;
    }

    private sealed record Operation(Kind Kind, uint Token, OpenFile Open)
    {
        public long Offset { get; init; }

        public long Length { get; init; }

        public byte[] Data { get; init; } = [];

        public Iovec[] Pieces { get; init; } = [];

        public bool Durable { get; init; }

        public VolatileStorage.PendingWrite? Write { get; init; }

        public long SyncBegun { get; init; }

        public int Result { get; init; }
    }
}
