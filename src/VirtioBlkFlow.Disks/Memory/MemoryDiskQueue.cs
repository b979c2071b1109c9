namespace VirtioBlkFlow.Disks.Memory;

/// <summary>One queue's way to a disk in memory: copies inside Submit, so nothing is ever in flight. Owned by the queue's thread.</summary>
internal sealed unsafe class MemoryDiskQueue(MemoryStore store, IDiskCompletions completions, ulong capacityBytes) : IDiskQueue
{
    public void Submit(int slot, in DiskRequest request) => completions.OnCompleted(slot, Perform(in request));

    public void OnIoCompleted(int slot, int result) => Environment.FailFast($"Slot {slot} heard of an operation it did not start.");

    public void Dispose()
    {
    }

    private DiskOutcome Perform(in DiskRequest request)
    {
        switch (request.Operation)
        {
            // Checked by the caller, and once more here: beyond this memory is other memory.
            case DiskOperation.Read or DiskOperation.Write when !IsInside(request.OffsetBytes, request.LengthBytes):
                return DiskOutcome.Failed;
            case DiskOperation.Read:
                return store.Read(request.OffsetBytes, request.Pieces, request.PieceCount, request.LengthBytes);
            case DiskOperation.Write:
                return store.Write(request.OffsetBytes, request.Pieces, request.PieceCount, request.LengthBytes);
            case DiskOperation.Flush:
                return DiskOutcome.Done;
            case DiskOperation.Discard:
            case DiskOperation.WriteZeroes:
                return Clear(in request);
            default:
                return DiskOutcome.Unsupported;
        }
    }

    private DiskOutcome Clear(in DiskRequest request)
    {
        for (int i = 0; i < request.RangeCount; i++)
        {
            DiskRange range = request.Ranges[i];
            if (!IsInside(range.OffsetBytes, range.LengthBytes))
            {
                return DiskOutcome.Failed;
            }

            if (range.LengthBytes > 0)
            {
                DiskOutcome outcome = store.Clear(range.OffsetBytes, range.LengthBytes, range.MayDeallocate || request.Operation == DiskOperation.Discard);
                if (outcome != DiskOutcome.Done)
                {
                    return outcome;
                }
            }
        }

        return DiskOutcome.Done;
    }

    private bool IsInside(ulong offsetBytes, ulong lengthBytes) => offsetBytes <= capacityBytes && lengthBytes <= capacityBytes - offsetBytes;
}
