using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;

namespace VirtioBlkFlow.UnitTests.Device;

/// <summary>
/// A disk that starts requests and ends them when the test says so. Data is not moved. Ending must happen on the queue's thread; what was
/// submitted may be looked at from any.
/// </summary>
internal sealed unsafe class HeldDisk : IDisk
{
    private readonly List<Held> _held = [];
    private volatile int _submittedCount;

    /// <summary>A request that was submitted and has not ended.</summary>
    internal sealed record Held(
        int Slot, DiskOperation Operation, ulong OffsetBytes, uint LengthBytes, nint[] Pieces, bool Durable, DiskRange[] Ranges, IDiskCompletions Completions);

    public DiskProperties Properties { get; init; } = new() { CapacityBytes = 4 << 20 };

    /// <inheritdoc/>
    public DiskLifetime? Lifetime { get; set; }

    /// <summary>Requests submitted since the beginning.</summary>
    public int SubmittedCount => _submittedCount;

    /// <summary>Control-path flushes.</summary>
    public int Flushes { get; private set; }

    public DiskOutcome FlushOutcome { get; set; }

    /// <summary>Those in flight, oldest first; on the queue's thread.</summary>
    public IReadOnlyList<Held> InFlight => _held;

    public bool ThrowsOnSubmit { get; set; }

    public IDiskQueue OpenQueue(IIoEngine engine, IDiskCompletions completions, int slotCount) => new Queue(this, completions);

    public DiskOutcome Flush()
    {
        Flushes++;
        return FlushOutcome;
    }

    /// <summary>Ends one request; on the queue's thread.</summary>
    public void End(int position = 0, DiskOutcome outcome = DiskOutcome.Done)
    {
        Held held = _held[position];
        _held.RemoveAt(position);
        held.Completions.OnCompleted(held.Slot, outcome);
    }

    public void EndAll()
    {
        while (_held.Count > 0)
        {
            End();
        }
    }

    public void Dispose()
    {
    }

    private sealed class Queue(HeldDisk disk, IDiskCompletions completions) : IDiskQueue
    {
        public void Submit(int slot, in DiskRequest request)
        {
            if (disk.ThrowsOnSubmit)
            {
                throw new InvalidDataException("The disk double throws.");
            }

            nint[] pieces = new nint[request.Operation is DiskOperation.Read or DiskOperation.Write ? request.PieceCount : 0];
            for (int i = 0; i < pieces.Length; i++)
            {
                pieces[i] = (nint)request.Pieces[i].Base;
            }

            disk._held.Add(new Held(
                slot, request.Operation, request.OffsetBytes, request.LengthBytes, pieces, request.Durable,
                new ReadOnlySpan<DiskRange>(request.Ranges, request.RangeCount).ToArray(), completions));
            disk._submittedCount++;
        }

        public void OnIoCompleted(int slot, int result) => throw new InvalidOperationException("No I/O was started.");

        public void Dispose()
        {
        }
    }
}
