namespace VirtioBlkFlow.Disks.Health;

/// <summary>
/// Asks a source now and then, on a thread of the pool, and keeps what it told last. Who serves requests reads one reference and is never
/// held up. From any thread.
/// </summary>
public sealed class HealthMonitor : IDisposable
{
    // Fixed at construction.
    private readonly IHealthSource _source;
    private readonly Timer _timer;

    // One reading at a time, and what hears of them: under this lock, which is held while the source is asked.
    private readonly Lock _reading = new();
    private readonly List<Action<HealthReading>> _listeners = [];
    private TimeSpan? _wantedInterval;
    private bool _isClosed;

    // Replaced as a whole after each reading.
    private volatile HealthReading _latest;

    /// <summary>Asks once, and from then on again and again.</summary>
    /// <param name="source">Whom.</param>
    /// <param name="interval">Time from one reading to the next, until somebody wants another; <see cref="Timeout.InfiniteTimeSpan"/> for never again.</param>
    public HealthMonitor(IHealthSource source, TimeSpan interval)
    {
        _source = source;
        _latest = source.Read();
        _timer = new Timer(static self => ((HealthMonitor)self!).OnTime(), this, interval, interval);
    }

    /// <summary>Whom it asks, for people.</summary>
    public string SourceName => _source.Name;

    /// <summary>What is known. Values that could not be read lately are those of before.</summary>
    public HealthReading Latest => _latest;

    /// <summary>Asks as often as this; of several who want that, as often as the one who wants it most.</summary>
    public void ReadEvery(TimeSpan interval)
    {
        lock (_reading)
        {
            if (!_isClosed && (_wantedInterval is not { } wanted || interval < wanted))
            {
                _wantedInterval = interval;
                _timer.Change(interval, interval);
            }
        }
    }

    /// <summary>Has somebody hear what is known now, at once, and of each reading to come, one after the other, on a thread of the pool.</summary>
    public void Add(Action<HealthReading> listener)
    {
        lock (_reading)
        {
            _listeners.Add(listener);
            listener(_latest);
        }
    }

    /// <summary>Ends that. Waits for a reading that is under way, so that none comes after it.</summary>
    public void Remove(Action<HealthReading> listener)
    {
        lock (_reading)
        {
            _listeners.Remove(listener);
        }
    }

    /// <summary>Asks now.</summary>
    public void ReadNow()
    {
        lock (_reading)
        {
            ReadLocked();
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _timer.Dispose();
        lock (_reading)
        {
            _isClosed = true;
        }
    }

    // A source that takes longer than the interval is not asked by more and more threads.
    private void OnTime()
    {
        if (_reading.TryEnter())
        {
            try
            {
                ReadLocked();
            }
            finally
            {
                _reading.Exit();
            }
        }
    }

    private void ReadLocked()
    {
        if (_isClosed)
        {
            return;
        }

        _latest = _source.Read().After(_latest);
        foreach (Action<HealthReading> listener in _listeners)
        {
            listener(_latest);
        }
    }
}
