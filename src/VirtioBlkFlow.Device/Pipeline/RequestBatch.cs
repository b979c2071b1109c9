using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using VirtioBlkFlow.Device.Latency;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.Device.Pipeline;

/// <summary>
/// What travels from notify to I/O: the slots that one look at the ring found. It belongs to the stage that holds it, and returns to its
/// pool when the last of its requests has completed; who keeps a reference beyond that (a tap) sees it reused.
/// </summary>
[DebuggerDisplay("{Count} requests, {Outstanding} outstanding")]
public sealed unsafe class RequestBatch
{
    /// <summary>What is remembered for the histograms. Owned by the queue's <see cref="StageTimer"/>.</summary>
    internal BatchTimes Times;

    private readonly ushort[] _slots;

    internal RequestBatch(ushort number, int capacity, PieceArena pieces)
    {
        Number = number;
        _slots = new ushort[capacity];
        Pieces = pieces;
    }

    /// <summary>Which of the queue's batches it is.</summary>
    internal ushort Number { get; }

    /// <summary>Requests in the batch.</summary>
    public int Count { get; private set; }

    /// <summary>Requests that have not completed yet; counts from <see cref="Close"/> on.</summary>
    public int Outstanding { get; private set; }

    /// <summary>The slots, in the order the driver made them available.</summary>
    public ReadOnlySpan<ushort> Slots => _slots.AsSpan(0, Count);

    /// <summary>Whether there may be requests in it that lie one behind the other on the disk; if not, nobody need look.</summary>
    internal bool MayJoin { get; set; }

    /// <summary>Room for slots; <see cref="Close"/> says how many were put there.</summary>
    internal Span<ushort> Room => _slots;

    /// <summary>What was popped, in the order of <see cref="Slots"/>. Of the batch, not of the slot: so it stays in the processor's cache.</summary>
    internal DescriptorChain* Chains { get; private set; }

    /// <summary>Where the piece lists of its runs are.</summary>
    internal PieceArena Pieces { get; }

    /// <summary>The chain of the request at a place in the batch.</summary>
    public ref readonly DescriptorChain ChainAt(int position)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)position, (uint)Count, nameof(position));
        return ref Chains[position];
    }

    /// <summary>Makes the room for chains, once: most of the batches of a queue are never needed.</summary>
    internal void MakeRoom()
    {
        if (Chains == null)
        {
            AllocateRoom();
        }
    }

    // By itself: a method that calls native code prepares for it each time, whether it comes to that or not.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private void AllocateRoom() =>
        // calloc: pages that no batch is large enough for cost nothing.
        Chains = (DescriptorChain*)NativeMemory.AllocZeroed((nuint)_slots.Length, (nuint)sizeof(DescriptorChain));

    /// <summary>Frees that room.</summary>
    internal void FreeRoom()
    {
        NativeMemory.Free(Chains);
        Chains = null;
    }

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
        MayJoin = false;
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
    private readonly RequestBatch[] _all;
    private readonly RequestBatch[] _free;
    private Iovec* _pieces;
    private int _freeCount;

    public BatchPool(int batchCount, int batchCapacity)
    {
        _all = new RequestBatch[batchCount];
        // calloc: pages that no run touches cost nothing.
        _pieces = (Iovec*)NativeMemory.AllocZeroed((nuint)batchCount * PieceArena.Capacity, (nuint)sizeof(Iovec));
        for (int i = 0; i < batchCount; i++)
        {
            _all[i] = new RequestBatch((ushort)i, batchCapacity, new PieceArena(_pieces + ((nint)i * PieceArena.Capacity)));
        }

        _free = [.. _all];
        _freeCount = batchCount;
    }

    public bool HasFree => _freeCount > 0;

    /// <summary>The batch with this <see cref="RequestBatch.Number"/>.</summary>
    public RequestBatch this[int number] => _all[number];

    public RequestBatch Rent()
    {
        RequestBatch batch = _free[--_freeCount];
        batch.MakeRoom();
        return batch;
    }

    public void Return(RequestBatch batch)
    {
        batch.Clear();
        _free[_freeCount++] = batch;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Array.ForEach(_all, batch => batch.FreeRoom());
        NativeMemory.Free(_pieces);
        _pieces = null;
    }
}
