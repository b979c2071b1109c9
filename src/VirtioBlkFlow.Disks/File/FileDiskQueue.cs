using System.Diagnostics;
using VirtioBlkFlow.Disks.Engine;
using static VirtioBlkFlow.Disks.LibC;

namespace VirtioBlkFlow.Disks.File;

/// <summary>
/// One queue's way to a file: turns each request into one operation of the engine after the other, and resumes short ones.
/// Owned by the queue's thread. Here are the requests and the transfers; what happens to ranges is in the other part.
/// </summary>
internal sealed unsafe partial class FileDiskQueue : IDiskQueue
{
    // EAGAIN and EINTR of one operation that are answered by trying again. Arbitrary; it only has to end.
    private const int MaxRetries = 16;

    // Fixed at construction.
    private readonly FileDisk _disk;
    private readonly IIoEngine _engine;
    private readonly IDiskCompletions _completions;
    private readonly int _file;
    private readonly Work[] _works;
    private readonly BounceBuffers? _bounceBuffers;
    private readonly SyncStep _sync;
    private readonly InlineWrites? _inlineWrites;

    // Set at construction; null after the end.
    private Iovec* _ownPieces;

    public FileDiskQueue(FileDisk disk, IIoEngine engine, IDiskCompletions completions, int slotCount)
    {
        _disk = disk;
        _engine = engine;
        _completions = completions;
        _file = engine.RegisterFile(disk.File);
        _sync = new SyncStep(disk, engine, _file, slotCount);
        _works = new Work[slotCount];
        // One piece of our own for each slot, for transfers that do not go to the caller's memory.
        _ownPieces = (Iovec*)NativeMemory.AllocZeroed((nuint)slotCount, (nuint)sizeof(Iovec));
        if (disk.WritesInline)
        {
            _inlineWrites = new InlineWrites((int)disk.File.DangerousGetHandle(), pwritev2, Stopwatch.GetTimestamp);
        }

        if (disk.DirectAlignment is DirectAlignment alignment)
        {
            _bounceBuffers = new BounceBuffers(Math.Max(alignment.MemoryBytes, alignment.OffsetBytes));
        }
    }

    // What the one operation in flight of a slot is for.
    private enum Stage : byte
    {
        Idle,
        Transfer,
        BouncedTransfer,
        Sync,
        Allocate,
        ZeroFill,
        Erase,

        // Of a block device: by a command of the ring, or by ioctl.
        DiscardCommand,
        Discard,
    }

    /// <inheritdoc/>
    public void Submit(int slot, in DiskRequest request)
    {
        ref Work work = ref _works[slot];
        work.Request = request;
        work.Retries = 0;
        if (request.Durable && _disk.DurabilityLost)
        {
            Complete(slot, ref work, DiskOutcome.Failed);
            return;
        }

        switch (request.Operation)
        {
            case DiskOperation.Read:
            case DiskOperation.Write:
                StartTransfer(slot, ref work);
                break;
            case DiskOperation.Flush:
                StartFlush(slot, ref work);
                break;
            case DiskOperation.Discard:
            case DiskOperation.WriteZeroes:
            case DiskOperation.SecureErase when _disk.Properties.CanSecureErase:
                work.RangeIndex = -1;
                StartNextRange(slot, ref work);
                break;
            default:
                Complete(slot, ref work, DiskOutcome.Unsupported);
                break;
        }
    }

    /// <inheritdoc/>
    public void OnIoCompleted(int slot, int result)
    {
        ref Work work = ref _works[slot];
        // The common case: all of it at once.
        if (work.Stage == Stage.Transfer && result == work.Request.LengthBytes)
        {
            // The disk may have been shrunk meanwhile: what was written beyond its end is not kept.
            Complete(slot, ref work, IsInside(work.Request.OffsetBytes, (uint)result) ? DiskOutcome.Done : DiskOutcome.Failed);
            return;
        }

        if (work.Stage == Stage.Sync)
        {
            if (_sync.End(slot, result) is DiskOutcome outcome)
            {
                Complete(slot, ref work, outcome);
            }

            return;
        }

        if (result is -EAGAIN or -EINTR && work.Retries < MaxRetries)
        {
            work.Retries++;
            Repeat(slot, ref work);
            return;
        }

        switch (work.Stage)
        {
            case Stage.Transfer:
            case Stage.BouncedTransfer:
                OnTransferred(slot, ref work, result);
                break;
            case Stage.Allocate:
                OnAllocated(slot, ref work, result);
                break;
            case Stage.ZeroFill:
                OnZeroFilled(slot, ref work, result);
                break;
            case Stage.Erase:
                OnErased(slot, ref work, result);
                break;
            case Stage.DiscardCommand:
            case Stage.Discard:
                OnDiscarded(slot, ref work, result);
                break;
            default:
                Environment.FailFast($"Slot {slot} heard of an operation it did not start.");
                break;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        NativeMemory.Free(_ownPieces);
        _ownPieces = null;
        NativeMemory.AlignedFree(_zeros);
        _zeros = null;
        _bounceBuffers?.Dispose();
    }

    private void StartTransfer(int slot, ref Work work)
    {
        if (work.Request.LengthBytes == 0)
        {
            Complete(slot, ref work, DiskOutcome.Done);
            return;
        }

        if (_bounceBuffers != null && !IsAligned(in work.Request, _disk.DirectAlignment!.Value.MemoryBytes))
        {
            work.Stage = Stage.BouncedTransfer;
            work.Bounce = _bounceBuffers.Rent();
        }
        else
        {
            work.Stage = Stage.Transfer;
        }

        Transfer(slot, ref work);
    }

    // Starts what is left of a transfer.
    private void Transfer(int slot, ref Work work)
    {
        ref DiskRequest request = ref work.Request;
        // Once more, though the request was checked when it was parsed: a write beyond the end of a file that was cut since would make
        // it grow again.
        if (!IsInside(request.OffsetBytes, request.LengthBytes))
        {
            Complete(slot, ref work, DiskOutcome.Failed);
            return;
        }

        Iovec* pieces = request.Pieces;
        int count = Math.Min(request.PieceCount, IIoEngine.MaxPieces);
        if (work.Stage == Stage.BouncedTransfer)
        {
            var chunk = new Iovec(work.Bounce, Math.Min(request.LengthBytes, BounceBuffers.SizeBytes));
            if (request.Operation == DiskOperation.Write)
            {
                Iovec.Gather(request.Pieces, request.PieceCount, new Span<byte>(chunk.Base, (int)chunk.LengthBytes));
            }

            pieces = _ownPieces + slot;
            *pieces = chunk;
            count = 1;
        }

        if (request.Operation == DiskOperation.Read)
        {
            _engine.Read(_file, pieces, count, request.OffsetBytes, (uint)slot);
        }
        else if (_inlineWrites != null && _inlineWrites.TryWrite(in request, count, out int result))
        {
            OnIoCompleted(slot, result);
        }
        else
        {
            _engine.Write(_file, pieces, count, request.OffsetBytes, request.Durable, (uint)slot);
        }
    }

    // A transfer that failed, was short, or went through a bounce buffer.
    private void OnTransferred(int slot, ref Work work, int result)
    {
        ref DiskRequest request = ref work.Request;
        // 0 is the end of the file: somebody cut it short under us.
        if (result <= 0)
        {
            Complete(slot, ref work, OutcomeOfError(in request, result));
            return;
        }

        if (work.Stage == Stage.BouncedTransfer && request.Operation == DiskOperation.Read)
        {
            Iovec.Scatter(new ReadOnlySpan<byte>(work.Bounce, result), request.Pieces, request.PieceCount);
        }

        work.Retries = 0;
        if (!IsInside(request.OffsetBytes, (uint)result))
        {
            Complete(slot, ref work, DiskOutcome.Failed);
            return;
        }

        request.OffsetBytes += (uint)result;
        request.LengthBytes -= (uint)result;
        Iovec.Advance(ref request.Pieces, ref request.PieceCount, (uint)result);
        if (request.LengthBytes == 0)
        {
            Complete(slot, ref work, DiskOutcome.Done);
        }
        else
        {
            Transfer(slot, ref work);
        }
    }

    private void StartFlush(int slot, ref Work work)
    {
        if (_disk.Properties.ReadOnly)
        {
            Complete(slot, ref work, DiskOutcome.Done);
        }
        else
        {
            StartSync(slot, ref work);
        }
    }

    private void StartSync(int slot, ref Work work)
    {
        work.Stage = Stage.Sync;
        if (!_sync.TryStart(slot))
        {
            Complete(slot, ref work, DiskOutcome.Failed);
        }
    }

    private void Repeat(int slot, ref Work work)
    {
        switch (work.Stage)
        {
            case Stage.Transfer:
            case Stage.BouncedTransfer:
                Transfer(slot, ref work);
                break;
            case Stage.Allocate:
            case Stage.Erase:
            case Stage.DiscardCommand:
            case Stage.Discard:
                StartRange(slot, ref work);
                break;
            default:
                ZeroFill(slot, ref work);
                break;
        }
    }

    // EIO of a durable write may come from the sync half of it, and then stands for writes before this one too: fsync(2) reports
    // an error once, and this was it.
    private DiskOutcome OutcomeOfError(in DiskRequest request, int result)
    {
        if (request.Durable && result == -EIO)
        {
            _disk.LoseDurability();
        }

        // Of a write beyond the end of a device the kernel says that there is no space; and one that was taken away ends at its first byte.
        return result is -ENOSPC or -EDQUOT && !_disk.HasLost(request.OffsetBytes + request.LengthBytes) ? DiskOutcome.NoSpace : DiskOutcome.Failed;
    }

    private void Complete(int slot, ref Work work, DiskOutcome outcome)
    {
        work.Stage = Stage.Idle;
        if (work.Bounce != null)
        {
            _bounceBuffers!.Return(work.Bounce);
            work.Bounce = null;
        }

        // A sync at the same time may have heard of an error that concerns this request too.
        if (_disk.DurabilityLost && work.Request.Durable)
        {
            outcome = DiskOutcome.Failed;
        }

        _completions.OnCompleted(slot, outcome);
    }

    // Offsets come checked against a capacity that may have been larger, so the sum does not wrap.
    private bool IsInside(ulong offsetBytes, ulong lengthBytes) => offsetBytes + lengthBytes <= _disk.Properties.CapacityBytes;

    private static bool IsAligned(in DiskRequest request, uint memoryAlignmentBytes)
    {
        nuint bits = 0;
        for (int i = 0; i < request.PieceCount; i++)
        {
            bits |= (nuint)request.Pieces[i].Base | request.Pieces[i].LengthBytes;
        }

        return (bits & (memoryAlignmentBytes - 1)) == 0;
    }

    // A request in progress.
    private struct Work
    {
        public DiskRequest Request;
        public Stage Stage;
        public int Retries;
        public int RangeIndex;
        public ulong RangeDoneBytes;
        public byte* Bounce;

        public readonly DiskRange Range => Request.Ranges[RangeIndex];
    }
}
