using static VirtioBlkFlow.Disks.LibC;

namespace VirtioBlkFlow.Disks.File;

/// <content>Discards, zeroes and erasures: one range after the other, each by what the file can do, and a sync at the end if asked for.</content>
internal sealed unsafe partial class FileDiskQueue
{
    // A range is zeroed by writing where the file system cannot do it: this much at a time. Arbitrary.
    private const uint ZeroChunkBytes = 1 << 20;

    // Owned by the queue's thread; made when the first range needs it.
    private byte* _zeros;

    private void StartNextRange(int slot, ref Work work)
    {
        while (++work.RangeIndex < work.Request.RangeCount)
        {
            if (work.Range.LengthBytes != 0)
            {
                StartRange(slot, ref work);
                return;
            }
        }

        if (work.Request.Durable)
        {
            // What a range became is metadata, which only a sync makes durable.
            StartSync(slot, ref work);
        }
        else
        {
            Complete(slot, ref work, DiskOutcome.Done);
        }
    }

    private void StartRange(int slot, ref Work work)
    {
        if (work.Request.Operation == DiskOperation.SecureErase)
        {
            // A range begins as the request's argument does: offset and length in bytes.
            work.Stage = Stage.Erase;
            _engine.Ioctl(_file, BLKSECDISCARD, work.Request.Ranges + work.RangeIndex, (uint)slot);
            return;
        }

        if (work.Request.Operation == DiskOperation.Discard && _disk.IsBlockDevice)
        {
            StartDiscard(slot, ref work);
            return;
        }

        bool punch = work.Request.Operation == DiskOperation.Discard || (work.Range.MayDeallocate && !_disk.ZeroesAreWritten);
        if (!punch && _disk.ZeroRangeUnsupported)
        {
            StartZeroFill(slot, ref work);
            return;
        }

        work.Stage = Stage.Allocate;
        _engine.Fallocate(
            _file,
            FALLOC_FL_KEEP_SIZE | (punch ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE),
            work.Range.OffsetBytes,
            work.Range.LengthBytes,
            (uint)slot);
    }

    // To punch a hole into a block device is to zero it: the device may discard without being able to do that.
    private void StartDiscard(int slot, ref Work work)
    {
        work.Stage = Stage.DiscardCommand;
        if (!_disk.CanDiscardByCommand || !_engine.TryDiscard(_file, work.Range.OffsetBytes, work.Range.LengthBytes, (uint)slot))
        {
            // A range begins as the request's argument does: offset and length in bytes.
            work.Stage = Stage.Discard;
            _engine.Ioctl(_file, BLKDISCARD, work.Request.Ranges + work.RangeIndex, (uint)slot);
        }
    }

    private void OnDiscarded(int slot, ref Work work, int result)
    {
        if (result is -EOPNOTSUPP or -EINVAL && work.Stage == Stage.DiscardCommand)
        {
            _disk.CanDiscardByCommand = false;
            StartDiscard(slot, ref work);
        }
        else if (result is 0 or -EOPNOTSUPP)
        {
            // A discard is a hint, which the device has heard.
            work.Retries = 0;
            StartNextRange(slot, ref work);
        }
        else
        {
            Complete(slot, ref work, OutcomeOfError(in work.Request, result));
        }
    }

    private void OnAllocated(int slot, ref Work work, int result)
    {
        bool discard = work.Request.Operation == DiskOperation.Discard;
        if (result == 0 || (result == -EOPNOTSUPP && discard))
        {
            // A discard is a hint: a file system that cannot free space has heard it.
            StartNextRange(slot, ref work);
        }
        else if (result == -EOPNOTSUPP)
        {
            if (!work.Range.MayDeallocate)
            {
                _disk.ZeroRangeUnsupported = true;
            }

            StartZeroFill(slot, ref work);
        }
        else
        {
            Complete(slot, ref work, OutcomeOfError(in work.Request, result));
        }
    }

    // What was not erased must not pass for erased: there is no falling back.
    private void OnErased(int slot, ref Work work, int result)
    {
        if (result < 0)
        {
            Complete(slot, ref work, DiskOutcome.Failed);
        }
        else
        {
            work.Retries = 0;
            StartNextRange(slot, ref work);
        }
    }

    private void StartZeroFill(int slot, ref Work work)
    {
        if (_zeros == null)
        {
            _zeros = (byte*)NativeMemory.AlignedAlloc(ZeroChunkBytes, 4096);
            NativeMemory.Clear(_zeros, ZeroChunkBytes);
        }

        work.Stage = Stage.ZeroFill;
        work.RangeDoneBytes = 0;
        ZeroFill(slot, ref work);
    }

    private void ZeroFill(int slot, ref Work work)
    {
        if (!IsInside(work.Range.OffsetBytes, work.Range.LengthBytes))
        {
            Complete(slot, ref work, DiskOutcome.Failed);
            return;
        }

        Iovec* piece = _ownPieces + slot;
        *piece = new Iovec(_zeros, (nuint)Math.Min(work.Range.LengthBytes - work.RangeDoneBytes, ZeroChunkBytes));
        _engine.Write(_file, piece, 1, work.Range.OffsetBytes + work.RangeDoneBytes, durable: false, (uint)slot);
    }

    private void OnZeroFilled(int slot, ref Work work, int result)
    {
        if (result <= 0)
        {
            Complete(slot, ref work, OutcomeOfError(in work.Request, result));
            return;
        }

        work.Retries = 0;
        work.RangeDoneBytes += (uint)result;
        if (work.RangeDoneBytes == work.Range.LengthBytes)
        {
            StartNextRange(slot, ref work);
        }
        else
        {
            ZeroFill(slot, ref work);
        }
    }
}
