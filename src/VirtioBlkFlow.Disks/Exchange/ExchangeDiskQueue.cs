using VirtioBlkFlow.Disks.Engine;

namespace VirtioBlkFlow.Disks.Exchange;

/// <summary>
/// One queue's way to an exchange disk: passes everything on, and looks at what is written to the status sector. A write that carries a mark
/// is followed by a flush of its own before it ends. Owned by the queue's thread.
/// </summary>
internal sealed unsafe class ExchangeDiskQueue : IDiskQueue, IDiskCompletions
{
    private readonly ExchangeDisk _disk;
    private readonly IDiskQueue _inner;
    private readonly IDiskCompletions _completions;
    private readonly Work[] _works;
    private readonly DiskRange _output;
    private readonly DiskRange _status;

    public ExchangeDiskQueue(ExchangeDisk disk, IDisk inner, IIoEngine engine, IDiskCompletions completions, int slotCount)
    {
        _disk = disk;
        _completions = completions;
        _works = new Work[slotCount];
        _output = new DiskRange(disk.Layout.OutputSector * ExchangeLayout.SectorBytes, disk.Layout.OutputCapacityBytes, false);
        _status = new DiskRange(disk.Layout.StatusSector * ExchangeLayout.SectorBytes, ExchangeLayout.SectorBytes, false);
        _inner = inner.OpenQueue(engine, this, slotCount);
    }

    // What a slot is waiting for.
    private enum Step : byte
    {
        // Something that changes nothing.
        Look,
        Change,
        MarkWritten,
        MarkFlushed,
    }

    public void Submit(int slot, in DiskRequest request)
    {
        ref Work work = ref _works[slot];
        work = new Work { Step = request.Operation is DiskOperation.Read or DiskOperation.Flush ? Step.Look : Step.Change };
        if (work.Step == Step.Change)
        {
            if (!_disk.TryBeginChange())
            {
                if (Touches(in request, _output))
                {
                    _disk.Spoil();
                }

                _completions.OnCompleted(slot, DiskOutcome.Failed);
                return;
            }

            if (!MayChange(ref work, in request))
            {
                _disk.EndChange();
                _completions.OnCompleted(slot, DiskOutcome.Failed);
                return;
            }
        }

        _inner.Submit(slot, in request);
    }

    public void OnIoCompleted(int slot, int result) => _inner.OnIoCompleted(slot, result);

    public bool EndHeld() => _inner.EndHeld();

    public void Dispose() => _inner.Dispose();

    void IDiskCompletions.OnCompleted(int slot, DiskOutcome outcome)
    {
        ref Work work = ref _works[slot];
        switch (work.Step)
        {
            case Step.Change:
                _disk.EndChange();
                break;
            case Step.MarkWritten when outcome == DiskOutcome.Done:
                work.Step = Step.MarkFlushed;
                _inner.Submit(slot, new DiskRequest { Operation = DiskOperation.Flush });
                return;
            case Step.MarkWritten:
                _disk.EndChange();
                break;
            case Step.MarkFlushed:
                EndMark(slot, work.Mark!, outcome);
                return;
        }

        _completions.OnCompleted(slot, outcome);
    }

    private void EndMark(int slot, ExchangeMark mark, DiskOutcome outcome)
    {
        if (outcome != DiskOutcome.Done)
        {
            _disk.EndChange();
            _completions.OnCompleted(slot, outcome);
            _disk.LoseOutput();
            return;
        }

        if (!_disk.TryClose())
        {
            _disk.EndChange();
            RefuseEarly();
            _completions.OnCompleted(slot, DiskOutcome.Failed);
            return;
        }

        // In this order: when somebody hears of the mark, its write has ended.
        _completions.OnCompleted(slot, DiskOutcome.Done);
        _disk.Accept(mark);
    }

    // Whether a change leaves the status sector as it is, or writes what may be written there.
    private bool MayChange(ref Work work, in DiskRequest request)
    {
        if (!Touches(in request, _status))
        {
            return true;
        }

        if (request.Operation != DiskOperation.Write)
        {
            _disk.Refuse("The status sector cannot be discarded or zeroed.");
            return false;
        }

        // Once, to judge what cannot be changed meanwhile.
        Span<byte> sector = stackalloc byte[ExchangeLayout.SectorBytes];
        CopyOut(in request, _status.OffsetBytes - request.OffsetBytes, sector);
        if (!_disk.Layout.TryRead(sector, out ExchangeMark? mark, out string problem))
        {
            _disk.Refuse(problem);
            return false;
        }

        if (mark != null && _disk.HasOtherChanges)
        {
            RefuseEarly();
            return false;
        }

        if (mark != null)
        {
            work.Step = Step.MarkWritten;
            work.Mark = mark;
        }

        return true;
    }

    private void RefuseEarly() => _disk.Refuse("The mark came while other writes were in flight. It has to be the last one.");

    private static bool Touches(in DiskRequest request, DiskRange area)
    {
        if (request.Operation == DiskOperation.Write)
        {
            return Overlap(new DiskRange(request.OffsetBytes, request.LengthBytes, false), area);
        }

        for (int i = 0; i < request.RangeCount; i++)
        {
            if (Overlap(request.Ranges[i], area))
            {
                return true;
            }
        }

        return false;
    }

    private static bool Overlap(DiskRange one, DiskRange other) =>
        one.LengthBytes > 0 && one.OffsetBytes < other.OffsetBytes + other.LengthBytes && other.OffsetBytes < one.OffsetBytes + one.LengthBytes;

    private static void CopyOut(in DiskRequest request, ulong skipBytes, Span<byte> destination)
    {
        for (int i = 0; i < request.PieceCount && !destination.IsEmpty; i++)
        {
            Iovec piece = request.Pieces[i];
            if (skipBytes >= piece.LengthBytes)
            {
                skipBytes -= piece.LengthBytes;
                continue;
            }

            int take = (int)Math.Min(piece.LengthBytes - skipBytes, (ulong)destination.Length);
            new ReadOnlySpan<byte>(piece.Base + skipBytes, take).CopyTo(destination);
            destination = destination[take..];
            skipBytes = 0;
        }
    }

    private struct Work
    {
        public Step Step;
        public ExchangeMark? Mark;
    }
}
