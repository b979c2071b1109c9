using System.Diagnostics;
using System.Runtime.InteropServices;
using VirtioBlkFlow.Device.Latency;

namespace VirtioBlkFlow.Device.Pipeline;

/// <summary>
/// What travels from notify to I/O: the slots that one look at the ring found. It belongs to the stage that holds it, and returns to its
/// pool when the last of its requests has completed; who keeps a reference beyond that (a tap) sees it reused.
/// </summary>
[DebuggerDisplay("{Count} requests, {Outstanding} outstanding")]
public sealed class RequestBatch
{
    /// <summary>What is remembered for the histograms. Owned by the queue's <see cref="StageTimer"/>.</summary>
    internal BatchTimes Times;

    private readonly ushort[] _slots;

    internal RequestBatch(int capacity, PieceArena pieces)
    {
        _slots = new ushort[capacity];
        Pieces = pieces;
    }

    /// <summary>Requests in the batch.</summary>
    public int Count { get; private set; }

    /// <summary>Requests that have not completed yet; counts from <see cref="Close"/> on.</summary>
    public int Outstanding { get; private set; }

    /// <summary>The slots, in the order the driver made them available.</summary>
    public ReadOnlySpan<ushort> Slots => _slots.AsSpan(0, Count);

    /// <summary>Room for slots; <see cref="Close"/> says how many were put there.</summary>
    internal Span<ushort> Room => _slots;

    /// <summary>Where the piece lists of its runs are.</summary>
    internal PieceArena Pieces { get; }

    /// <summary>The batch is complete and sets out.</summary>
    internal void Close(int count)
    {
        Count = count;
        Outstanding = count;
    }

    /// <summary>Some of its requests have completed.</summary>
    /// <returns>Whether they were the last.</returns>
    internal bool Complete(int count) => (Outstanding -= count) == 0;

    internal void Clear()
    {
        Count = 0;
        Outstanding = 0;
        Pieces.Clear();
        Times.Weight = 0;
    }
}

/// <summary>
/// The batches of a queue; as many as may be in flight. While none is free the ring is not looked at: requests gather there, and the
/// next batch is larger ("lazy pop"). Owned by the queue's thread.
/// </summary>
internal sealed unsafe class BatchPool : IDisposable
{
    private readonly RequestBatch[] _free;
    private Iovec* _pieces;
    private int _freeCount;

    public BatchPool(int batchCount, int batchCapacity)
    {
        _free = new RequestBatch[batchCount];
        // calloc: pages that no run touches cost nothing.
        _pieces = (Iovec*)NativeMemory.AllocZeroed((nuint)batchCount * PieceArena.Capacity, (nuint)sizeof(Iovec));
        for (int i = 0; i < batchCount; i++)
        {
            _free[i] = new RequestBatch(batchCapacity, new PieceArena(_pieces + ((nint)i * PieceArena.Capacity)));
        }

        _freeCount = batchCount;
    }

    public bool HasFree => _freeCount > 0;

    public RequestBatch Rent() => _free[--_freeCount];

    public void Return(RequestBatch batch)
    {
        batch.Clear();
        _free[_freeCount++] = batch;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        NativeMemory.Free(_pieces);
        _pieces = null;
    }
}
