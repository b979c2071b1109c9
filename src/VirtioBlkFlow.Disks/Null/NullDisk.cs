using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.Wrapping;

namespace VirtioBlkFlow.Disks.Null;

/// <summary>
/// A disk that keeps nothing and ends each request inside Submit, or after a delay: for studies of everything but the storage. Immutable.
/// </summary>
public sealed class NullDisk : IDisk
{
    private readonly NullDiskOptions _options;

    private NullDisk(NullDiskOptions options)
    {
        _options = options;
        Properties = new DiskProperties { CapacityBytes = options.SizeBytes, CanDiscard = true, CanWriteZeroes = true };
    }

    /// <inheritdoc/>
    public DiskProperties Properties { get; }

    /// <summary>Makes a null disk.</summary>
    /// <exception cref="DiskOpenException">The size is none a disk can have.</exception>
    public static NullDisk Open(NullDiskOptions options)
    {
        SizeRule.Require(options.SizeBytes, "null disk");
        return new NullDisk(options);
    }

    /// <inheritdoc/>
    public IDiskQueue OpenQueue(IIoEngine engine, IDiskCompletions completions, int slotCount) => _options switch
    {
        { Delay: { } delay } => new DelayedQueue(_options, delay, engine.Agenda, completions, slotCount),
        { ReadZeroes: true } => new ZeroingQueue(completions),
        _ => new Queue(completions),
    };

    /// <inheritdoc/>
    public DiskOutcome Flush() => DiskOutcome.Done;

    /// <inheritdoc/>
    public void Dispose()
    {
    }

    private static DiskOutcome OutcomeOf(DiskOperation operation) =>
        operation <= DiskOperation.WriteZeroes ? DiskOutcome.Done : DiskOutcome.Unsupported;

    private static unsafe void ClearRead(in DiskRequest request)
    {
        for (int i = 0; request.Operation == DiskOperation.Read && i < request.PieceCount; i++)
        {
            NativeMemory.Clear(request.Pieces[i].Base, request.Pieces[i].LengthBytes);
        }
    }

    private sealed class Queue(IDiskCompletions completions) : IDiskQueue
    {
        public void Submit(int slot, in DiskRequest request) => completions.OnCompleted(slot, OutcomeOf(request.Operation));

        public void OnIoCompleted(int slot, int result) => Environment.FailFast($"Slot {slot} heard of an operation it did not start.");

        public void Dispose()
        {
        }
    }

    private sealed class ZeroingQueue(IDiskCompletions completions) : IDiskQueue
    {
        public void Submit(int slot, in DiskRequest request)
        {
            ClearRead(in request);
            completions.OnCompleted(slot, OutcomeOf(request.Operation));
        }

        public void OnIoCompleted(int slot, int result) => Environment.FailFast($"Slot {slot} heard of an operation it did not start.");

        public void Dispose()
        {
        }
    }

    private sealed class DelayedQueue(
        NullDiskOptions options, DelayDistribution delay, EngineAgenda agenda, IDiskCompletions completions, int slotCount) : IDiskQueue, IAgendaEntry
    {
        private readonly Random _random = new(options.Seed);
        private readonly DiskRequest[] _requests = new DiskRequest[slotCount];
        private readonly bool[] _isPending = new bool[slotCount];

        public void Submit(int slot, in DiskRequest request)
        {
            _requests[slot] = request;
            _isPending[slot] = true;
            agenda.After(this, slot, delay.DrawNs(_random));
        }

        public void OnTime(int token)
        {
            ref DiskRequest request = ref _requests[token];
            _isPending[token] = false;
            if (options.ReadZeroes)
            {
                ClearRead(in request);
            }

            completions.OnCompleted(token, OutcomeOf(request.Operation));
        }

        public void OnIoCompleted(int slot, int result) => Environment.FailFast($"Slot {slot} heard of an operation it did not start.");

        public bool EndHeld()
        {
            agenda.Forget(this);
            bool any = false;
            for (int slot = 0; slot < _isPending.Length; slot++)
            {
                if (_isPending[slot])
                {
                    any = true;
                    OnTime(slot);
                }
            }

            return any;
        }

        public void Dispose() => agenda.Forget(this);
    }
}
