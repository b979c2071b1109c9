using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Virtio;

namespace VirtioBlkFlow.UnitTests.Disks.Wrapping;

/// <summary>A request as a disk got it.</summary>
internal sealed record Got(DiskOperation Operation, ulong OffsetBytes, uint LengthBytes, bool Durable, nuint[] PieceBytes, DiskRange[] Ranges);

/// <summary>
/// A disk that notes each request, uses up its lists as a disk may, and answers inside Submit as the test says; or later, if that has no answer.
/// </summary>
internal sealed unsafe class AnsweringDisk : IDisk
{
    private readonly List<IDiskCompletions> _completions = [];

    public event Action? SizeChanged;

    public DiskProperties Properties { get; set; } =
        new() { CapacityBytes = 4 << 20, CanDiscard = true, CanWriteZeroes = true, CanSecureErase = true };

    public List<Got> Requests { get; } = [];

    /// <summary>What a request is answered; null for not yet.</summary>
    public Func<Got, DiskOutcome?> Answer { get; set; } = _ => DiskOutcome.Done;

    /// <summary>What the next <see cref="Refresh"/> finds.</summary>
    public ulong? NewCapacityBytes { get; set; }

    public int DisposeCount { get; private set; }

    /// <summary>How often a queue was asked not to hold anything.</summary>
    public int EndHeldCount { get; private set; }

    public IDiskQueue OpenQueue(IIoEngine engine, IDiskCompletions completions, int slotCount)
    {
        _completions.Add(completions);
        return new Queue(this, completions);
    }

    /// <summary>Ends a request of a queue that had no answer.</summary>
    public void End(int slot, DiskOutcome outcome, int queue = 0) => _completions[queue].OnCompleted(slot, outcome);

    public DiskOutcome Flush() => DiskOutcome.Done;

    /// <summary>The disk notices that what <see cref="Refresh"/> finds may be another size.</summary>
    public void NoticeSize() => SizeChanged?.Invoke();

    public DiskResize Refresh()
    {
        ulong before = Properties.CapacityBytes;
        Properties = Properties with { CapacityBytes = NewCapacityBytes ?? before };
        return new DiskResize(before, Properties.CapacityBytes, 0);
    }

    public void Dispose() => DisposeCount++;

    private sealed class Queue(AnsweringDisk disk, IDiskCompletions completions) : IDiskQueue
    {
        public void Submit(int slot, in DiskRequest request)
        {
            var pieces = new Span<Iovec>(request.Pieces, request.PieceCount);
            var ranges = new Span<DiskRange>(request.Ranges, request.RangeCount);
            nuint[] lengths = new nuint[pieces.Length];
            for (int i = 0; i < pieces.Length; i++)
            {
                lengths[i] = pieces[i].LengthBytes;
            }

            var got = new Got(request.Operation, request.OffsetBytes, request.LengthBytes, request.Durable, lengths, ranges.ToArray());
            disk.Requests.Add(got);
            pieces.Clear();
            ranges.Clear();
            if (disk.Answer(got) is { } outcome)
            {
                completions.OnCompleted(slot, outcome);
            }
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
