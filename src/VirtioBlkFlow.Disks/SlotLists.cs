namespace VirtioBlkFlow.Disks;

/// <summary>
/// A list of pieces or ranges for each slot, for queues that pass on another one than they got. A slot keeps its memory for the next request.
/// Owned by the queue's thread.
/// </summary>
/// <param name="slotCount">Slots are numbered from 0 below this.</param>
internal sealed unsafe class SlotLists(int slotCount) : IDisposable
{
    private readonly List[] _lists = new List[slotCount];

    /// <summary>Room for some pieces.</summary>
    public Iovec* Pieces(int slot, int count) => (Iovec*)Room(slot, (nuint)count * (nuint)sizeof(Iovec));

    /// <summary>Room for some ranges.</summary>
    public DiskRange* Ranges(int slot, int count) => (DiskRange*)Room(slot, (nuint)count * (nuint)sizeof(DiskRange));

    /// <summary>Frees the memory. No request is in flight.</summary>
    public void Dispose()
    {
        foreach (ref List list in _lists.AsSpan())
        {
            NativeMemory.Free(list.First);
            list = default;
        }
    }

    private void* Room(int slot, nuint lengthBytes)
    {
        ref List list = ref _lists[slot];
        if (list.LengthBytes < lengthBytes)
        {
            list.First = NativeMemory.Realloc(list.First, lengthBytes);
            list.LengthBytes = lengthBytes;
        }

        return list.First;
    }

    private struct List
    {
        public void* First;
        public nuint LengthBytes;
    }
}
