using System.Diagnostics;
using System.Runtime.CompilerServices;
using VirtioBlkFlow.Device.Pipeline;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.Device.Latency;

/// <summary>
/// Follows batches through the stages of one run of a queue. The clock is read for a batch or a burst that is timed, never for a request:
/// a look at it costs 34 ns, which is as much as the whole pipeline spends on a request.
/// </summary>
/// <remarks>
/// Owned by the queue's thread. Batches are chosen before anything is known of them, so that the sample is a fair one: those that end an
/// idle time are all timed and count once; of the others one is drawn out of a number that follows the pace of the queue, and counts for
/// all of that number.
/// </remarks>
internal sealed class StageTimer
{
    /// <summary>
    /// How far apart timed batches are meant to be, in nanoseconds. Timing one takes up to 5 looks at the clock and 6 entries into
    /// histograms, measured as 250 ns: half a percent of 50 µs.
    /// </summary>
    public const long IntervalNanoseconds = 50_000;

    /// <summary>Most batches one may stand for. Arbitrary: a queue that gets slower adapts after so many at the latest.</summary>
    public const int MaxGap = 256;

    // Fixed at construction.
    private readonly StageHistograms _histograms;
    private readonly RequestTable _table;
    private readonly BatchPool _batches;
    private readonly bool _timesAll;

    // Owned by the queue's thread. When _untilTimed has come down to 0, the batch at hand is timed and stands for _gap batches.
    private int _untilTimed = 1;
    private int _gap = 1;
    private bool _endsIdle;
    private bool _slotsWereTaken;
    private long _emptyAt;
    private long _drawnAt;
    private uint _random;

    // Requests of timed batches that have not ended; of the burst at hand, those that count, with their weight.
    private int _outstanding;
    private uint _ended;

    public StageTimer(StageHistograms histograms, RequestTable table, BatchPool batches, bool timesAll, int seed)
    {
        _histograms = histograms;
        _table = table;
        _batches = batches;
        _timesAll = timesAll;
        _random = (uint)seed + 1;
        _emptyAt = _drawnAt = Now;
    }

    // On Linux the ticks of Stopwatch are nanoseconds of CLOCK_MONOTONIC; a test holds on to that.
    private static long Now => Stopwatch.GetTimestamp();

    /// <summary>The thread has slept.</summary>
    public void OnSleepEnded() => EndIdle(Now, isLong: true);

    /// <summary>The thread has spun and has something to do again.</summary>
    /// <param name="lookedAt">When it had last found nothing.</param>
    public void OnSpinEnded(long lookedAt) =>
        // Who finds work in the middle of a short spin is busy enough to be drawn like all others.
        EndIdle(lookedAt, isLong: lookedAt - _emptyAt >= IntervalNanoseconds);

    /// <summary>There was no look at the ring, as no slot was free for what might be there.</summary>
    public void OnSlotsTaken(Virtqueue virtqueue)
    {
        _slotsWereTaken = true;
        // Only for a batch that is going to be timed: the index is in a cache line that the driver writes to.
        if ((_untilTimed <= 1 || _endsIdle) && !virtqueue.HasAvailable)
        {
            _emptyAt = Now;
        }
    }

    /// <summary>The ring is about to be emptied into a batch.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void OnPop(RequestBatch batch)
    {
        if (_endsIdle || --_untilTimed <= 1)
        {
            LookAtClock(batch);
        }

        _slotsWereTaken = false;
    }

    /// <summary>A batch has reached the disk.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void OnParsed(RequestBatch batch)
    {
        if (batch.Times.Weight != 0)
        {
            RecordUntilParsed(batch);
        }
    }

    /// <summary>Requests have ended and set out together.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void OnEnded(CompletionBurst burst)
    {
        if (_outstanding != 0 && HasTimed(burst))
        {
            burst.EndedAt = Now;
        }
    }

    /// <summary>Some requests of a timed batch are being returned to the driver.</summary>
    /// <param name="batch">The batch.</param>
    /// <param name="requests">How many of it.</param>
    /// <param name="endedAt">When their burst set out.</param>
    public void OnReturned(RequestBatch batch, int requests, long endedAt)
    {
        uint weighted = (uint)requests * batch.Times.Weight;
        _histograms.Record(LatencyStage.Kernel, endedAt - batch.Times.ParsedAt, weighted);
        _outstanding -= requests;
        _ended += weighted;
    }

    /// <summary>The driver can see a burst that is timed.</summary>
    /// <returns>When.</returns>
    public long OnPublished(long endedAt)
    {
        long now = Now;
        _histograms.Record(LatencyStage.Completion, now - endedAt, _ended);
        return now;
    }

    /// <summary>The driver was called, or did not want to be.</summary>
    public void OnCalled(long publishedAt, bool called)
    {
        _histograms.Record(LatencyStage.Call, called ? Now - publishedAt : 0, _ended);
        _ended = 0;
    }

    private void EndIdle(long now, bool isLong)
    {
        _endsIdle |= isLong;
        if (!_slotsWereTaken)
        {
            _emptyAt = now;
        }
    }

    private void LookAtClock(RequestBatch batch)
    {
        long now = Now;
        if (_endsIdle)
        {
            _endsIdle = false;
            Begin(batch, now, 1);
        }
        else if (_untilTimed <= 0)
        {
            Begin(batch, now, (uint)_gap);
            _gap = _timesAll ? 1 : DrawGap(now);
            _untilTimed = _gap;
        }

        // What is published from now on is in the next batch.
        _emptyAt = now;
    }

    private void Begin(RequestBatch batch, long now, uint weight) =>
        batch.Times = new BatchTimes { Weight = weight, WaitedForSlot = _slotsWereTaken, WaitNanoseconds = now - _emptyAt, PoppedAt = now };

    // As many batches as came in an interval; between one and twice as many, so that a driver with a rhythm is not met at the same beat.
    private int DrawGap(long now)
    {
        long eachNanoseconds = Math.Max(1, (now - _drawnAt) / _gap);
        _drawnAt = now;
        uint mean = (uint)Math.Clamp(IntervalNanoseconds / eachNanoseconds, 1, MaxGap / 2);
        // Marsaglia's xorshift, 32 bits.
        _random ^= _random << 13;
        _random ^= _random >> 17;
        _random ^= _random << 5;
        return 1 + (int)(_random % ((2 * mean) - 1));
    }

    private void RecordUntilParsed(RequestBatch batch)
    {
        ref BatchTimes times = ref batch.Times;
        uint weighted = (uint)batch.Count * times.Weight;
        times.ParsedAt = Now;
        _outstanding += batch.Count;
        _histograms.Record(LatencyStage.Ring, times.WaitedForSlot ? 0 : times.WaitNanoseconds, weighted);
        _histograms.Record(LatencyStage.Slot, times.WaitedForSlot ? times.WaitNanoseconds : 0, weighted);
        _histograms.Record(LatencyStage.Parse, times.ParsedAt - times.PoppedAt, weighted);
    }

    private bool HasTimed(CompletionBurst burst)
    {
        foreach (ushort number in burst.Slots)
        {
            if (_batches[_table[number].BatchNumber].Times.Weight != 0)
            {
                return true;
            }
        }

        return false;
    }
}

/// <summary>What a batch that is timed remembers.</summary>
internal struct BatchTimes
{
    /// <summary>How many batches it stands for; 0 if it is not timed.</summary>
    public uint Weight;

    /// <summary>Whether it was for a slot that it waited in the ring.</summary>
    public bool WaitedForSlot;

    /// <summary>How long it waited in the ring, at most.</summary>
    public long WaitNanoseconds;

    /// <summary>When it was taken from the ring.</summary>
    public long PoppedAt;

    /// <summary>When it came to the disk.</summary>
    public long ParsedAt;
}
