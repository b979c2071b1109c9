using VirtioBlkFlow.UnitTests.Disks.PowerCut;

namespace VirtioBlkFlow.EndToEndTests.PowerCut;

/// <summary>What a storage was asked for and when it was done, in the order of time: enough to know what it may hold at any moment.</summary>
internal sealed class StorageLog
{
    private readonly Lock _gate = new();

    // Guarded by _gate while the disk is in use.
    private readonly List<Step> _steps = [];
    private int _operations;

    public int Count => _steps.Count;

    /// <summary>Operations that ended, by kind; to see what a load has made of itself.</summary>
    public int CountOf(StepKind kind) => _steps.Count(step => step.Kind == kind);

    public int BeginWrite(long offsetBytes, byte[] data, bool durable) =>
        Begin(new Step(StepKind.Write) { OffsetBytes = offsetBytes, Data = data, Durable = durable });

    public int BeginZeroes(long offsetBytes, long lengthBytes) =>
        Begin(new Step(StepKind.Zeroes) { OffsetBytes = offsetBytes, LengthBytes = lengthBytes });

    public int BeginSync() => Begin(new Step(StepKind.Sync));

    /// <summary>An operation has ended.</summary>
    /// <param name="operation">What its beginning returned.</param>
    /// <param name="result">Bytes or 0, or a negated errno.</param>
    public void End(int operation, int result)
    {
        lock (_gate)
        {
            _steps.Add(new Step(StepKind.End) { Operation = operation, Result = result });
        }
    }

    /// <summary>Writes whole sectors that lie in an area: which and when. For a disk that is not in use any more.</summary>
    public IEnumerable<(int Position, long OffsetBytes, byte[] Data)> WritesIn(long startBytes, long endBytes) =>
        _steps.Index()
            .Where(one => one.Item.Kind == StepKind.Write && one.Item.OffsetBytes >= startBytes && one.Item.OffsetBytes < endBytes)
            .Select(static one => (one.Index, one.Item.OffsetBytes, one.Item.Data));

    /// <summary>Follows the log to some moments.</summary>
    /// <param name="positions">How many steps had been made, in ascending order.</param>
    /// <param name="sectorBytes">What is never torn.</param>
    /// <param name="withSyncs">False for a daemon that makes no syncs and no durable writes.</param>
    /// <returns>What the storage may hold then; used up by the next moment.</returns>
    public IEnumerable<VolatileStorage> Follow(IEnumerable<int> positions, int sectorBytes, bool withSyncs = true)
    {
        var storage = new VolatileStorage(sectorBytes);
        Dictionary<int, (Step Step, VolatileStorage.PendingWrite? Write, long SyncBegun)> pending = [];
        int at = 0;
        foreach (int position in positions)
        {
            for (; at < position; at++)
            {
                Step step = _steps[at];
                switch (step.Kind)
                {
                    case StepKind.Write:
                        pending.Add(step.Operation, (step, storage.BeginWrite(step.OffsetBytes, step.Data), 0));
                        break;
                    case StepKind.Zeroes:
                        pending.Add(step.Operation, (step, storage.BeginZeroes(step.OffsetBytes, step.LengthBytes), 0));
                        break;
                    case StepKind.Sync:
                        pending.Add(step.Operation, (step, null, storage.BeginSync()));
                        break;
                    default:
                        Assert.True(pending.Remove(step.Operation, out var begun), $"Operation {step.Operation} ended without having begun.");
                        End(storage, begun.Step, begun.Write, begun.SyncBegun, step.Result, withSyncs);
                        break;
                }
            }

            yield return storage;
        }

        void End(VolatileStorage disk, Step begun, VolatileStorage.PendingWrite? write, long syncBegun, int result, bool syncs)
        {
            switch (begun.Kind)
            {
                case StepKind.Write:
                    disk.End(write!, Math.Max(0, result) / sectorBytes, begun.Durable && syncs);
                    break;
                case StepKind.Zeroes:
                    disk.End(write!, result == 0 ? write!.Versions.Length : 0, durable: false);
                    break;
                default:
                    Assert.True(result == 0, $"A sync of the image failed: {result}.");
                    if (syncs)
                    {
                        disk.EndSync(syncBegun);
                    }

                    break;
            }
        }
    }

    private int Begin(Step step)
    {
        lock (_gate)
        {
            _steps.Add(step with { Operation = ++_operations });
            return _operations;
        }
    }

    /// <summary>The beginning or the end of an operation.</summary>
    private sealed record Step(StepKind Kind)
    {
        public int Operation { get; init; }

        public long OffsetBytes { get; init; }

        public long LengthBytes { get; init; }

        public byte[] Data { get; init; } = [];

        public bool Durable { get; init; }

        public int Result { get; init; }
    }
}

/// <summary>What a step of a <see cref="StorageLog"/> is.</summary>
internal enum StepKind
{
    Write,
    Zeroes,
    Sync,

    /// <summary>One of those has ended.</summary>
    End,
}
