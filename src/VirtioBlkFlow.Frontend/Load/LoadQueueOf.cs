using System.Diagnostics;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Frontend.Load.Rings;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.Frontend.Load;

/// <summary>
/// The load loop of one queue: take what has come back, look at the clock once, record, begin as many new requests, publish them with one
/// store. Compiled for each kind of ring. Owned by the queue's thread; allocates nothing while it runs.
/// </summary>
/// <remarks>
/// The clock costs more than all the rest of a request (about 25 ns), so it is read once for each burst of completions. That time ends the
/// requests of the burst and starts those that follow: a latency therefore contains the handling of its own bursts, tens of nanoseconds for
/// each request in them, and is never too small.
/// </remarks>
internal sealed partial class LoadQueueOf<TRing> : LoadQueue
    where TRing : struct, ILoadRing
{
    // Every so many turns one is timed. Two more looks at the clock then cost a nanosecond a turn. Arbitrary.
    private const int SampleMask = 63;

    // Every so many looks at an idle ring the rest is looked at: the connection, the stop flag, how long nothing came. About a millisecond.
    private const int LooksBetweenChecks = 1 << 14;

    // Longest sleep without a look at the stop flag.
    private const long LongestSleepNs = 100_000_000;

    // A stopped run does not wait long for what will not come.
    private const long StoppedPatienceNs = 2_000_000_000;

    // How often to look for a place where nothing is in flight before waiting for one. Arbitrary.
    private const int PlaceTries = 8;

    // Fixed at construction.
    private readonly LoadQueueParts _parts;
    private readonly LoadSlots _memory;
    private readonly RequestSource _source;
    private readonly VerifiedContents? _contents;
    private readonly QueueWatch _watch;
    private readonly QueueTally _tally;
    private readonly DirectionTally _reads;
    private readonly DirectionTally _writes;
    private readonly bool _polls;
    private readonly bool _isOpenLoop;
    private readonly double _meanDistanceNs;
    private readonly long _stallNs;

    // Owned by the queue's thread.
    private readonly SlotState[] _slots;
    private readonly int[] _freeSlots;
    private readonly int[] _burst;
    private readonly DriverBuffer[] _chain;
#pragma warning disable IDE0044 // It is a struct whose methods change it: readonly would make each of them work on a copy.
    private TRing _ring;
#pragma warning restore IDE0044
    private LoadSchedule _schedule;
    private Phase _phase;
    private LoadRandom _arrivals;
    private PlannedRequest _planned;
    private bool _hasPlanned;
    private int _freeCount;
    private int _inFlight;
    private long _left;
    private long _countFromNs;
    private long _phaseEndsNs;
    private long _lastCompletionNs;
    private long _cpuAtStartNs;
    private long _allocatedAtStart;
    private double _nextDueNs;
    private bool _wasFull;
    private bool _mustKick;
    private int _turn;
    private int _idleLooks;
    private ulong _readBackSector;

    /// <summary>Prepares; the queue may be started on the back-end before or after.</summary>
    public LoadQueueOf(LoadQueueParts parts, TRing ring)
    {
        _parts = parts;
        _ring = ring;
        _memory = parts.Slots;
        _source = parts.Source;
        _contents = parts.Contents;
        _watch = parts.Watch;
        _tally = Tally;
        _reads = _tally.Read;
        _writes = _tally.Write;
        _polls = parts.Options.Wait == CompletionWait.Poll;
        _isOpenLoop = parts.RatePerSecond > 0;
        _meanDistanceNs = _isOpenLoop ? 1e9 / parts.RatePerSecond : 0;
        _stallNs = (long)parts.Options.StallTimeout.TotalNanoseconds;
        _arrivals = new LoadRandom(LoadRandom.Mix(parts.Options.Seed + parts.Queue.Index));
        int depth = parts.Options.QueueDepth;
        _slots = new SlotState[depth];
        _burst = new int[depth];
        _chain = new DriverBuffer[parts.Slots.ChainLength];
        _freeSlots = new int[depth];
        for (int i = 0; i < depth; i++)
        {
            _freeSlots[i] = depth - 1 - i;
        }

        _freeCount = depth;
        _ring.SuppressCalls();
    }

    // In which order they come, and what each does with requests.
    private enum Phase
    {
        WarmUp,
        Counting,
        Draining,
        ReadingBack,
    }

    private bool IsDone => _inFlight == 0 && _left == 0 && _phase != Phase.WarmUp;

    public override void Run(LoadSchedule schedule)
    {
        _schedule = schedule;
        _countFromNs = long.MaxValue;
        _phaseEndsNs = schedule.CountFromNs;
        _left = long.MaxValue;
        long now = Stopwatch.GetTimestamp();
        _lastCompletionNs = now;
        _nextDueNs = now;
        if (!_polls && _isOpenLoop)
        {
            // The kernel may otherwise be 50 µs late on purpose (PR_SET_TIMERSLACK(2const)).
            _ = NativeMethods.ProcessControl(NativeMethods.PR_SET_TIMERSLACK, 1);
        }

        RunPhases();
        FinishCounting();
    }

    private void RunPhases()
    {
        // The first requests of a closed loop: nothing has come back that they could follow.
        Turn(isFirst: true);
        while (true)
        {
            if (_mustKick)
            {
                _mustKick = false;
                _tally.Kicks++;
                _parts.Queue.Kick.Signal();
            }

            if (IsDone)
            {
                return;
            }

            if (!HasWork())
            {
                Wait();
            }
            else if ((++_turn & SampleMask) == 0)
            {
                TimedTurn();
            }
            else
            {
                Turn(isFirst: false);
            }
        }
    }

    // An open loop that polls always has: the clock.
    private bool HasWork() => _ring.HasUsed || (_isOpenLoop && _polls && _phase < Phase.Draining && ++_idleLooks < LooksBetweenChecks);

    private void TimedTurn()
    {
        long before = Stopwatch.GetTimestamp();
        int reaped = Turn(isFirst: false);
        long taken = Stopwatch.GetTimestamp() - before;
        if (_phase == Phase.Counting && reaped > 0)
        {
            _tally.TurnTenths.Record(taken * 10 / reaped);
        }
    }

    // Returns how many requests came back.
    private int Turn(bool isFirst)
    {
        int reaped = Reap();
        if (reaped == 0 && !_isOpenLoop && !isFirst)
        {
            return 0;
        }

        long now = Stopwatch.GetTimestamp();
        if (now >= _phaseEndsNs || IsStopped)
        {
            EndPhase(now);
        }

        if (reaped > 0)
        {
            Finish(reaped, now);
        }

        if (_phase == Phase.ReadingBack || !_isOpenLoop)
        {
            BeginAll(now);
        }
        else
        {
            BeginDue(now);
        }

        _mustKick |= _ring.Publish();
        return reaped;
    }

    private int Reap()
    {
        int count = 0;
        SlotState[] slots = _slots;
        int[] burst = _burst;
        while (count < burst.Length && _ring.TryTake(out uint slot, out uint writtenBytes))
        {
            if (slot >= (uint)slots.Length || !slots[slot].IsInFlight)
            {
                throw new LoadException($"The back-end broke the ring of queue {_parts.Queue.Index}: it returned a chain that was not in flight.");
            }

            ref SlotState state = ref slots[slot];
            state.IsInFlight = false;
            byte status = _memory.ReadStatus((int)slot);
            if (status != (byte)BlkStatus.VIRTIO_BLK_S_OK)
            {
                throw new LoadException($"{Describe(state.IsWrite, state.Bytes, state.Sector)} ended with {NameOf(status)}.");
            }

            if (writtenBytes != (state.IsWrite ? 1 : state.Bytes + 1))
            {
                _tally.OddLengths++;
            }

            burst[count++] = (int)slot;
        }

        return count;
    }

    private void Finish(int count, long now)
    {
        _idleLooks = 0;
        _inFlight -= count;
        _lastCompletionNs = now;
        _tally.Bursts++;
        for (int i = 0; i < count; i++)
        {
            int slot = _burst[i];
            ref SlotState state = ref _slots[slot];
            if (state.StartNs >= _countFromNs)
            {
                DirectionTally tally = state.IsWrite ? _writes : _reads;
                tally.Latency.Record(now - state.StartNs);
                tally.Bytes += state.Bytes;
            }

            if (_contents is not null)
            {
                FinishVerified(slot, in state);
            }

            _freeSlots[_freeCount++] = slot;
        }
    }

    private void BeginAll(long now)
    {
        while (_freeCount > 0 && _left > 0 && TryBegin(now))
        {
        }
    }

    private void BeginDue(long now)
    {
        while (_freeCount > 0 && _left > 0 && _nextDueNs <= now)
        {
            long due = (long)_nextDueNs;
            if (!TryBegin(due))
            {
                break;
            }

            // Late because the queue was full is the back-end's doing; late although it had room is ours.
            if (!_wasFull && due >= _countFromNs)
            {
                _tally.OwnLatenessNs += now - due;
            }

            _nextDueNs += NextDistanceNs();
        }

        _wasFull = _nextDueNs <= now;
    }

    private double NextDistanceNs() =>
        _parts.Options.Arrivals == Arrivals.Even ? _meanDistanceNs : -Math.Log(1 - _arrivals.NextDouble()) * _meanDistanceNs;

    private bool TryBegin(long startNs)
    {
        PlannedRequest request;
        if (_contents is null)
        {
            request = _source.Next();
        }
        else if (!TryPlanVerified(out request))
        {
            return false;
        }

        int slot = _freeSlots[--_freeCount];
        ref SlotState state = ref _slots[slot];
        // A chain stays as it was when the last request of its slot had the same shape.
        if (state.Bytes != request.Bytes || state.IsWrite != request.IsWrite)
        {
            int length = _memory.Describe(slot, request.Bytes, !request.IsWrite, _chain);
            _ring.SetChain(slot, _chain.AsSpan(0, length));
        }

        state = new SlotState { StartNs = startNs, Sector = request.Sector, Bytes = request.Bytes, IsWrite = request.IsWrite, IsInFlight = true };
        _memory.WriteHeader(slot, request.IsWrite ? BlkRequestType.VIRTIO_BLK_T_OUT : BlkRequestType.VIRTIO_BLK_T_IN, request.Sector);
        if (_contents is not null && request.IsWrite)
        {
            _contents.Fill(request.Sector, _memory.Data(slot, request.Bytes));
        }

        _ring.Add(slot);
        _inFlight++;
        _left--;
        return true;
    }

    private void EndPhase(long now)
    {
        if (_phase == Phase.WarmUp && !IsStopped)
        {
            _phase = Phase.Counting;
            _phaseEndsNs = now + _schedule.DurationNs ?? long.MaxValue;
            _left = _schedule.RequestCount;
            _countFromNs = now;
            // What was due before belongs to the warm-up, begun or not.
            _nextDueNs = now;
            _cpuAtStartNs = CpuClock.ThisThreadNs;
            _allocatedAtStart = GC.GetAllocatedBytesForCurrentThread();
            _tally.Kicks = _tally.Sleeps = _tally.Bursts = _tally.OddLengths = 0;
            _ = _watch.TakeCalls();
            _tally.Calls = 0;
        }
        else if (_phase <= Phase.Counting)
        {
            if (_isOpenLoop && _phase == Phase.Counting)
            {
                _tally.NeverBegun = Math.Min(_left, Math.Max(0, (long)((now - _nextDueNs) / _meanDistanceNs)));
            }

            _phase = Phase.Draining;
            _phaseEndsNs = long.MaxValue;
            _left = 0;
        }
        else if (IsStopped)
        {
            _left = 0;
        }
    }

    private void FinishCounting()
    {
        if (_countFromNs != long.MaxValue)
        {
            _tally.ElapsedNs = _lastCompletionNs - _countFromNs;
            _tally.ThreadCpuNs = CpuClock.ThisThreadNs - _cpuAtStartNs;
            _tally.AllocatedBytes = GC.GetAllocatedBytesForCurrentThread() - _allocatedAtStart;
            _tally.Calls += (long)_watch.TakeCalls();
        }

        TakeDownContents();
    }

    private void TakeDownContents()
    {
        _tally.CheckedSectors = _contents?.CheckedSectors ?? 0;
        _tally.UncheckedSectors = _contents?.UncheckedSectors ?? 0;
    }

    private struct SlotState
    {
        public long StartNs;
        public ulong Sector;
        public uint Bytes;
        public bool IsWrite;
        public bool IsInFlight;
    }
}
