using VirtioBlkFlow.Disks.Engine;

namespace VirtioBlkFlow.Disks.Wrapping;

/// <summary>
/// One queue's way through an error policy. The disk behind may use up the lists of pieces and ranges of a request, so it gets copies, and
/// each try begins with what the caller gave. Owned by the queue's thread.
/// </summary>
internal sealed unsafe class ErrorPolicyQueue : IDiskQueue, IDiskCompletions, IAgendaEntry
{
    // Fixed at construction.
    private readonly ErrorPolicyDisk _disk;
    private readonly IDiskQueue _inner;
    private readonly EngineAgenda _agenda;
    private readonly IDiskCompletions _completions;
    private readonly int _retries;
    private readonly long _retryDelayNs;
    private readonly LastResort _then;
    private readonly Action _onResume;
    private readonly Try[] _tries;
    private readonly SlotLists _lists;

    // Owned by the queue's thread.
    private int _heldCount;
    private int _waitingCount;
    private bool _isClosed;

    public ErrorPolicyQueue(ErrorPolicyDisk disk, IDisk inner, IIoEngine engine, IDiskCompletions completions, int slotCount)
    {
        _disk = disk;
        _inner = inner.OpenQueue(engine, this, slotCount);
        _agenda = engine.Agenda;
        _completions = completions;
        _retries = disk.Options.Retries;
        _retryDelayNs = (long)disk.Options.RetryDelay.TotalNanoseconds;
        _then = disk.Options.Then;
        _tries = new Try[slotCount];
        _lists = new SlotLists(slotCount);
        _onResume = ResumeHeld;
        disk.Add(_agenda, _onResume);
    }

    private enum Stage : byte
    {
        Idle,
        Tried,

        // Until it is tried again.
        Waiting,
        Held,
    }

    /// <inheritdoc/>
    public void Submit(int slot, in DiskRequest request)
    {
        ref Try one = ref _tries[slot];
        one.Request = request;
        one.Retries = 0;
        Begin(slot, ref one);
    }

    /// <inheritdoc/>
    public void OnIoCompleted(int slot, int result) => _inner.OnIoCompleted(slot, result);

    /// <inheritdoc/>
    public void OnTime(int token)
    {
        _waitingCount--;
        Begin(token, ref _tries[token]);
    }

    /// <summary>What is held fails, and what waits for another try gets its last one now.</summary>
    public bool EndHeld()
    {
        bool any = _heldCount + _waitingCount > 0;
        for (int slot = 0; slot < _tries.Length && _heldCount + _waitingCount > 0; slot++)
        {
            ref Try one = ref _tries[slot];
            if (one.Stage == Stage.Held)
            {
                CountHeld(-1);
                Complete(slot, ref one, one.Outcome);
            }
            else if (one.Stage == Stage.Waiting)
            {
                _agenda.Cancel(this, slot);
                _waitingCount--;
                one.Retries = _retries;
                Begin(slot, ref one);
            }
        }

        return _inner.EndHeld() | any;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _inner.Dispose();
        _lists.Dispose();
        if (!_isClosed)
        {
            _isClosed = true;
            _disk.Remove(_onResume);
            _agenda.Forget(this);
        }
    }

    void IDiskCompletions.OnAppended(int slot, ulong offsetBytes) => _completions.OnAppended(slot, offsetBytes);

    void IDiskCompletions.OnCompleted(int slot, DiskOutcome outcome)
    {
        ref Try one = ref _tries[slot];
        if (outcome is not (DiskOutcome.Failed or DiskOutcome.NoSpace) || !MayBeRepeated(one.Request.Operation))
        {
            Complete(slot, ref one, outcome);
        }
        else if (one.Retries < _retries)
        {
            one.Retries++;
            one.Stage = Stage.Waiting;
            _waitingCount++;
            _agenda.After(this, slot, _retryDelayNs);
        }
        else if (_then == LastResort.Hold || (_then == LastResort.HoldNoSpace && outcome == DiskOutcome.NoSpace))
        {
            one.Stage = Stage.Held;
            one.Outcome = outcome;
            CountHeld(1);
        }
        else
        {
            Complete(slot, ref one, outcome);
        }
    }

    // What has the same effect however often it is done. To append is not, and a flush must not be: see ErrorPolicyDisk.
    private static bool MayBeRepeated(DiskOperation operation) => operation
        is DiskOperation.Read or DiskOperation.Write or DiskOperation.Discard or DiskOperation.WriteZeroes or DiskOperation.SecureErase;

    private void Begin(int slot, ref Try one)
    {
        one.Stage = Stage.Tried;
        DiskRequest copy = one.Request;
        if (copy.PieceCount > 0)
        {
            copy.Pieces = _lists.Pieces(slot, copy.PieceCount);
            new ReadOnlySpan<Iovec>(one.Request.Pieces, copy.PieceCount).CopyTo(new Span<Iovec>(copy.Pieces, copy.PieceCount));
        }
        else if (copy.RangeCount > 0)
        {
            copy.Ranges = _lists.Ranges(slot, copy.RangeCount);
            new ReadOnlySpan<DiskRange>(one.Request.Ranges, copy.RangeCount).CopyTo(new Span<DiskRange>(copy.Ranges, copy.RangeCount));
        }

        _inner.Submit(slot, in copy);
    }

    private void ResumeHeld()
    {
        for (int slot = 0; slot < _tries.Length && _heldCount > 0 && !_isClosed; slot++)
        {
            ref Try one = ref _tries[slot];
            if (one.Stage == Stage.Held)
            {
                CountHeld(-1);
                one.Retries = 0;
                Begin(slot, ref one);
            }
        }
    }

    private void CountHeld(int change)
    {
        _heldCount += change;
        _disk.CountHeld(change);
    }

    private void Complete(int slot, ref Try one, DiskOutcome outcome)
    {
        one.Stage = Stage.Idle;
        _completions.OnCompleted(slot, outcome);
    }

    // A request as it was given, and how far it has got.
    private struct Try
    {
        public DiskRequest Request;
        public int Retries;
        public Stage Stage;
        public DiskOutcome Outcome;
    }
}
