using VirtioBlkFlow.Disks.Engine;

namespace VirtioBlkFlow.Disks.Refresh;

/// <summary>One queue's way to a disk that is refreshed: counts requests, and holds those that a rewrite must not meet. Owned by the queue's thread.</summary>
internal sealed class RefreshQueue : IDiskQueue, IDiskCompletions
{
    // Fixed at construction.
    private readonly GuestTraffic _traffic;
    private readonly IDiskQueue _inner;
    private readonly IDiskCompletions _completions;
    private readonly Action _onReleased;
    private readonly DiskRequest[] _requests;
    private readonly bool[] _isHeld;

    // Owned by the queue's thread.
    private int _heldCount;
    private bool _isClosed;

    // Written by the queue's thread, read by that of the refresh.
    private ulong _begunCount;
    private ulong _endedCount;

    public RefreshQueue(GuestTraffic traffic, IDisk inner, IIoEngine engine, IDiskCompletions completions, int slotCount)
    {
        _traffic = traffic;
        _completions = completions;
        _requests = new DiskRequest[slotCount];
        _isHeld = new bool[slotCount];
        _onReleased = PassHeld;
        _inner = inner.OpenQueue(engine, this, slotCount);
        traffic.Add(this, engine.Agenda, _onReleased);
    }

    /// <summary>Requests that came so far. From any thread.</summary>
    public ulong BegunCount => Volatile.Read(ref _begunCount);

    /// <summary>Requests that have ended so far. From any thread.</summary>
    public ulong EndedCount => Volatile.Read(ref _endedCount);

    /// <inheritdoc/>
    public void Submit(int slot, in DiskRequest request)
    {
        // First the count, then the claim: see GuestTraffic.
        Volatile.Write(ref _begunCount, _begunCount + 1);
        if (_traffic.Claim is { } claim && claim.IsChangedBy(in request))
        {
            Hold(slot, in request);
            return;
        }

        _inner.Submit(slot, in request);
    }

    /// <inheritdoc/>
    public void OnIoCompleted(int slot, int result) => _inner.OnIoCompleted(slot, result);

    /// <summary>What is held goes on when the rewrite has ended, and not before; it is told to hurry.</summary>
    public bool EndHeld()
    {
        if (_heldCount > 0)
        {
            _traffic.Hurry?.Invoke();
        }

        return _inner.EndHeld();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (!_isClosed)
        {
            _isClosed = true;
            _traffic.Remove(this, _onReleased);
        }

        _inner.Dispose();
    }

    void IDiskCompletions.OnCompleted(int slot, DiskOutcome outcome)
    {
        Volatile.Write(ref _endedCount, _endedCount + 1);
        _completions.OnCompleted(slot, outcome);
    }

    void IDiskCompletions.OnAppended(int slot, ulong offsetBytes) => _completions.OnAppended(slot, offsetBytes);

    private void Hold(int slot, in DiskRequest request)
    {
        _requests[slot] = request;
        _isHeld[slot] = true;
        _heldCount++;
        _traffic.NoteHeld();
        if (_traffic.Claim is not { } claim || !claim.IsChangedBy(in request))
        {
            // It was given back meanwhile, and nobody may know of this request.
            PassHeld();
        }
    }

    private void PassHeld()
    {
        for (int slot = 0; slot < _isHeld.Length && _heldCount > 0 && !_isClosed; slot++)
        {
            if (!_isHeld[slot])
            {
                continue;
            }

            if (_traffic.Claim is { } claim && claim.IsChangedBy(in _requests[slot]))
            {
                // Another claim, which will not come to anything, because this request is under way.
                _traffic.NoteHeld();
                if (_traffic.Claim is { } still && still.IsChangedBy(in _requests[slot]))
                {
                    continue;
                }
            }

            _isHeld[slot] = false;
            _heldCount--;
            _inner.Submit(slot, in _requests[slot]);
        }
    }
}
