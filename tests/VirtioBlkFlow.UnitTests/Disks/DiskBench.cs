using System.Runtime.InteropServices;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.Virtio;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Disks;

/// <summary>A disk with a real engine, driven by the thread that made it.</summary>
internal sealed unsafe class DiskBench : IDiskCompletions, IDisposable
{
    public const int Slots = 1024;
    public const int MemoryBytes = 4 << 20;
    private const int PatienceMs = 30_000;
    private const int MaxPieces = 1 << 16;
    private const int MaxRanges = 32;

    private readonly IIoEngine _engine;
    private readonly IDiskQueue _queue;
    private readonly byte* _memory = (byte*)NativeMemory.AlignedAlloc(MemoryBytes, 4096);
    private readonly Iovec* _pieces = (Iovec*)NativeMemory.Alloc(MaxPieces, (nuint)sizeof(Iovec));
    private readonly DiskRange* _ranges = (DiskRange*)NativeMemory.Alloc(MaxRanges + Slots, (nuint)sizeof(DiskRange));
    private readonly Dictionary<int, DiskOutcome> _outcomes = [];
    private int _piecesUsed;
    private ulong _appended;

    public DiskBench(IDisk disk, IoEngineKind engine)
        : this(disk, IoEngines.Create(engine, 64))
    {
    }

    /// <param name="disk">Whose queue this is.</param>
    /// <param name="engine">Belongs to the bench from now on.</param>
    public DiskBench(IDisk disk, IIoEngine engine)
    {
        _engine = engine;
        _queue = disk.OpenQueue(_engine, this, Slots);
        NativeMemory.Clear(_memory, MemoryBytes);
    }

    public Span<byte> Memory => new(_memory, MemoryBytes);

    void IDiskCompletions.OnCompleted(int slot, DiskOutcome outcome) => _outcomes.Add(slot, outcome);

    void IDiskCompletions.OnAppended(int slot, ulong offsetBytes) => _appended = offsetBytes;

    /// <summary>Where the last append that succeeded went.</summary>
    public ulong Appended => _appended;

    /// <summary>Requests that have ended since the last <see cref="Finish"/>.</summary>
    public int Ended => _outcomes.Count;

    /// <summary>A request that moves no data.</summary>
    public DiskOutcome Do(DiskOperation operation, ulong offsetBytes, bool durable = false)
    {
        _queue.Submit(0, new DiskRequest { Operation = operation, OffsetBytes = offsetBytes, Durable = durable });
        return Assert.Single(Finish(1)).Value;
    }

    public void Start(int slot, DiskOperation operation, ulong offsetBytes, int memoryOffset, int pieceCount, int pieceBytes, bool durable = false)
    {
        Iovec* pieces = TakePieces(pieceCount);
        for (int i = 0; i < pieceCount; i++)
        {
            pieces[i] = new Iovec(_memory + memoryOffset + (i * pieceBytes), (nuint)pieceBytes);
        }

        _queue.Submit(slot, new DiskRequest
        {
            Operation = operation,
            Durable = durable,
            OffsetBytes = offsetBytes,
            LengthBytes = (uint)(pieceCount * pieceBytes),
            Pieces = pieces,
            PieceCount = pieceCount,
        });
    }

    /// <summary>A transfer from or to pieces of the memory, one behind the other, of any lengths.</summary>
    public void StartSplit(int slot, DiskOperation operation, ulong offsetBytes, int memoryOffset, ReadOnlySpan<int> pieceBytes, bool durable = false)
    {
        Iovec* pieces = TakePieces(pieceBytes.Length);
        int length = 0;
        for (int i = 0; i < pieceBytes.Length; i++)
        {
            pieces[i] = new Iovec(_memory + memoryOffset + length, (nuint)pieceBytes[i]);
            length += pieceBytes[i];
        }

        _queue.Submit(slot, new DiskRequest
        {
            Operation = operation,
            Durable = durable,
            OffsetBytes = offsetBytes,
            LengthBytes = (uint)length,
            Pieces = pieces,
            PieceCount = pieceBytes.Length,
        });
    }

    public DiskOutcome Transfer(DiskOperation operation, ulong offsetBytes, int memoryOffset, int pieceCount, int pieceBytes, bool durable = false)
    {
        Start(0, operation, offsetBytes, memoryOffset, pieceCount, pieceBytes, durable);
        return Assert.Single(Finish(1)).Value;
    }

    public DiskOutcome Ranges(DiskOperation operation, bool durable, params ReadOnlySpan<DiskRange> ranges)
    {
        ranges.CopyTo(new Span<DiskRange>(_ranges, MaxRanges));
        _queue.Submit(0, new DiskRequest { Operation = operation, Durable = durable, Ranges = _ranges, RangeCount = ranges.Length });
        return Assert.Single(Finish(1)).Value;
    }

    /// <summary>Starts a request for one range.</summary>
    public void StartRanges(int slot, DiskOperation operation, bool durable, DiskRange range)
    {
        DiskRange* own = _ranges + MaxRanges + slot;
        *own = range;
        _queue.Submit(slot, new DiskRequest { Operation = operation, Durable = durable, Ranges = own, RangeCount = 1 });
    }

    public DiskOutcome Flush()
    {
        _queue.Submit(0, new DiskRequest { Operation = DiskOperation.Flush });
        return Assert.Single(Finish(1)).Value;
    }

    /// <summary>Starts a flush.</summary>
    public void StartFlush(int slot) => _queue.Submit(slot, new DiskRequest { Operation = DiskOperation.Flush });

    /// <summary>Waits until so many requests have ended.</summary>
    public Dictionary<int, DiskOutcome> Finish(int count)
    {
        WaitFor(count);
        var outcomes = new Dictionary<int, DiskOutcome>(_outcomes);
        _outcomes.Clear();
        return outcomes;
    }

    /// <summary>The same, with all of them forgotten that did what they should; allocates nothing.</summary>
    public void FinishDone(int count)
    {
        WaitFor(count);
        foreach (DiskOutcome outcome in _outcomes.Values)
        {
            Assert.True(outcome == DiskOutcome.Done, "A request failed.");
        }

        _outcomes.Clear();
    }

    /// <summary>Waits so as a queue does that is to stop: it sleeps until something wakes it.</summary>
    public Dictionary<int, DiskOutcome> Drain(int count)
    {
        Deadline deadline = Deadline.In(PatienceMs);
        while (_outcomes.Count < count)
        {
            Assert.False(deadline.HasPassed, $"{_outcomes.Count} of {count} requests ended within {PatienceMs} ms.");
            if (!EndHeld())
            {
                _engine.Wait((PatienceMs + 1) * 1_000_000L);
            }

            Reap();
        }

        return Finish(count);
    }

    /// <summary>Lets the queue work until something has come of it elsewhere.</summary>
    public void ReapUntil(Func<bool> condition)
    {
        Deadline deadline = Deadline.In(PatienceMs);
        while (!condition())
        {
            Assert.False(deadline.HasPassed, $"Not within {PatienceMs} ms.");
            _engine.Wait(1_000_000);
            Reap();
        }
    }

    /// <summary>The queue is to stop.</summary>
    public bool EndHeld() => _queue.EndHeld();

    private void WaitFor(int count)
    {
        Deadline deadline = Deadline.In(PatienceMs);
        while (_outcomes.Count < count)
        {
            if (deadline.HasPassed)
            {
                Assert.Fail($"{_outcomes.Count} of {count} requests ended within {PatienceMs} ms.");
            }

            _engine.Wait(1_000_000_000);
            Reap();
        }
    }

    // Around and around: long before pieces are used again, their request has ended.
    private Iovec* TakePieces(int count)
    {
        if (_piecesUsed + count > MaxPieces)
        {
            _piecesUsed = 0;
        }

        Iovec* pieces = _pieces + _piecesUsed;
        _piecesUsed += count;
        return pieces;
    }

    /// <summary>Takes what has ended by now, without waiting.</summary>
    public void Reap()
    {
        Span<IoCompletion> completions = stackalloc IoCompletion[16];
        int count;
        do
        {
            _engine.Submit();
            count = _engine.Reap(completions);
            foreach (ref readonly IoCompletion completion in completions[..count])
            {
                if (completion.Kind == IoCompletionKind.Operation)
                {
                    _queue.OnIoCompleted((int)completion.Token, completion.Result);
                }
            }
        }
        while (count == completions.Length);
    }

    public void Dispose()
    {
        // First the engine, so that nothing uses the memory any more, whatever a test has left in flight.
        _engine.Dispose();
        _queue.Dispose();
        NativeMemory.AlignedFree(_memory);
        NativeMemory.Free(_pieces);
        NativeMemory.Free(_ranges);
    }
}
