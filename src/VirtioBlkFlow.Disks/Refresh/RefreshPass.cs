using VirtioBlkFlow.Disks.Engine;

namespace VirtioBlkFlow.Disks.Refresh;

/// <summary>
/// Reads a disk from its beginning to its end, one piece at a time, and writes each piece again if asked to. Between pieces it waits for its
/// rate, and for the guest to be quiet. Owned by the thread of its engine.
/// </summary>
internal sealed unsafe class RefreshPass : IDiskCompletions, IAgendaEntry, IDisposable
{
    /// <summary>A piece. Arbitrary: some milliseconds of an eMMC, for which a write of the guest to the same place would have to wait.</summary>
    public const int PieceBytes = 128 << 10;

    private const int WriteTries = 3;

    private const int Slot = 0;

    // While something else forbids to rewrite. Arbitrary: it takes minutes to change.
    private const long ForbiddenNs = 1_000_000_000;

    // With no quiet time at all (in tests): the guest gets a chance to end its requests.
    private const long LeastPauseNs = 100_000;

    // Fixed at construction.
    private readonly IDisk _disk;
    private readonly EngineAgenda _agenda;
    private readonly GuestTraffic _traffic;
    private readonly RefreshOptions _options;
    private readonly Action<RefreshStatus> _publish;
    private readonly IDiskQueue _queue;
    private readonly uint _blockBytes;
    private readonly long _quietNs;
    private readonly byte* _piece = (byte*)NativeMemory.AlignedAlloc(PieceBytes, 4096);
    private readonly Iovec* _iovec = (Iovec*)NativeMemory.AllocZeroed(1, (nuint)sizeof(Iovec));

    // Owned by the engine's thread.
    private RefreshStatus _status;
    private Stage _stage;
    private bool _isStopping;
    private bool _isHurried;
    private bool _hasClaim;
    private ulong _seenBegun;
    private long _quietFromNs;
    private long _nextNs;

    // The piece: where, how long, what of it is being written, how often that failed. Below _carefulUntil it is a block.
    private ulong _startBytes;
    private uint _lengthBytes;
    private uint _writeStart;
    private uint _writeLength;
    private int _failedWrites;
    private ulong _carefulUntil;
    private DiskExtent _lastUnreadable;

    /// <summary>Opens a way to the disk of its own.</summary>
    public RefreshPass(
        IDisk disk, IIoEngine engine, GuestTraffic traffic, RefreshOptions options, bool rewrites, Action<RefreshStatus> publish)
    {
        _disk = disk;
        _agenda = engine.Agenda;
        _traffic = traffic;
        _options = options;
        _publish = publish;
        _status = new RefreshStatus { State = RefreshState.Running, Rewrites = rewrites };
        DiskProperties properties = disk.Properties;
        _blockBytes = Math.Clamp(properties.PhysicalBlockBytes, properties.LogicalBlockBytes, PieceBytes);
        _quietNs = (long)options.Quiet.TotalNanoseconds;
        _queue = disk.OpenQueue(engine, this, Slot + 1);
    }

    private enum Stage
    {
        Waiting,
        Reading,
        Writing,
        Ended,
    }

    /// <summary>Whether it has come to an end, whichever.</summary>
    public bool HasEnded => _stage == Stage.Ended;

    /// <summary>Begins at the beginning of the disk.</summary>
    public void Begin()
    {
        _publish(_status);
        _seenBegun = _traffic.Look().Begun;
        _agenda.After(this, 0, 0);
    }

    /// <summary>Ends as soon as nothing is in flight.</summary>
    public void Stop()
    {
        _isStopping = true;
        if (_stage == Stage.Waiting)
        {
            End(RefreshState.Stopped, null);
        }
        else
        {
            Hurry();
        }
    }

    /// <summary>Somebody waits for the piece: what is held back on purpose below must not hold it up.</summary>
    public void Hurry()
    {
        if (_stage is Stage.Reading or Stage.Writing)
        {
            _isHurried = true;
            _queue.EndHeld();
        }
    }

    /// <inheritdoc/>
    public void OnTime(int token)
    {
        if (_stage == Stage.Waiting)
        {
            BeginPiece();
        }
    }

    /// <summary>A turn of the thread ends: what is below may hold something back for some time, and is told again until the piece has ended.</summary>
    public void EndTurn()
    {
        if (_isHurried)
        {
            Hurry();
        }
    }

    /// <summary>An operation of its queue has ended.</summary>
    public void OnIoCompleted(int slot, int result) => _queue.OnIoCompleted(slot, result);

    /// <inheritdoc/>
    public void Dispose()
    {
        _agenda.Forget(this);
        _queue.Dispose();
        NativeMemory.AlignedFree(_piece);
        NativeMemory.Free(_iovec);
    }

    void IDiskCompletions.OnCompleted(int slot, DiskOutcome outcome)
    {
        if (_stage == Stage.Reading)
        {
            OnRead(outcome);
        }
        else
        {
            OnWritten(outcome);
        }
    }

    private void BeginPiece()
    {
        ulong capacityBytes = _disk.Properties.CapacityBytes;
        if (_status.PositionBytes >= capacityBytes && !TryBeginAnew())
        {
            End(RefreshState.Finished, null);
            return;
        }

        long now = _agenda.NowNs;
        (ulong begun, bool isIdle) = _traffic.Look();
        if (begun != _seenBegun || !isIdle)
        {
            _seenBegun = begun;
            _quietFromNs = now + _quietNs;
        }

        bool isForbidden = _status.Rewrites && _options.MayRewriteNow?.Invoke() == false;
        if (!isIdle || now < _quietFromNs || isForbidden)
        {
            Pause(isForbidden ? ForbiddenNs : _quietNs);
            return;
        }

        _startBytes = _status.PositionBytes;
        _lengthBytes = (uint)Math.Min(_startBytes < _carefulUntil ? _blockBytes : PieceBytes, capacityBytes - _startBytes);
        if (_status.Rewrites)
        {
            _hasClaim = _traffic.TryClaim(_startBytes, _lengthBytes);
            if (!_hasClaim)
            {
                Pause(_quietNs);
                return;
            }
        }

        // A rest is not made up for: it never goes faster than its rate.
        _nextNs = Math.Max(now, _nextNs) + (long)(_lengthBytes * (1e9 / _options.BytesPerSecond));
        _stage = Stage.Reading;
        Submit(DiskOperation.Read, 0, _lengthBytes);
    }

    private bool TryBeginAnew()
    {
        if (!_options.Repeats)
        {
            return false;
        }

        _status = _status with { PositionBytes = 0 };
        _carefulUntil = 0;
        return true;
    }

    private void Pause(long pauseNs)
    {
        Publish(_status with { Pauses = _status.Pauses + 1 });
        _agenda.After(this, 0, Math.Max(pauseNs, LeastPauseNs));
    }

    private void OnRead(DiskOutcome outcome)
    {
        if (outcome != DiskOutcome.Done)
        {
            OnUnreadable();
            return;
        }

        Publish(_status with { ReadBytes = _status.ReadBytes + _lengthBytes });
        _writeStart = 0;
        _writeLength = 0;
        _failedWrites = 0;
        if (_status.Rewrites && !_isStopping)
        {
            _stage = Stage.Writing;
            WriteNext();
        }
        else
        {
            EndPiece();
        }
    }

    // What is wrong may be one block of it: block by block, then.
    private void OnUnreadable()
    {
        if (_startBytes + _lengthBytes > _disk.Properties.CapacityBytes)
        {
            // The disk is smaller than it was. The next piece is measured anew.
            EndPiece(doneBytes: 0);
        }
        else if (_lengthBytes > _blockBytes)
        {
            _carefulUntil = _startBytes + _lengthBytes;
            EndPiece(doneBytes: 0);
        }
        else
        {
            NoteUnreadable();
            EndPiece();
        }
    }

    private void NoteUnreadable()
    {
        IReadOnlyList<DiskExtent> known = _status.Unreadable;
        bool goesOn = _lastUnreadable.LengthBytes > 0 && _lastUnreadable.OffsetBytes + _lastUnreadable.LengthBytes == _startBytes;
        DiskExtent extent = goesOn ? _lastUnreadable with { LengthBytes = _lastUnreadable.LengthBytes + _lengthBytes } : new DiskExtent(_startBytes, _lengthBytes);
        if (goesOn && known.Count > 0 && known[^1] == _lastUnreadable)
        {
            known = [.. known.Take(known.Count - 1), extent];
        }
        else if (!goesOn && known.Count < RefreshStatus.MostUnreadable)
        {
            known = [.. known, extent];
        }

        _lastUnreadable = extent;
        Publish(_status with { UnreadableBytes = _status.UnreadableBytes + _lengthBytes, Unreadable = known });
        Say(RefreshNoticeKind.Unreadable, _startBytes, _lengthBytes);
    }

    // Blocks of zeros are left alone: in a sparse image they take no space, and would after that.
    private void WriteNext()
    {
        uint start = _writeStart + _writeLength;
        while (start < _lengthBytes && IsZero(start))
        {
            start += _blockBytes;
        }

        if (start >= _lengthBytes)
        {
            EndPiece();
            return;
        }

        uint end = start;
        while (end < _lengthBytes && !IsZero(end))
        {
            end += _blockBytes;
        }

        _writeStart = start;
        _writeLength = Math.Min(end, _lengthBytes) - start;
        Submit(DiskOperation.Write, _writeStart, _writeLength);
    }

    private bool IsZero(uint blockStart) =>
        new ReadOnlySpan<byte>(_piece + blockStart, (int)Math.Min(_blockBytes, _lengthBytes - blockStart)).IndexOfAnyExcept((byte)0) < 0;

    private void OnWritten(DiskOutcome outcome)
    {
        if (outcome == DiskOutcome.Done)
        {
            Publish(_status with { RewrittenBytes = _status.RewrittenBytes + _writeLength });
            WriteNext();
        }
        else if (++_failedWrites < WriteTries)
        {
            // What it was is still here, and may be nowhere else now.
            Submit(DiskOperation.Write, _writeStart, _writeLength);
        }
        else
        {
            // A device that cannot write loses what it is told to write again.
            Publish(_status with
            {
                Rewrites = false,
                Error = $"{_writeLength} bytes at {_startBytes + _writeStart} could not be written again ({outcome}). Nothing is rewritten any more.",
            });
            Say(RefreshNoticeKind.NotRewritten, _startBytes + _writeStart, _writeLength);
            EndPiece();
        }
    }

    private void EndPiece() => EndPiece(_lengthBytes);

    private void EndPiece(uint doneBytes)
    {
        if (_hasClaim)
        {
            _hasClaim = false;
            _traffic.Release();
        }

        _isHurried = false;
        _stage = Stage.Waiting;
        Publish(_status with { PositionBytes = _startBytes + doneBytes });
        if (_isStopping)
        {
            End(RefreshState.Stopped, null);
        }
        else
        {
            _agenda.After(this, 0, _nextNs - _agenda.NowNs);
        }
    }

    private void End(RefreshState state, string? error)
    {
        _stage = Stage.Ended;
        Publish(_status with { State = state, Error = error ?? _status.Error });
        if (state == RefreshState.Finished)
        {
            Say(RefreshNoticeKind.Finished, 0, _status.PositionBytes);
        }
    }

    private void Submit(DiskOperation operation, uint start, uint lengthBytes)
    {
        *_iovec = new Iovec(_piece + start, lengthBytes);
        _queue.Submit(Slot, new DiskRequest
        {
            Operation = operation,
            OffsetBytes = _startBytes + start,
            LengthBytes = lengthBytes,
            Pieces = _iovec,
            PieceCount = 1,
        });
        if (_isHurried)
        {
            _queue.EndHeld();
        }
    }

    private void Publish(RefreshStatus status)
    {
        _status = status;
        _publish(status);
    }

    private void Say(RefreshNoticeKind kind, ulong offsetBytes, ulong lengthBytes) =>
        _options.Noticed?.Invoke(new RefreshNotice(kind, offsetBytes, lengthBytes, _status));
}
