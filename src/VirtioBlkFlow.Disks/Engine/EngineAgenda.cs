using System.Collections.Concurrent;

namespace VirtioBlkFlow.Disks.Engine;

/// <summary>Hears on the queue's thread that a time has come.</summary>
public interface IAgendaEntry
{
    /// <summary>The time given with <see cref="EngineAgenda.After"/> has passed.</summary>
    /// <param name="token">As it was given.</param>
    void OnTime(int token);
}

/// <summary>
/// What the owner of an engine does beside I/O: calls at a time to come, and calls that other threads ask for. The engine wakes for both and
/// makes them inside <see cref="IIoEngine.Reap"/>. Owned by the engine's thread, but for <see cref="Post"/>.
/// </summary>
/// <param name="clock">Tells the time; its timestamps count nanoseconds, as Linux's do.</param>
/// <param name="wake">Wakes the owner; from any thread.</param>
public sealed class EngineAgenda(TimeProvider clock, Action wake)
{
    private const long Never = long.MaxValue;

    // Owned by the engine's thread.
    private readonly PriorityQueue<(IAgendaEntry Entry, int Token), long> _entries = new();
    private long _nextNs = Never;

    // Shared.
    private readonly ConcurrentQueue<Action> _posted = new();
    private int _postedCount;

    /// <summary>Nanoseconds since some moment in the past; never goes backwards. From any thread.</summary>
    public long NowNs => clock.GetTimestamp();

    /// <summary>Whether there is anything to be done now. Cheap enough to spin on.</summary>
    public bool HasDue => Volatile.Read(ref _postedCount) != 0 || (_nextNs != Never && NowNs >= _nextNs);

    /// <summary>Has an entry called once, not before so much time has passed, and as soon after that as the thread gets to it.</summary>
    /// <param name="entry">Who is called.</param>
    /// <param name="token">Comes back with the call.</param>
    /// <param name="delayNs">In nanoseconds; 0 or less is as soon as possible, but not within this call.</param>
    public void After(IAgendaEntry entry, int token, long delayNs)
    {
        long now = NowNs;
        long deadline = delayNs >= Never - now ? Never - 1 : now + Math.Max(0, delayNs);
        _entries.Enqueue((entry, token), deadline);
        _nextNs = Math.Min(_nextNs, deadline);
    }

    /// <summary>Takes back one call that has not come yet. Searches; not for the hot path.</summary>
    /// <returns>Whether there was one.</returns>
    public bool Cancel(IAgendaEntry entry, int token)
    {
        bool found = _entries.Remove((entry, token), out _, out _);
        _nextNs = NextDeadline();
        return found;
    }

    /// <summary>Takes back all calls of an entry: before it ends.</summary>
    public void Forget(IAgendaEntry entry)
    {
        (IAgendaEntry Entry, int Token, long DeadlineNs)[] others =
            [.. _entries.UnorderedItems.Where(item => item.Element.Entry != entry).Select(item => (item.Element.Entry, item.Element.Token, item.Priority))];
        _entries.Clear();
        foreach ((IAgendaEntry other, int token, long deadlineNs) in others)
        {
            _entries.Enqueue((other, token), deadlineNs);
        }

        _nextNs = NextDeadline();
    }

    /// <summary>Has something called soon on the engine's thread. From any thread. If the engine ends first, it is never called.</summary>
    public void Post(Action call)
    {
        _posted.Enqueue(call);
        // After the call itself: who sees the count finds it.
        Interlocked.Increment(ref _postedCount);
        wake();
    }

    /// <summary>For the engine: how long its owner may sleep.</summary>
    /// <param name="timeoutNs">What the owner wants, in nanoseconds; negative for ever.</param>
    internal long LimitSleep(long timeoutNs)
    {
        if (Volatile.Read(ref _postedCount) != 0)
        {
            return 0;
        }

        if (_nextNs == Never)
        {
            return timeoutNs;
        }

        long left = Math.Max(0, _nextNs - NowNs);
        return timeoutNs < 0 ? left : Math.Min(left, timeoutNs);
    }

    /// <summary>For the engine: does what is to be done now.</summary>
    internal void Run()
    {
        for (int calls = Volatile.Read(ref _postedCount); calls > 0 && _posted.TryDequeue(out Action? call); calls--)
        {
            Interlocked.Decrement(ref _postedCount);
            call();
        }

        // No more than there are now: what a call asks for in turn waits for the next round, so that this one ends.
        long now = NowNs;
        for (int left = _entries.Count; left > 0 && _entries.TryPeek(out (IAgendaEntry Entry, int Token) due, out long deadline) && deadline <= now; left--)
        {
            _entries.Dequeue();
            due.Entry.OnTime(due.Token);
        }

        _nextNs = NextDeadline();
    }

    private long NextDeadline() => _entries.TryPeek(out _, out long deadline) ? deadline : Never;
}
