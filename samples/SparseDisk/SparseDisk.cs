using System.Collections.Concurrent;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Virtio;

namespace VirtioBlkFlow.Samples;

/// <summary>A disk of any size that remembers only the sectors that were written.</summary>
public sealed class SparseDisk(ulong capacityBytes) : IDisk
{
    private readonly ConcurrentDictionary<ulong, byte[]> _sectors = new();

    public DiskProperties Properties { get; } = new() { CapacityBytes = capacityBytes, CanDiscard = true };

    public IDiskQueue OpenQueue(IIoEngine engine, IDiskCompletions completions, int slotCount) => new Queue(_sectors, completions);

    public DiskOutcome Flush() => DiskOutcome.Done;

    public void Dispose() => _sectors.Clear();

    private sealed unsafe class Queue(ConcurrentDictionary<ulong, byte[]> sectors, IDiskCompletions completions) : IDiskQueue
    {
        public void Submit(int slot, in DiskRequest request) => completions.OnCompleted(slot, Perform(request));

        public void OnIoCompleted(int slot, int result) => throw new InvalidOperationException("This disk starts no I/O.");

        public void Dispose()
        {
        }

        private DiskOutcome Perform(DiskRequest request)
        {
            ulong end = request.OffsetBytes + request.LengthBytes;
            switch (request.Operation)
            {
                case DiskOperation.Read:
                    for (ulong at = request.OffsetBytes; at < end; at += 512)
                    {
                        Iovec.Scatter(sectors.GetValueOrDefault(at) ?? new byte[512], request.Pieces, request.PieceCount);
                        Iovec.Advance(ref request.Pieces, ref request.PieceCount, 512);
                    }

                    return DiskOutcome.Done;
                case DiskOperation.Write:
                    for (ulong at = request.OffsetBytes; at < end; at += 512)
                    {
                        Iovec.Gather(request.Pieces, request.PieceCount, sectors.GetOrAdd(at, _ => new byte[512]));
                        Iovec.Advance(ref request.Pieces, ref request.PieceCount, 512);
                    }

                    return DiskOutcome.Done;
                case DiskOperation.Discard:
                    foreach (DiskRange range in new ReadOnlySpan<DiskRange>(request.Ranges, request.RangeCount))
                    {
                        for (ulong at = range.OffsetBytes; at < range.OffsetBytes + range.LengthBytes; at += 512)
                        {
                            sectors.TryRemove(at, out _);
                        }
                    }

                    return DiskOutcome.Done;
                case DiskOperation.Flush:
                    return DiskOutcome.Done;
                default:
                    return DiskOutcome.Unsupported;
            }
        }
    }
}
