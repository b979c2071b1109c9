using System.Diagnostics;

namespace VirtioBlkFlow.Disks.Nbd;

/// <summary>Somebody who waits for a session.</summary>
/// <param name="notify">Called once a session is there for it, from any thread, under the pool's lock: it must only pass that on.</param>
internal sealed class NbdWaiter(Action notify)
{
    /// <summary>What it has been given and not collected. Under the pool's lock.</summary>
    public NbdSession? Offered;

    public void Notify() => notify();
}

/// <summary>
/// The sessions of a disk. Queues take one while they have requests and give it back between them; if there are fewer than queues, they take
/// turns. One thread makes new ones, and makes one again when none is left, so that nobody else ever waits for a server. All under one lock, which
/// is held for a few instructions. Here is who has which session; the other part is about making them.
/// </summary>
internal sealed partial class NbdPool : IDisposable
{
    // Fixed at construction.
    private readonly NbdDiskOptions _options;
    private readonly NbdDurability _durability;
    private readonly Func<NbdExport, string?> _findFault;
    private readonly List<Action> _onNewGeneration = [];

    // Under the lock.
    private readonly object _lock = new();
    private readonly List<NbdSession> _sessions = new(NbdDiskOptions.MostConnections);
    private readonly Stack<NbdSession> _parked = new();
    private readonly LinkedList<NbdWaiter> _waiters = new();
    private int _limit;
    private bool _isStopping;
    private bool _isGivenUpSaid;
    private string _lastFailure = "";

    // Written under the lock, read without.
    private volatile int _count;
    private volatile int _waiterCount;
    private volatile int _sizeVersion;
    private long _downSince;

    // Written by who has a session while others wait for one, read by those. As agendas count, in nanoseconds.
    private long _lastProgressNs;

    /// <param name="options">How the server is used.</param>
    /// <param name="durability">Hears of losses.</param>
    /// <param name="findFault">What makes an export none of this disk, as a sentence; null for nothing.</param>
    /// <param name="first">The session that the disk was opened with.</param>
    public NbdPool(NbdDiskOptions options, NbdDurability durability, Func<NbdExport, string?> findFault, NbdSession first)
    {
        _options = options;
        _durability = durability;
        _findFault = findFault;
        _limit = LimitOf(first);
        Enter(first);
        _parked.Push(first);
    }

    /// <summary>Whether somebody waits for a session. From any thread, without a lock.</summary>
    public bool HasWaiters => _waiterCount > 0;

    /// <summary>Grows when the size of the export has changed. Sessions from before know only the old one.</summary>
    public int SizeVersion => _sizeVersion;

    /// <summary>Whether there may be more than one.</summary>
    public bool AllowsSeveral
    {
        get
        {
            lock (_lock)
            {
                return _limit > 1;
            }
        }
    }

    /// <summary>When, while somebody waited, the server last gave a sign of life to somebody who had a session; as agendas count. From any thread.</summary>
    public long LastProgressNs => Volatile.Read(ref _lastProgressNs);

    /// <summary>The server has given a sign of life. From any thread, without a lock.</summary>
    public void NoteProgress(long nowNs) => Volatile.Write(ref _lastProgressNs, nowNs);

    /// <summary>Whether there is no session at all. From any thread, without a lock.</summary>
    public bool IsDown => _count == 0;

    /// <summary>Whether there has been no server to speak to for so long that requests fail.</summary>
    public bool IsGivenUp => IsDown && Volatile.Read(ref _downSince) is not 0 and var since && Stopwatch.GetElapsedTime(since) >= _options.Reconnect;

    /// <summary>When requests are to fail unless a server is found, in nanoseconds from now.</summary>
    public long NanosecondsToGiveUp =>
        Volatile.Read(ref _downSince) is not 0 and var since
            ? Math.Max(0, (long)(_options.Reconnect - Stopwatch.GetElapsedTime(since)).TotalNanoseconds)
            : (long)_options.Reconnect.TotalNanoseconds;

    /// <summary>A queue opens: it will hear of new generations, from any thread.</summary>
    public void Add(Action onNewGeneration)
    {
        lock (_lock)
        {
            _onNewGeneration.Add(onNewGeneration);
        }
    }

    /// <summary>A queue closes.</summary>
    public void Remove(Action onNewGeneration, NbdWaiter waiter)
    {
        Withdraw(waiter);
        lock (_lock)
        {
            _onNewGeneration.Remove(onNewGeneration);
        }
    }

    /// <summary>Takes a session, or gets into line for one.</summary>
    public NbdSession? TakeOrWait(NbdWaiter waiter)
    {
        lock (_lock)
        {
            while (_parked.TryPop(out NbdSession? session))
            {
                if (IsCurrent(session))
                {
                    return session;
                }

                Leave(session);
                session.EndPolitely();
            }

            _waiters.AddLast(waiter);
            _waiterCount++;
            WakeConnector();
            return null;
        }
    }

    /// <summary>Takes what a waiter was told is there.</summary>
    public NbdSession? Collect(NbdWaiter waiter)
    {
        lock (_lock)
        {
            NbdSession? session = waiter.Offered;
            waiter.Offered = null;
            return session;
        }
    }

    /// <summary>Takes a session, and waits for it.</summary>
    public NbdSession? Take(TimeSpan patience)
    {
        using var isThere = new ManualResetEventSlim();
        var waiter = new NbdWaiter(isThere.Set);
        if (TakeOrWait(waiter) is { } session)
        {
            return session;
        }

        isThere.Wait(patience);
        session = Collect(waiter);
        Withdraw(waiter);
        return session;
    }

    /// <summary>Waits no more.</summary>
    public void Withdraw(NbdWaiter waiter)
    {
        lock (_lock)
        {
            if (_waiters.Remove(waiter))
            {
                _waiterCount--;
            }

            if (waiter.Offered is { } session)
            {
                waiter.Offered = null;
                Offer(session);
            }
        }
    }

    /// <summary>Gives a session back. Nothing is outstanding on it.</summary>
    public void Release(NbdSession session)
    {
        lock (_lock)
        {
            Offer(session);
        }
    }

    /// <summary>A session has ended, not by our wish. Closes it.</summary>
    /// <param name="session">Which; nothing uses its socket any more.</param>
    /// <param name="reason">Why, as a sentence.</param>
    public void Lose(NbdSession session, string reason)
    {
        bool isNew;
        bool losesDurability;
        lock (_lock)
        {
            Leave(session);
            _lastFailure = reason;
            isNew = TryEndGeneration(session.Generation, out losesDurability);
            session.Dispose();
            // Who accepts connections and answers nothing is not asked again at once.
            _failures += session.HasAnswered ? 0 : 1;
            if (_count == 0)
            {
                // Once, until there is a server again.
                isNew |= Volatile.Read(ref _downSince) == 0;
                NoteDown();
            }

            WakeConnector();
        }

        TellLoss(isNew, losesDurability, reason);
    }

    /// <summary>The server has answered a request: it is really there.</summary>
    public void NoteAnswer(NbdSession session)
    {
        lock (_lock)
        {
            session.HasAnswered = true;
            Volatile.Write(ref _downSince, 0);
            _failures = 0;
            _isGivenUpSaid = false;
        }
    }

    /// <summary>Somebody's requests fail because nobody answers.</summary>
    public void NoteGivenUp()
    {
        string reason;
        lock (_lock)
        {
            if (_isGivenUpSaid)
            {
                return;
            }

            _isGivenUpSaid = true;
            reason = _lastFailure;
        }

        _options.OnNews?.Invoke(NbdNews.GivenUp, reason);
    }

    /// <summary>The size is another one: sessions that are in use end when their requests have, the others at once.</summary>
    public void RenewForSize()
    {
        lock (_lock)
        {
            _sizeVersion++;
            CloseParked();
            WakeConnector();
        }
    }

    /// <summary>Takes one more session; closes it if there are enough.</summary>
    public void Add(NbdSession session)
    {
        bool isNew;
        bool losesDurability;
        lock (_lock)
        {
            isNew = TryNoticeEnd(out losesDurability);
            Enter(session);
            Offer(session);
        }

        TellLoss(isNew, losesDurability, Unnoticed);
    }

    /// <summary>Puts another session, or none, into the place of one that was taken and is closed.</summary>
    public void Replace(NbdSession old, NbdSession? session)
    {
        lock (_lock)
        {
            Leave(old);
            if (session != null)
            {
                _limit = LimitOf(session);
                Enter(session);
                Offer(session);
                return;
            }

            if (_count == 0)
            {
                NoteDown();
            }

            WakeConnector();
        }
    }

    /// <summary>Ends all sessions. No queue is open any more.</summary>
    public void Dispose()
    {
        lock (_lock)
        {
            _isStopping = true;
            CloseParked();
            // It does not keep anybody waiting: what it is about to connect to, it closes again.
            Monitor.PulseAll(_lock);
        }
    }

    private void Enter(NbdSession session)
    {
        _sessions.Add(session);
        _count = _sessions.Count;
    }

    private void Leave(NbdSession session)
    {
        _sessions.Remove(session);
        _count = _sessions.Count;
    }

    // Called with the lock. With the first session of a generation that is lost end all others of it.
    private bool TryEndGeneration(long generation, out bool losesDurability)
    {
        (bool isNew, losesDurability) = _durability.NoteLoss(generation);
        if (isNew)
        {
            CloseParked();
            _onNewGeneration.ForEach(call => call());
        }

        return isNew;
    }

    private void TellLoss(bool isNew, bool losesDurability, string reason)
    {
        if (isNew)
        {
            _options.OnNews?.Invoke(NbdNews.Lost, reason);
        }

        if (losesDurability)
        {
            _options.OnNews?.Invoke(NbdNews.DurabilityLost, reason);
        }
    }

    private int LimitOf(NbdSession session) => session.Export.CanMultiConn ? _options.Connections : 1;

    private bool IsCurrent(NbdSession session) => session.SizeVersion == _sizeVersion && session.Generation == _durability.Generation;

    private void NoteDown()
    {
        if (Volatile.Read(ref _downSince) == 0)
        {
            Volatile.Write(ref _downSince, Stopwatch.GetTimestamp());
        }
    }

    private void CloseParked()
    {
        while (_parked.TryPop(out NbdSession? session))
        {
            Leave(session);
            session.EndPolitely();
        }
    }

    // To the first in line; to the park if there is nobody.
    private void Offer(NbdSession session)
    {
        if (_isStopping || !IsCurrent(session) || _count > _limit)
        {
            Leave(session);
            session.EndPolitely();
            WakeConnector();
            return;
        }

        if (_waiters.First is { } first)
        {
            _waiters.RemoveFirst();
            _waiterCount--;
            first.Value.Offered = session;
            first.Value.Notify();
            return;
        }

        _parked.Push(session);
    }
}
