using VirtioBlkFlow.Disks.Engine;

namespace VirtioBlkFlow.Disks.Wrapping;

/// <summary>Lets requests through to another disk no faster than its group allows. Waiting is by the engine's clock: no thread stands still.</summary>
/// <param name="inner">Belongs to this one from now on.</param>
/// <param name="group">Its limits, which other disks may share.</param>
public sealed class ThrottleDisk(IDisk inner, ThrottleGroup group) : WrappingDisk(inner)
{
    /// <summary>The limits, which can be changed at any time.</summary>
    public ThrottleGroup Group { get; } = group;

    /// <inheritdoc/>
    public override IDiskQueue OpenQueue(IIoEngine engine, IDiskCompletions completions, int slotCount) =>
        new Queue(Group, Inner.OpenQueue(engine, completions, slotCount), engine.Agenda, slotCount);

    // Owned by the queue's thread.
    private sealed class Queue : IDiskQueue, IAgendaEntry
    {
        private readonly ThrottleGroup _group;
        private readonly IDiskQueue _inner;
        private readonly EngineAgenda _agenda;
        private readonly Action _onLimitsChanged;
        private readonly DiskRequest[] _requests;

        // When a slot came, counted from 1 on; 0 if it does not wait.
        private readonly ulong[] _arrivals;

        // For one that waits: when it may start, and by which books.
        private readonly long[] _starts;
        private readonly object?[] _books;
        private ulong _arrivalCount;
        private int _waitingCount;
        private bool _isClosed;

        public Queue(ThrottleGroup group, IDiskQueue inner, EngineAgenda agenda, int slotCount)
        {
            _group = group;
            _inner = inner;
            _agenda = agenda;
            _requests = new DiskRequest[slotCount];
            _arrivals = new ulong[slotCount];
            _starts = new long[slotCount];
            _books = new object?[slotCount];
            _onLimitsChanged = StartAnew;
            group.Add(agenda, _onLimitsChanged);
        }

        public void Submit(int slot, in DiskRequest request)
        {
            long now = _agenda.NowNs;
            long start = _group.Take(in request, now, out object books);
            if (start <= now)
            {
                _inner.Submit(slot, in request);
                return;
            }

            _starts[slot] = start;
            _books[slot] = books;

            _requests[slot] = request;
            _arrivals[slot] = ++_arrivalCount;
            _waitingCount++;
            _agenda.After(this, slot, start - now);
        }

        public void OnTime(int token) => Pass(token);

        public void OnIoCompleted(int slot, int result) => _inner.OnIoCompleted(slot, result);

        // A queue that ends does so without regard to limits: there are no requests to come that would profit.
        public bool EndHeld()
        {
            int[] waiting = TakeWaiting();
            foreach (int slot in waiting)
            {
                Pass(slot);
            }

            return _inner.EndHeld() | (waiting.Length > 0);
        }

        public void Dispose()
        {
            if (!_isClosed)
            {
                _isClosed = true;
                _group.Remove(_onLimitsChanged);
                _agenda.Forget(this);
            }

            _inner.Dispose();
        }

        // Under other limits everything that waits gets another time, the first that came first. What came after the change, and before this
        // queue heard of it, is in the new books already.
        private void StartAnew()
        {
            foreach (int slot in TakeWaiting())
            {
                long now = _agenda.NowNs;
                if (!ReferenceEquals(_books[slot], _group.Books))
                {
                    _starts[slot] = _group.Take(in _requests[slot], now, out object books);
                    _books[slot] = books;
                }

                if (_starts[slot] <= now)
                {
                    Pass(slot);
                }
                else
                {
                    _agenda.After(this, slot, _starts[slot] - now);
                }
            }
        }

        // Those that wait, in the order they came; their times are taken back.
        private int[] TakeWaiting()
        {
            if (_waitingCount == 0 || _isClosed)
            {
                return [];
            }

            _agenda.Forget(this);
            return [.. Enumerable.Range(0, _arrivals.Length).Where(slot => _arrivals[slot] != 0).OrderBy(slot => _arrivals[slot])];
        }

        private void Pass(int slot)
        {
            _arrivals[slot] = 0;
            _books[slot] = null;
            _waitingCount--;
            _inner.Submit(slot, in _requests[slot]);
        }
    }
}
