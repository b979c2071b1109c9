namespace VirtioBlkFlow.Disks.Nbd;

/// <content>
/// Sessions and time. A session is taken when there is something to send and given back when all of it is done; while others wait for one it
/// is given back after a turn. One timer looks after servers that are silent and requests that wait for too long.
/// </content>
internal sealed unsafe partial class NbdDiskQueue
{
    private const string Renewed = "Another connection to the server was lost.";

    // Commands that a queue sends before it lets another one have the session. Arbitrary: enough to fill a server, few enough for a turn to
    // be short.
    private const int TurnCommands = 64;

    // Fixed at construction. The actions are made once: to post one allocates nothing.
    private readonly NbdWaiter _waiter;
    private readonly Action _onOffered;
    private readonly Action _onNewGeneration;
    private readonly Action _postNewGeneration;

    // Owned by the queue's thread.
    private int _sentSinceTaken;
    private bool _isWaiting;
    private bool _isPumping;
    private bool _isClosed;
    private bool _hasTimer;
    private long _timerNs;
    private long _drainSinceNs;
    private bool _drainGivesUp;

    // Whether nothing more is sent on the session: it knows an old size only, or it is another queue's turn.
    private bool IsRetiring =>
        _link.Session!.SizeVersion != _pool.SizeVersion || (_sentSinceTaken >= TurnCommands && _pool.HasWaiters);

    /// <inheritdoc/>
    public bool EndHeld()
    {
        if (_outstanding == 0)
        {
            return false;
        }

        long now = _agenda.NowNs;
        if (_drainSinceNs == 0)
        {
            _drainSinceNs = now;
        }

        if (_link.Session == null && _pool.IsDown)
        {
            FailPending();
            Pump();
            return true;
        }

        // Who waits for a turn waits for what others have asked.
        long quietNs = now - Math.Max(_drainSinceNs, _link.Session == null ? _pool.LastProgressNs : _link.LastProgressNs);
        long leftNs = (long)DrainPatience.TotalNanoseconds - quietNs;
        if (_link.IsFailing)
        {
            return false;
        }

        if (leftNs > 0)
        {
            SetTimer(leftNs);
            return false;
        }

        if (_link.Session == null)
        {
            FailPending();
        }
        else
        {
            _drainGivesUp = true;
            _link.Fail("The server was silent while a queue was to stop.");
        }

        Pump();
        return true;
    }

    /// <inheritdoc/>
    public void OnTime(int token)
    {
        _hasTimer = false;
        if (_outstanding == 0)
        {
            return;
        }

        // Without replies to come there may still be something to be sent.
        if (_link.Session != null && !_link.IsQuiet
            && _agenda.NowNs - _link.LastProgressNs >= _disk.Options.Timeout.TotalNanoseconds)
        {
            _link.Fail($"The server was silent for {_disk.Options.Timeout.TotalSeconds:0.###} s.");
        }

        Pump();
        SetTimer(NanosecondsToLook());
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_isClosed)
        {
            return;
        }

        _isClosed = true;
        _agenda.Forget(this);
        _pool.Remove(_postNewGeneration, _waiter);
        _durability.Close(_mark);
        if (_link.Session is { } session)
        {
            // Sessions are given back when all is done. Something was not: the engine ended first.
            session.Socket.Shutdown();
            _pool.Lose(session, "The queue ended with requests in flight.");
        }

        _link.Dispose();
    }

    void INbdLinkOwner.OnProgress()
    {
        if (_pool.HasWaiters)
        {
            _pool.NoteProgress(_link.LastProgressNs);
        }

        Pump();
    }

    void INbdLinkOwner.OnFailed(NbdSession session, string reason)
    {
        // Who hears of an end may come with new requests, which must not be sent before all of these are in line again.
        bool wasPumping = _isPumping;
        _isPumping = true;
        _pool.Lose(session, reason);
        for (int slot = 0; slot < _works.Length; slot++)
        {
            ref NbdWork work = ref _works[slot];
            switch (work.State)
            {
                case NbdWorkState.Sent when work.Replays < MaxReplays:
                    work.Replays++;
                    work.Restart();
                    Queue(slot, ref work);
                    break;
                case NbdWorkState.Sent:
                    Complete(slot, ref work, DiskOutcome.Failed);
                    break;
                case NbdWorkState.Pending:
                    work.Restart();
                    break;
                default:
                    break;
            }
        }

        if (_drainGivesUp)
        {
            _drainGivesUp = false;
            FailPending();
        }

        _isPumping = wasPumping;
    }

    private TimeSpan DrainPatience => _disk.Options.Timeout < _disk.Options.DrainPatience ? _disk.Options.Timeout : _disk.Options.DrainPatience;

    // Does what can be done now: takes a session, sends, gives it back.
    private void Pump()
    {
        // Whoever is inside comes here when it is done.
        if (_isPumping || _link.IsInside || _isClosed)
        {
            return;
        }

        _isPumping = true;
        while (PumpOnce())
        {
        }

        _isPumping = false;
        if (_outstanding > 0 && !_hasTimer)
        {
            SetTimer(NanosecondsToLook());
        }
    }

    // Whether there may be more to do.
    private bool PumpOnce()
    {
        if (_link.IsFailing)
        {
            return false;
        }

        if (_link.Session == null)
        {
            return TryTakeSession();
        }

        _link.Send();
        if (_link.Session == null || !_link.IsQuiet || (_pendingCount > 0 && !IsRetiring))
        {
            return false;
        }

        if (_link.End() is { } session)
        {
            _pool.Release(session);
        }

        return _pendingCount > 0;
    }

    private bool TryTakeSession()
    {
        if (_pendingCount > 0 && _pool.IsGivenUp)
        {
            _pool.NoteGivenUp();
            FailPending();
        }

        if (_pendingCount == 0 || _isWaiting)
        {
            StopWaitingForNothing();
            return false;
        }

        if (_pool.TakeOrWait(_waiter) is { } session)
        {
            Begin(session);
            return true;
        }

        _isWaiting = true;
        SetTimer(NanosecondsToLook());
        return false;
    }

    private void StopWaitingForNothing()
    {
        if (_isWaiting && _pendingCount == 0)
        {
            _isWaiting = false;
            _pool.Withdraw(_waiter);
        }
    }

    private void Begin(NbdSession session)
    {
        _sentSinceTaken = 0;
        _link.Begin(session);
    }

    // A session is there, or was meanwhile given to somebody else because we did not want it any more.
    private void OnOffered()
    {
        if (_isClosed || _pool.Collect(_waiter) is not { } session)
        {
            return;
        }

        _isWaiting = false;
        if (_pendingCount == 0)
        {
            _pool.Release(session);
            return;
        }

        Begin(session);
        Pump();
    }

    private void OnNewGeneration()
    {
        if (!_isClosed && _link.Session is { } session && session.Generation != _durability.Generation)
        {
            _link.Fail(Renewed);
            Pump();
        }
    }

    // All that wait fail, and no others: who hears of it may come with new requests at once.
    private void FailPending()
    {
        bool wasPumping = _isPumping;
        _isPumping = true;
        for (int count = _pendingCount; count > 0; count--)
        {
            int slot = Dequeue();
            Complete(slot, ref _works[slot], DiskOutcome.Failed);
        }

        StopWaitingForNothing();
        _isPumping = wasPumping;
    }

    // When something may have lasted too long.
    private long NanosecondsToLook()
    {
        long timeoutNs = (long)_disk.Options.Timeout.TotalNanoseconds;
        return _link.Session == null ? Math.Min(timeoutNs, _pool.NanosecondsToGiveUp) : timeoutNs - (_agenda.NowNs - _link.LastProgressNs);
    }

    private void SetTimer(long delayNs)
    {
        // Never again and again for nothing, if a clock and a deadline disagree about an instant.
        long dueNs = _agenda.NowNs + Math.Max(delayNs, 1_000_000);
        if (_hasTimer)
        {
            if (_timerNs <= dueNs)
            {
                return;
            }

            _agenda.Cancel(this, 0);
        }

        _hasTimer = true;
        _timerNs = dueNs;
        _agenda.After(this, 0, dueNs - _agenda.NowNs);
    }
}
