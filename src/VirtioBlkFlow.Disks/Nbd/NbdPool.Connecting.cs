namespace VirtioBlkFlow.Disks.Nbd;

/// <content>Making sessions: by a thread that there is while there is something to connect to, or by who is on the control path.</content>
internal sealed partial class NbdPool
{
    // Between attempts to connect: doubled from the first to the last. Arbitrary: a server that restarts is found soon, one that is gone
    // costs next to nothing.
    private const int FirstPauseMs = 20;
    private const int LongestPauseMs = 2000;

    private const string Unnoticed = "The server has closed a connection.";

    // Longest time for an attempt. Arbitrary: a host that is there answers within it.
    private static readonly TimeSpan s_longestAttempt = TimeSpan.FromSeconds(10);

    // Under the lock.
    private Thread? _connector;
    private int _failures;

    /// <summary>How long one attempt to connect may take.</summary>
    public static TimeSpan PatienceOf(NbdDiskOptions options) => options.Timeout < s_longestAttempt ? options.Timeout : s_longestAttempt;

    /// <summary>Connects, for a session that counts already or never will.</summary>
    /// <exception cref="IOException">Nobody answers, or nothing that makes sense.</exception>
    /// <exception cref="DiskOpenException">There is no such export.</exception>
    public NbdSession Connect()
    {
        NbdSession session = NbdSession.Connect(_options.Address!, PatienceOf(_options), _durability.Generation, _sizeVersion);
        if (_findFault(session.Export) is { } fault)
        {
            session.EndPolitely();
            throw new IOException(fault);
        }

        return session;
    }

    private bool WantsConnection => !_isStopping && _count < _limit && (_waiters.Count > 0 || (_count == 0 && _onNewGeneration.Count > 0));

    private void WakeConnector()
    {
        if (!WantsConnection)
        {
            return;
        }

        if (_connector == null)
        {
            _connector = new Thread(ConnectWhileWanted) { IsBackground = true, Name = "nbd-connect" };
            _connector.Start();
        }
        else
        {
            Monitor.PulseAll(_lock);
        }
    }

    private void ConnectWhileWanted()
    {
        lock (_lock)
        {
            while (WantsConnection)
            {
                if (_failures > 0)
                {
                    long until = Environment.TickCount64 + Math.Min(LongestPauseMs, FirstPauseMs << Math.Min(_failures, 10));
                    while (!_isStopping && until - Environment.TickCount64 is > 0 and var left)
                    {
                        Monitor.Wait(_lock, (int)left);
                    }
                }

                if (WantsConnection)
                {
                    ConnectOnce();
                }
            }

            _connector = null;
        }
    }

    // Called with the lock, which it lets go of while others may be waited for.
    private void ConnectOnce()
    {
        NbdSession? session = null;
        string failure = "";
        Monitor.Exit(_lock);
        try
        {
            session = Connect();
        }
        catch (Exception exception) when (exception is IOException or DiskOpenException)
        {
            // Tried again, after a pause. That the connection is lost has been said.
            failure = exception.Message;
        }
        finally
        {
            Monitor.Enter(_lock);
        }

        if (session == null)
        {
            _failures++;
            _lastFailure = failure;
            if (_count > 0)
            {
                // The server takes no more of them: those there are have to do.
                _limit = _count;
            }
            else
            {
                NoteDown();
            }

            return;
        }

        bool isNew = TryNoticeEnd(out bool losesDurability);
        Enter(session);
        _limit = LimitOf(session);
        Offer(session);
        bool isFound = Volatile.Read(ref _downSince) != 0;
        Monitor.Exit(_lock);
        try
        {
            TellLoss(isNew, losesDurability, Unnoticed);
            if (isFound)
            {
                _options.OnNews?.Invoke(NbdNews.Connected, "");
            }
        }
        finally
        {
            Monitor.Enter(_lock);
        }
    }

    // Called with the lock, before a new session joins others. One of them may have ended without its queue's notice, and then the new one may
    // lead to a successor of the server: it must not pass for one of theirs, or its flush would count for what was lost with the old one.
    private bool TryNoticeEnd(out bool losesDurability)
    {
        long generation = _durability.Generation;
        foreach (NbdSession session in _sessions)
        {
            if (session.Generation == generation && session.Socket.HasEnded())
            {
                return TryEndGeneration(generation, out losesDurability);
            }
        }

        losesDurability = false;
        return false;
    }
}
