using VirtioBlkFlow.Disks.Engine;

namespace VirtioBlkFlow.Disks.Composite;

/// <summary>
/// One queue's way to a composite disk. A request is done stretch by stretch, one after the other: each lies in one part, or between two.
/// Owned by the queue's thread.
/// </summary>
internal sealed unsafe class CompositeDiskQueue : IDiskQueue, IDiskCompletions
{
    // Stands for what is between parts.
    private const int Gap = -1;

    // Fixed at construction.
    private readonly CompositeDisk _disk;
    private readonly CompositeDisk.Segment[] _segments;
    private readonly IDiskQueue[] _queues;
    private readonly IDiskCompletions _completions;
    private readonly Work[] _works;
    private readonly SlotLists _lists;

    public CompositeDiskQueue(CompositeDisk disk, IIoEngine engine, IDiskCompletions completions, int slotCount)
    {
        _disk = disk;
        _segments = disk.Segments;
        _completions = completions;
        _works = new Work[slotCount];
        _lists = new SlotLists(slotCount);
        _queues = [.. _segments.Select(segment => segment.Disk.OpenQueue(engine, this, slotCount))];
    }

    /// <inheritdoc/>
    public void Submit(int slot, in DiskRequest request)
    {
        ref Work work = ref _works[slot];
        work = new Work { Request = request, Part = Gap };
        DiskOutcome outcome = Check(in request);
        if (outcome != DiskOutcome.Done)
        {
            _completions.OnCompleted(slot, outcome);
            return;
        }

        Run(slot, ref work);
    }

    /// <inheritdoc/>
    public void OnIoCompleted(int slot, int result) => _queues[_works[slot].Part].OnIoCompleted(slot, result);

    /// <inheritdoc/>
    public bool EndHeld()
    {
        bool any = false;
        foreach (IDiskQueue queue in _queues)
        {
            any |= queue.EndHeld();
        }

        return any;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (IDiskQueue queue in _queues)
        {
            queue.Dispose();
        }

        _lists.Dispose();
    }

    void IDiskCompletions.OnCompleted(int slot, DiskOutcome outcome)
    {
        ref Work work = ref _works[slot];
        work.Outcome = outcome;
        work.IsInPart = false;
        // One that ended inside its Submit is gone on with there: however many stretches there are, the stack stays as it is.
        if (!work.IsRunning)
        {
            Run(slot, ref work);
        }
    }

    // Before anything is changed: whether all of it may be.
    private DiskOutcome Check(in DiskRequest request)
    {
        switch (request.Operation)
        {
            case DiskOperation.Flush:
                return DiskOutcome.Done;
            case DiskOperation.Read:
                return IsInside(request.OffsetBytes, request.LengthBytes) ? DiskOutcome.Done : DiskOutcome.Failed;
            case DiskOperation.Write:
                return IsInside(request.OffsetBytes, request.LengthBytes) && CanWrite(request.OffsetBytes, request.LengthBytes, isGapFine: false)
                    ? DiskOutcome.Done
                    : DiskOutcome.Failed;
            case DiskOperation.Discard when _disk.Properties.CanDiscard:
            case DiskOperation.WriteZeroes when _disk.Properties.CanWriteZeroes:
                for (int i = 0; i < request.RangeCount; i++)
                {
                    DiskRange range = request.Ranges[i];
                    // What is between parts is zeros already, and holds nothing that could be given back.
                    if (!IsInside(range.OffsetBytes, range.LengthBytes) || !CanWrite(range.OffsetBytes, range.LengthBytes, isGapFine: true))
                    {
                        return DiskOutcome.Failed;
                    }
                }

                return DiskOutcome.Done;
            default:
                return DiskOutcome.Unsupported;
        }
    }

    private bool IsInside(ulong offsetBytes, ulong lengthBytes) =>
        offsetBytes <= _disk.Properties.CapacityBytes && lengthBytes <= _disk.Properties.CapacityBytes - offsetBytes;

    private bool CanWrite(ulong offsetBytes, ulong lengthBytes, bool isGapFine)
    {
        while (lengthBytes > 0)
        {
            int part = Find(offsetBytes, out ulong endBytes);
            if (part == Gap ? !isGapFine : _segments[part].Disk.Properties.ReadOnly)
            {
                return false;
            }

            ulong bytes = Math.Min(lengthBytes, endBytes - offsetBytes);
            offsetBytes += bytes;
            lengthBytes -= bytes;
        }

        return true;
    }

    /// <summary>The part an offset lies in, and where that part, or the gap, ends.</summary>
    private int Find(ulong offsetBytes, out ulong endBytes)
    {
        // The first part that ends behind the offset.
        int low = 0;
        int high = _segments.Length;
        while (low < high)
        {
            int middle = (low + high) / 2;
            (low, high) = _segments[middle].EndBytes > offsetBytes ? (low, middle) : (middle + 1, high);
        }

        if (low == _segments.Length)
        {
            endBytes = ulong.MaxValue;
            return Gap;
        }

        bool isInside = _segments[low].StartBytes <= offsetBytes;
        endBytes = isInside ? _segments[low].EndBytes : _segments[low].StartBytes;
        return isInside ? low : Gap;
    }

    // Stretch by stretch, until one of them takes its time or there are no more.
    private void Run(int slot, ref Work work)
    {
        work.IsRunning = true;
        bool isMore = true;
        while (isMore && !work.IsInPart && work.Outcome == DiskOutcome.Done)
        {
            isMore = work.Request.Operation switch
            {
                DiskOperation.Flush => NextFlush(slot, ref work),
                DiskOperation.Read or DiskOperation.Write => NextTransfer(slot, ref work),
                _ => NextRange(slot, ref work),
            };
        }

        work.IsRunning = false;
        if (!work.IsInPart)
        {
            _completions.OnCompleted(slot, work.Outcome);
        }
    }

    private bool NextFlush(int slot, ref Work work)
    {
        if (++work.Part == _queues.Length)
        {
            return false;
        }

        Pass(slot, ref work, new DiskRequest { Operation = DiskOperation.Flush });
        return true;
    }

    private bool NextTransfer(int slot, ref Work work)
    {
        ref DiskRequest request = ref work.Request;
        if (request.LengthBytes == 0)
        {
            return false;
        }

        ulong offset = request.OffsetBytes;
        work.Part = Find(offset, out ulong endBytes);
        uint bytes = (uint)Math.Min(request.LengthBytes, endBytes - offset);
        int count = CutPieces(slot, in request, bytes, out Iovec* pieces);
        request.OffsetBytes += bytes;
        request.LengthBytes -= bytes;
        Iovec.Advance(ref request.Pieces, ref request.PieceCount, bytes);
        if (work.Part == Gap)
        {
            for (int i = 0; i < count; i++)
            {
                NativeMemory.Clear(pieces[i].Base, pieces[i].LengthBytes);
            }
        }
        else
        {
            Pass(slot, ref work, new DiskRequest
            {
                Operation = request.Operation,
                Durable = request.Durable,
                OffsetBytes = offset - _segments[work.Part].StartBytes,
                LengthBytes = bytes,
                Pieces = pieces,
                PieceCount = count,
            });
        }

        return true;
    }

    // The pieces of one stretch, in a list of their own: the part may use it up.
    private int CutPieces(int slot, in DiskRequest request, uint bytes, out Iovec* pieces)
    {
        pieces = _lists.Pieces(slot, request.PieceCount);
        int count = 0;
        for (nuint left = bytes; left > 0 && count < request.PieceCount; count++)
        {
            pieces[count] = new Iovec(request.Pieces[count].Base, nuint.Min(request.Pieces[count].LengthBytes, left));
            left -= pieces[count].LengthBytes;
        }

        return count;
    }

    private bool NextRange(int slot, ref Work work)
    {
        ref DiskRequest request = ref work.Request;
        if (request.RangeCount == 0)
        {
            return false;
        }

        // What is done of a range is taken off its front.
        DiskRange range = *request.Ranges;
        if (range.LengthBytes == 0)
        {
            request.Ranges++;
            request.RangeCount--;
            return true;
        }

        work.Part = Find(range.OffsetBytes, out ulong endBytes);
        ulong bytes = Math.Min(range.LengthBytes, endBytes - range.OffsetBytes);
        *request.Ranges = range with { OffsetBytes = range.OffsetBytes + bytes, LengthBytes = range.LengthBytes - bytes };
        if (work.Part != Gap && (request.Operation != DiskOperation.Discard || _segments[work.Part].Disk.Properties.CanDiscard))
        {
            DiskRange* own = _lists.Ranges(slot, 1);
            *own = new DiskRange(range.OffsetBytes - _segments[work.Part].StartBytes, bytes, range.MayDeallocate);
            Pass(slot, ref work, new DiskRequest { Operation = request.Operation, Durable = request.Durable, Ranges = own, RangeCount = 1 });
        }

        return true;
    }

    private void Pass(int slot, ref Work work, in DiskRequest request)
    {
        work.IsInPart = true;
        _queues[work.Part].Submit(slot, in request);
    }

    // A request, and what is left of it.
    private struct Work
    {
        public DiskRequest Request;
        public DiskOutcome Outcome;
        public int Part;
        public bool IsInPart;
        public bool IsRunning;
    }
}
