namespace VirtioBlkFlow.Disks.Nbd;

/// <summary>What a queue has acknowledged and nobody has flushed. Written by the queue's thread, read by whoever looks.</summary>
internal sealed class NbdDirtyMark
{
    /// <summary>The epoch of the last acknowledged change that is not durable by itself; -1 for none.</summary>
    public long Epoch = -1;
}

/// <summary>
/// Knows whether something that guests take for written could be lost with a server. A connection that breaks may mean that the server has
/// died, with whatever it had not flushed; a flush on the next connection would then say nothing about it. So with the first loss that finds
/// unflushed writes durability is lost for good, as after a failed fdatasync(2). Shared by all queues of a disk.
/// </summary>
/// <remarks>
/// Flushes divide time into epochs. A change that was acknowledged in an epoch before that of a flush had been done before the flush was sent.
/// The other queues learn of a loss by the generation, which they compare before they acknowledge anything: what a server says that may not be
/// there any more counts for nothing, and is asked again of its successor.
/// </remarks>
internal sealed class NbdDurability
{
    // Fixed at construction.
    private readonly bool _isWatched;

    // Shared. The epoch is that of the next flush; below the covered one everything is durable.
    private long _epoch;
    private long _coveredEpoch;
    private long _generation;
    private volatile bool _isLost;

    // Under its own lock.
    private readonly List<NbdDirtyMark> _marks = [];

    // What closed queues have left unflushed.
    private readonly NbdDirtyMark _left = new();

    /// <param name="isWatched">Whether the server can lose what it has acknowledged.</param>
    public NbdDurability(bool isWatched) => _isWatched = isWatched;

    /// <summary>Whether nothing may be called durable any more. From any thread.</summary>
    public bool IsLost => _isLost;

    /// <summary>Grows with each loss. A connection belongs to the generation in which it began.</summary>
    public long Generation => Volatile.Read(ref _generation);

    /// <summary>Whether anything is acknowledged and not flushed. From any thread.</summary>
    public bool IsDirty
    {
        get
        {
            lock (_marks)
            {
                long covered = Volatile.Read(ref _coveredEpoch);
                return _left.Epoch >= covered || _marks.Exists(mark => Volatile.Read(ref mark.Epoch) >= covered);
            }
        }
    }

    /// <summary>A queue opens.</summary>
    public NbdDirtyMark Open()
    {
        var mark = new NbdDirtyMark();
        lock (_marks)
        {
            _marks.Add(mark);
        }

        return mark;
    }

    /// <summary>A queue closes; what it has left is remembered.</summary>
    public void Close(NbdDirtyMark mark)
    {
        lock (_marks)
        {
            _left.Epoch = Math.Max(_left.Epoch, mark.Epoch);
            _marks.Remove(mark);
        }
    }

    /// <summary>A flush is about to be sent.</summary>
    /// <returns>Its epoch.</returns>
    public long BeginFlush() => Interlocked.Increment(ref _epoch);

    /// <summary>A flush has succeeded, on a connection of the present generation.</summary>
    public void EndFlush(long epoch)
    {
        long covered = Volatile.Read(ref _coveredEpoch);
        while (covered < epoch)
        {
            long found = Interlocked.CompareExchange(ref _coveredEpoch, epoch, covered);
            if (found == covered)
            {
                return;
            }

            covered = found;
        }
    }

    /// <summary>A change that is not durable is about to be acknowledged.</summary>
    /// <returns>False if the connection that it was done on is of the past: it must be done again.</returns>
    public bool TryAcknowledge(NbdDirtyMark mark, long generation)
    {
        if (!_isWatched)
        {
            return true;
        }

        Volatile.Write(ref mark.Epoch, Volatile.Read(ref _epoch));
        // StoreLoad: the mark before the look at the generation, against who counts a loss and then looks at the marks: one of us sees the
        // other.
        Interlocked.MemoryBarrier();
        return generation == Volatile.Read(ref _generation);
    }

    /// <summary>A connection of this generation is lost.</summary>
    /// <returns>Whether other connections must be given up for it, and whether durability is lost by it.</returns>
    public (bool IsNewGeneration, bool LosesDurability) NoteLoss(long generation)
    {
        if (!_isWatched || Interlocked.CompareExchange(ref _generation, generation + 1, generation) != generation)
        {
            return (false, false);
        }

        bool loses = !_isLost && IsDirty;
        // Written only if it is so: somebody else may write it at this moment.
        if (loses)
        {
            _isLost = true;
        }

        return (true, loses);
    }

    /// <summary>The server could not make something durable. It may have forgotten by now what: from here on nothing is called durable.</summary>
    public void Lose() => _isLost = true;
}
