using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Virtio;

namespace VirtioBlkFlow.UnitTests.Disks.Refresh;

/// <summary>A disk in memory that does a request only when the test says so, in the order the test says; until then nothing has happened.</summary>
internal sealed unsafe class SteppedDisk : IDisk
{
    private readonly List<Waiting> _waiting = [];

    public SteppedDisk(int sizeBytes)
    {
        Data = new byte[sizeBytes];
        Properties = new DiskProperties { CapacityBytes = (ulong)sizeBytes, PhysicalBlockBytes = 4096, CanDiscard = true, CanWriteZeroes = true, CanSecureErase = true };
    }

    public byte[] Data { get; }

    public DiskProperties Properties { get; set; }

    /// <summary>Each request that came: what, where, how long.</summary>
    public List<(DiskOperation Operation, ulong OffsetBytes, uint LengthBytes)> Requests { get; } = [];

    public int WaitingCount => _waiting.Count;

    /// <summary>How often a queue was asked not to hold anything.</summary>
    public int EndHeldCount { get; private set; }

    /// <summary>How a request ends that the test does not say the outcome of.</summary>
    public Func<DiskOperation, ulong, uint, DiskOutcome> Outcome { get; set; } = (_, _, _) => DiskOutcome.Done;

    /// <summary>Does the oldest request, or another one.</summary>
    public void Step(int index = 0)
    {
        Waiting waiting = _waiting[index];
        _waiting.RemoveAt(index);
        DiskRequest request = waiting.Request;
        DiskOutcome outcome = Outcome(request.Operation, request.OffsetBytes, request.LengthBytes);
        if (outcome == DiskOutcome.Done)
        {
            Do(request);
        }

        waiting.Completions.OnCompleted(waiting.Slot, outcome);
    }

    public IDiskQueue OpenQueue(IIoEngine engine, IDiskCompletions completions, int slotCount) => new Queue(this, completions);

    public DiskOutcome Flush() => DiskOutcome.Done;

    public void Dispose()
    {
    }

    private void Do(DiskRequest request)
    {
        if (request.Operation == DiskOperation.Read)
        {
            Iovec.Scatter(Data.AsSpan((int)request.OffsetBytes, (int)request.LengthBytes), request.Pieces, request.PieceCount);
        }
        else if (request.Operation == DiskOperation.Write)
        {
            Iovec.Gather(request.Pieces, request.PieceCount, Data.AsSpan((int)request.OffsetBytes, (int)request.LengthBytes));
        }
    }

    private sealed record Waiting(IDiskCompletions Completions, int Slot, DiskRequest Request);

    private sealed class Queue(SteppedDisk disk, IDiskCompletions completions) : IDiskQueue
    {
        public void Submit(int slot, in DiskRequest request)
        {
            disk.Requests.Add((request.Operation, request.OffsetBytes, request.LengthBytes));
            disk._waiting.Add(new Waiting(completions, slot, request));
        }

        public void OnIoCompleted(int slot, int result) => throw new NotSupportedException();

        public bool EndHeld()
        {
            disk.EndHeldCount++;
            return false;
        }

        public void Dispose()
        {
        }
    }
}
