using System.Runtime.InteropServices;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Virtio;

namespace VirtioBlkFlow.UnitTests.Disks.PowerCut;

/// <summary>
/// One life of a disk after the other: random requests and random ends of operations until the power is cut; then the disk is opened again,
/// and each sector must hold what the requests allow. The same model that says what a storage may leave says what a disk may: it is told of
/// operations there, of requests here. All of it follows from the seed.
/// </summary>
internal sealed unsafe class PowerCutRun : IDiskCompletions, IDisposable
{
    private const int SectorBytes = VolatileFile.SectorBytes;
    private const int Slots = 12;
    private const int MostBytes = 16 << 10;

    private readonly Func<IDisk> _open;
    private readonly Random _random;
    private readonly Sabotage _sabotage;
    private readonly int? _areaBytes;
    private readonly PowerCutHost _host = new();
    private readonly ManualClock _clock = new();
    private readonly byte* _memory = (byte*)NativeMemory.AlignedAlloc(Slots * MostBytes, 4096);
    private readonly Iovec* _pieces = (Iovec*)NativeMemory.Alloc(Slots * 2, (nuint)sizeof(Iovec));
    private readonly DiskRange* _ranges = (DiskRange*)NativeMemory.Alloc(Slots * 2, (nuint)sizeof(DiskRange));
    private readonly Request?[] _requests = new Request[Slots];
    private VolatileStorage _allowed = new(SectorBytes);
    private ulong _lastTag;

    /// <param name="open">Opens the disk on its files; they are zeros at first.</param>
    /// <param name="seed">Decides everything.</param>
    /// <param name="sabotage">What is done wrong.</param>
    /// <param name="areaBytes">How much of the disk, from its start, can be written anywhere; null for all.</param>
    public PowerCutRun(Func<IDisk> open, int seed, Sabotage sabotage = Sabotage.None, int? areaBytes = null)
    {
        _open = open;
        _areaBytes = areaBytes;
        _random = new Random(seed);
        _sabotage = sabotage;
    }

    /// <summary>Requests that were acknowledged as durable, or made others so.</summary>
    public int Promises { get; private set; }

    /// <summary>Sectors of which cuts left something else than they read as, but for the cut.</summary>
    public int VolatileSectors { get; private set; }

    /// <summary>Lives a number of lives.</summary>
    /// <returns>What a disk has lost of what it had promised; null for nothing.</returns>
    public string? Live(int lives)
    {
        for (int life = 1; life <= lives; life++)
        {
            Load();
            using (IDisk disk = _open())
            {
                Use(disk);
            }

            VolatileSectors += _host.VolatileCount;
            _host.Cut(_random);
            if (FindLoss() is { } loss)
            {
                return $"After cut {life}: {loss}";
            }
        }

        return null;
    }

    void IDiskCompletions.OnCompleted(int slot, DiskOutcome outcome)
    {
        Request request = _requests[slot]!;
        _requests[slot] = null;
        bool done = outcome == DiskOutcome.Done;
        if (request.Operation == DiskOperation.Flush)
        {
            if (done)
            {
                Promises++;
                _allowed.EndSync(request.Begun);
            }

            return;
        }

        Promises += done && request.Durable ? 1 : 0;
        foreach (VolatileStorage.PendingWrite write in request.Writes)
        {
            // Of one that failed nobody knows how far it got.
            _allowed.End(write, done ? write.Versions.Length : 0, request.Durable);
        }
    }

    public void Dispose()
    {
        NativeMemory.AlignedFree(_memory);
        NativeMemory.Free(_pieces);
        NativeMemory.Free(_ranges);
    }

    // What the disk holds now is what it begins with: durable, however it came there.
    private void Load()
    {
        _allowed = new VolatileStorage(SectorBytes);
        long sector = 0;
        foreach (byte[] found in ReadAll())
        {
            _allowed.Load(sector++, found);
        }
    }

    private void Use(IDisk disk)
    {
        var agenda = new EngineAgenda(_clock, static () => { });
        var engine = new VolatileEngine(_host, agenda, _random, _sabotage);
        using IDiskQueue queue = disk.OpenQueue(engine, this, Slots);
        for (int steps = _random.Next(20, 200); steps > 0; steps--)
        {
            int slot = Array.IndexOf(_requests, null);
            if (slot >= 0 && _random.Next(3) == 0)
            {
                Submit(disk, queue, slot);
            }
            else
            {
                _clock.NowNs += 1_000_000;
                agenda.Run();
                if (engine.TryEndOne(out uint token, out int result))
                {
                    queue.OnIoCompleted((int)token, result);
                }
            }
        }

        // What is in flight now never ends.
        Array.Clear(_requests);
    }

    private void Submit(IDisk disk, IDiskQueue queue, int slot)
    {
        DiskProperties properties = disk.Properties;
        var request = new Request(Draw(properties), _random.Next(4) == 0);
        _requests[slot] = request;
        if (request.Operation == DiskOperation.Flush)
        {
            request.Begun = _allowed.BeginSync();
            queue.Submit(slot, new DiskRequest { Operation = DiskOperation.Flush });
            return;
        }

        int block = (int)properties.LogicalBlockBytes;
        if (request.Operation != DiskOperation.Write)
        {
            SubmitRanges(properties, queue, slot, request);
            return;
        }

        int length = block * _random.Next(1, Math.Min(16, MostBytes / block) + 1);
        long offset = block * _random.NextInt64(0, ((AreaOf(properties) - length) / block) + 1);
        var memory = new Span<byte>(_memory + (slot * MostBytes), length);
        Fill(memory);
        request.Writes.Add(_allowed.BeginWrite(offset, memory.ToArray()));
        // In two pieces that are no multiples of anything, where there is room for that.
        int first = Math.Min(length, _random.Next(1, length + 1));
        Iovec* pieces = _pieces + (2 * slot);
        pieces[0] = new Iovec(_memory + (slot * MostBytes), (nuint)first);
        pieces[1] = new Iovec(_memory + (slot * MostBytes) + first, (nuint)(length - first));
        queue.Submit(slot, new DiskRequest
        {
            Operation = DiskOperation.Write,
            Durable = request.Durable,
            OffsetBytes = (ulong)offset,
            LengthBytes = (uint)length,
            Pieces = pieces,
            PieceCount = first == length ? 1 : 2,
        });
    }

    private void SubmitRanges(DiskProperties properties, IDiskQueue queue, int slot, Request request)
    {
        int block = (int)properties.LogicalBlockBytes;
        int count = _random.Next(1, 3);
        for (int i = 0; i < count; i++)
        {
            int length = block * _random.Next(1, 9);
            long offset = block * _random.NextInt64(0, ((AreaOf(properties) - length) / block) + 1);
            request.Writes.Add(_allowed.BeginZeroes(offset, length));
            _ranges[(2 * slot) + i] = new DiskRange((ulong)offset, (ulong)length, _random.Next(2) == 0);
        }

        queue.Submit(slot, new DiskRequest { Operation = request.Operation, Durable = request.Durable, Ranges = _ranges + (2 * slot), RangeCount = count });
    }

    private long AreaOf(DiskProperties properties) => _areaBytes ?? (long)properties.CapacityBytes;

    private DiskOperation Draw(DiskProperties properties) => _random.Next(8) switch
    {
        0 => DiskOperation.Flush,
        1 when properties.CanDiscard => DiskOperation.Discard,
        2 when properties.CanWriteZeroes => DiskOperation.WriteZeroes,
        _ => DiskOperation.Write,
    };

    // Each sector of each write is like no other.
    private void Fill(Span<byte> memory)
    {
        for (int at = 0; at < memory.Length; at += SectorBytes)
        {
            MemoryMarshal.Cast<byte, ulong>(memory.Slice(at, SectorBytes)).Fill(++_lastTag);
        }
    }

    private string? FindLoss()
    {
        long sector = 0;
        foreach (byte[] found in ReadAll())
        {
            if (!_allowed.IsPossible(sector, found))
            {
                string wanted = string.Join(", ", _allowed.Possible(sector).Select(static content => Name(content.Span)));
                return $"sector {sector} holds {Name(found)}; it may hold {wanted}.";
            }

            sector++;
        }

        return null;
    }

    private static string Name(ReadOnlySpan<byte> content) => content.IsEmpty ? "0" : $"{MemoryMarshal.Read<ulong>(content)}";

    // Through the disk as it is after a start, so that all sectors are where they should be.
    private List<byte[]> ReadAll()
    {
        using IDisk disk = _open();
        var reader = new Reader();
        var engine = new VolatileEngine(new PowerCutHost(), new EngineAgenda(_clock, static () => { }), new Random(1), Sabotage.None);
        using IDiskQueue queue = disk.OpenQueue(engine, reader, 1);
        List<byte[]> sectors = [];
        for (ulong at = 0; at < disk.Properties.CapacityBytes; at += MostBytes)
        {
            *_pieces = new Iovec(_memory, MostBytes);
            queue.Submit(0, new DiskRequest { Operation = DiskOperation.Read, OffsetBytes = at, LengthBytes = MostBytes, Pieces = _pieces, PieceCount = 1 });
            while (!reader.HasEnded)
            {
                // A delay or a limit on the way.
                _clock.NowNs += 1_000_000_000;
                engine.Agenda.Run();
                if (engine.TryEndOne(out uint token, out int result))
                {
                    queue.OnIoCompleted((int)token, result);
                }
            }

            reader.HasEnded = false;
            for (int i = 0; i < MostBytes; i += SectorBytes)
            {
                sectors.Add(new ReadOnlySpan<byte>(_memory + i, SectorBytes).ToArray());
            }
        }

        return sectors;
    }

    private sealed class Reader : IDiskCompletions
    {
        public bool HasEnded { get; set; }

        public void OnCompleted(int slot, DiskOutcome outcome) =>
            HasEnded = outcome == DiskOutcome.Done ? true : throw new IOException($"A read after the start ended as {outcome}.");
    }

    private sealed record Request(DiskOperation Operation, bool Durable)
    {
        public List<VolatileStorage.PendingWrite> Writes { get; } = [];

        public long Begun { get; set; }
    }
}
