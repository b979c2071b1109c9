using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.Device.Pipeline;

/// <summary>The life of a request: Free → Parsed → Submitted → Completed → Free. Of what is popped the virtqueue keeps account.</summary>
public enum SlotState : byte
{
    /// <summary>No request.</summary>
    Free,

    /// <summary>Its header was decoded and checked.</summary>
    Parsed,

    /// <summary>The disk works on it.</summary>
    Submitted,

    /// <summary>Its status is known.</summary>
    Completed,
}

/// <summary>A request in flight. One slot for each chain there can be, so none is ever allocated.</summary>
[DebuggerDisplay("{State} {Io.Operation} at {Io.OffsetBytes} {Status}")]
public struct RequestSlot
{
    /// <summary>Where in its life the request is.</summary>
    public SlotState State;

    /// <summary>Whether <see cref="Status"/> was decided while parsing, so that the disk is not asked.</summary>
    public bool IsDecided;

    /// <summary>Under which number the request is counted.</summary>
    public byte TypeNumber;

    /// <summary>The answer, once it is known.</summary>
    public BlkStatus Status;

    /// <summary>Bytes written into the request's data from its start without a gap; while the disk works on it, what they will be.</summary>
    public uint DataInWritten;

    /// <summary>
    /// Bytes of the request's data, from its start, among which some may have been written: also those of a read that failed half-way, which
    /// <see cref="DataInWritten"/> leaves out.
    /// </summary>
    public uint DataInTouched;

    /// <summary>Where the answer goes; known once the request was parsed.</summary>
    public BlkReply Reply;

    /// <summary>What the disk is asked for, unless the request is decided.</summary>
    public DiskRequest Io;

    /// <summary>
    /// While the disk works on several requests in this slot's name: how many of the batch, from this one on. Else 0 or 1.
    /// </summary>
    internal ushort RunCount;

    /// <summary>Its place in its batch.</summary>
    internal ushort Position;

    /// <summary>The <see cref="RequestBatch.Number"/> of the batch it travels in. A reference would cost a call of the garbage collector's.</summary>
    internal ushort BatchNumber;

    /// <summary>
    /// Goes on to the next state. A request that is anywhere else than where it must be would be lost or completed twice, and
    /// that corrupts a guest: the process ends instead.
    /// </summary>
    public void Advance(SlotState from, SlotState to)
    {
        if (State != from)
        {
            FailAdvance(from, to);
        }

        State = to;
    }

    // Apart, so that the check is small enough to be inlined; seen not to return, so that nothing is kept for after it.
    [DoesNotReturn]
    private readonly void FailAdvance(SlotState from, SlotState to)
    {
        Environment.FailFast($"A request is {State} where it must be {from} to become {to}.");
        throw new UnreachableException();
    }
}

/// <summary>All slots of a queue, indexed by the virtqueue's number. Owned by the queue's thread.</summary>
public sealed unsafe class RequestTable : IDisposable
{
    private readonly int _slotCount;
    private readonly int _rangesPerSlot;
    private RequestSlot* _slots;
    private DiskRange* _ranges;

    internal RequestTable(int queueSize, int rangesPerSlot)
    {
        _rangesPerSlot = rangesPerSlot;
        _slotCount = queueSize;
        // calloc: pages of slots that are never used, or that no DISCARD touches, cost nothing.
        _slots = (RequestSlot*)NativeMemory.AllocZeroed((nuint)queueSize, (nuint)sizeof(RequestSlot));
        _ranges = (DiskRange*)NativeMemory.AllocZeroed((nuint)queueSize * (nuint)rangesPerSlot, (nuint)sizeof(DiskRange));
    }

    /// <summary>The slot of a number. Unchecked: the virtqueue gives out none beyond its size.</summary>
    public ref RequestSlot this[int number]
    {
        get
        {
            Debug.Assert((uint)number < (uint)_slotCount, "A slot beyond the queue.");
            return ref _slots[number];
        }
    }

    /// <summary>The first of all slots: for loops, which so need not look it up for each.</summary>
    internal RequestSlot* Slots => _slots;

    /// <summary>Room for the ranges of a slot's request: as many as the largest request that is offered has.</summary>
    internal DiskRange* RangesOf(int number) => _ranges + ((nint)number * _rangesPerSlot);

    /// <inheritdoc/>
    public void Dispose()
    {
        NativeMemory.Free(_ranges);
        NativeMemory.Free(_slots);
        _ranges = null;
        _slots = null;
    }
}
