using VirtioBlkFlow.Disks.Engine;

namespace VirtioBlkFlow.Disks.Wrapping;

/// <summary>Faults, and where their chances come from.</summary>
/// <param name="Seed">The same seed and the same requests in the same order on the same queues have the same faults.</param>
/// <param name="Rules">The first one that hits a request is what happens to it.</param>
public sealed record FaultDiskOptions(int Seed, IReadOnlyList<FaultRule> Rules);

/// <summary>Another disk on which things go wrong on purpose: errors, delays, hangs.</summary>
public sealed class FaultDisk : WrappingDisk
{
    private readonly FaultDiskOptions _options;
    private readonly OpenQueues _queues = new();

    // Shared by all queues: how often each rule has hit.
    private readonly long[] _hits;
    private int _queueCount;

    private FaultDisk(IDisk inner, FaultDiskOptions options)
        : base(inner)
    {
        _options = options;
        _hits = new long[options.Rules.Count];
    }

    /// <summary>Requests that were hit since the disk was opened. From any thread.</summary>
    public long HitCount
    {
        get
        {
            long sum = 0;
            for (int i = 0; i < _hits.Length; i++)
            {
                sum += Volatile.Read(ref _hits[i]);
            }

            return sum;
        }
    }

    /// <summary>Puts faults before a disk.</summary>
    /// <param name="inner">Belongs to this one from now on, also if this fails.</param>
    /// <param name="options">The faults.</param>
    /// <exception cref="DiskOpenException">A rule means nothing.</exception>
    public static FaultDisk Open(IDisk inner, FaultDiskOptions options)
    {
        try
        {
            foreach (FaultRule rule in options.Rules)
            {
                rule.Require();
            }

            return new FaultDisk(inner, options);
        }
        catch
        {
            inner.Dispose();
            throw;
        }
    }

    /// <summary>What hangs now goes on to the disk. From any thread.</summary>
    public void EndHangs() => _queues.PostAll();

    /// <inheritdoc/>
    public override IDiskQueue OpenQueue(IIoEngine engine, IDiskCompletions completions, int slotCount) =>
        new Queue(this, Inner.OpenQueue(engine, completions, slotCount), engine.Agenda, completions, slotCount);

    // Rules that are used up hit no more, whichever queue has used them up.
    private bool TryHit(int rule)
    {
        long times = _options.Rules[rule].Times ?? long.MaxValue;
        long before = Volatile.Read(ref _hits[rule]);
        while (before < times)
        {
            long found = Interlocked.CompareExchange(ref _hits[rule], before + 1, before);
            if (found == before)
            {
                return true;
            }

            before = found;
        }

        return false;
    }

    // Owned by the queue's thread.
    private sealed class Queue : IDiskQueue, IAgendaEntry
    {
        private readonly FaultDisk _disk;
        private readonly IDiskQueue _inner;
        private readonly EngineAgenda _agenda;
        private readonly IDiskCompletions _completions;
        private readonly Random _random;
        private readonly Action _onEndHangs;
        private readonly Held[] _held;
        private int _hangingCount;
        private bool _isClosed;

        public Queue(FaultDisk disk, IDiskQueue inner, EngineAgenda agenda, IDiskCompletions completions, int slotCount)
        {
            _disk = disk;
            _inner = inner;
            _agenda = agenda;
            _completions = completions;
            // Queues differ from one another, and are the same every time.
            _random = new Random(SeedOf(disk._options.Seed, Interlocked.Increment(ref disk._queueCount)));
            _held = new Held[slotCount];
            _onEndHangs = LetHangingGo;
            disk._queues.Add(agenda, _onEndHangs);
        }

        public void Submit(int slot, in DiskRequest request)
        {
            if (Draw(in request) is not { } rule)
            {
                _inner.Submit(slot, in request);
                return;
            }

            ref Held held = ref _held[slot];
            held = new Held { Request = request, Outcome = rule.Outcome, Hangs = rule.Hangs };
            if (rule.Delay is { } delay)
            {
                held.IsDelayed = true;
                _agenda.After(this, slot, delay.DrawNs(_random));
            }
            else
            {
                Begin(slot, ref held);
            }
        }

        public void OnTime(int token)
        {
            _held[token].IsDelayed = false;
            Begin(token, ref _held[token]);
        }

        public void OnIoCompleted(int slot, int result) => _inner.OnIoCompleted(slot, result);

        // A hang would last for ever and fails; a delay passes by itself, but may be a long one.
        public bool EndHeld()
        {
            bool any = false;
            for (int slot = 0; slot < _held.Length; slot++)
            {
                ref Held held = ref _held[slot];
                any |= held.IsDelayed || held.IsHanging;
                if (held.IsDelayed)
                {
                    _agenda.Cancel(this, slot);
                    held.IsDelayed = false;
                    Begin(slot, ref held);
                }

                if (held.IsHanging)
                {
                    held.IsHanging = false;
                    _hangingCount--;
                    _completions.OnCompleted(slot, DiskOutcome.Failed);
                }
            }

            return _inner.EndHeld() | any;
        }

        public void Dispose()
        {
            if (!_isClosed)
            {
                _isClosed = true;
                _disk._queues.Remove(_onEndHangs);
                _agenda.Forget(this);
            }

            _inner.Dispose();
        }

        // A number for each pair, the same in every process, as those of System.HashCode are not.
        private static int SeedOf(int seed, int queue) => unchecked((seed * 486187739) + queue);

        private FaultRule? Draw(in DiskRequest request)
        {
            IReadOnlyList<FaultRule> rules = _disk._options.Rules;
            for (int i = 0; i < rules.Count; i++)
            {
                FaultRule rule = rules[i];
                if (rule.IsAbout(in request) && (rule.Rate >= 1 || _random.NextDouble() < rule.Rate) && _disk.TryHit(i))
                {
                    return rule;
                }
            }

            return null;
        }

        private void Begin(int slot, ref Held held)
        {
            if (held.Hangs)
            {
                held.IsHanging = true;
                _hangingCount++;
            }
            else if (held.Outcome is { } outcome)
            {
                _completions.OnCompleted(slot, outcome);
            }
            else
            {
                _inner.Submit(slot, in held.Request);
            }
        }

        private void LetHangingGo()
        {
            for (int slot = 0; slot < _held.Length && _hangingCount > 0 && !_isClosed; slot++)
            {
                ref Held held = ref _held[slot];
                if (held.IsHanging)
                {
                    held.IsHanging = false;
                    _hangingCount--;
                    _inner.Submit(slot, in held.Request);
                }
            }
        }

        private struct Held
        {
            public DiskRequest Request;
            public DiskOutcome? Outcome;
            public bool Hangs;
            public bool IsDelayed;
            public bool IsHanging;
        }
    }
}
