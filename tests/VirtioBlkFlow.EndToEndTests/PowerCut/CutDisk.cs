using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Virtio;

namespace VirtioBlkFlow.EndToEndTests.PowerCut;

/// <summary>
/// What cuts have left, one storage behind the other as one large disk. What is written to it is kept in memory, in place of what was there.
/// For one queue.
/// </summary>
/// <param name="storages">For each the blocks that are not zeros; empty memory is zeros too.</param>
/// <param name="storageBytes">Size of each.</param>
/// <param name="blockBytes">Size of a block.</param>
internal sealed class CutDisk(IReadOnlyList<Dictionary<long, ReadOnlyMemory<byte>>> storages, long storageBytes, int blockBytes) : IDisk
{
    public DiskProperties Properties { get; } = new()
    {
        CapacityBytes = (ulong)(storages.Count * storageBytes),
        LogicalBlockBytes = (uint)blockBytes,
        PhysicalBlockBytes = (uint)blockBytes,
        CanDiscard = true,
        CanWriteZeroes = true,
    };

    public IDiskQueue OpenQueue(IIoEngine engine, IDiskCompletions completions, int slotCount) => new Queue(this, completions);

    public DiskOutcome Flush() => DiskOutcome.Done;

    public void Dispose()
    {
    }

    // Where a byte of this disk is.
    private (Dictionary<long, ReadOnlyMemory<byte>> Storage, long Block) Find(long offsetBytes)
    {
        (long storage, long offset) = long.DivRem(offsetBytes, storageBytes);
        return (storages[(int)storage], offset / blockBytes);
    }

    private sealed unsafe class Queue(CutDisk disk, IDiskCompletions completions) : IDiskQueue
    {
        private readonly byte[] _zeros = new byte[disk.Properties.LogicalBlockBytes];

        public void Submit(int slot, in DiskRequest request)
        {
            DiskRequest left = request;
            Perform(ref left);
            completions.OnCompleted(slot, DiskOutcome.Done);
        }

        public void OnIoCompleted(int slot, int result) => throw new InvalidOperationException("This disk starts no I/O.");

        public void Dispose()
        {
        }

        private void Perform(ref DiskRequest request)
        {
            long at = (long)request.OffsetBytes;
            switch (request.Operation)
            {
                case DiskOperation.Read:
                    for (; request.PieceCount > 0; at += _zeros.Length)
                    {
                        (Dictionary<long, ReadOnlyMemory<byte>> storage, long number) = disk.Find(at);
                        ReadOnlyMemory<byte> block = storage.GetValueOrDefault(number);
                        Iovec.Scatter(block.IsEmpty ? _zeros : block.Span, request.Pieces, request.PieceCount);
                        Iovec.Advance(ref request.Pieces, ref request.PieceCount, (nuint)_zeros.Length);
                    }

                    break;
                case DiskOperation.Write:
                    for (; request.PieceCount > 0; at += _zeros.Length)
                    {
                        byte[] block = new byte[_zeros.Length];
                        Iovec.Gather(request.Pieces, request.PieceCount, block);
                        (Dictionary<long, ReadOnlyMemory<byte>> storage, long number) = disk.Find(at);
                        storage[number] = block;
                        Iovec.Advance(ref request.Pieces, ref request.PieceCount, (nuint)_zeros.Length);
                    }

                    break;
                case DiskOperation.Discard or DiskOperation.WriteZeroes:
                    foreach (DiskRange range in new ReadOnlySpan<DiskRange>(request.Ranges, request.RangeCount))
                    {
                        for (ulong offset = 0; offset < range.LengthBytes; offset += (ulong)_zeros.Length)
                        {
                            (Dictionary<long, ReadOnlyMemory<byte>> storage, long number) = disk.Find((long)(range.OffsetBytes + offset));
                            storage.Remove(number);
                        }
                    }

                    break;
            }
        }
    }
}
