namespace VirtioBlkFlow.Virtio.Ring;

/// <summary>
/// Native memory for the pieces of chains in flight: a short list for each slot, and a bounded stock of long
/// ones for chains that do not fit. Owned by the thread that owns the virtqueue. Nothing here is seen by the garbage collector.
/// </summary>
public sealed unsafe class IovecArena : IDisposable
{
    /// <summary>
    /// Pieces in a short list: 126 data segments (what Linux and QEMU agree on for a queue of 128), header, status, and room
    /// for two that straddle regions.
    /// </summary>
    public const int ShortListPieces = 130;

    /// <summary>Pieces in a long list: every descriptor of the longest chain we take, each straddling two regions.</summary>
    public const int LongListPieces = 2 * Virtqueue.MaxChainLength;

    /// <summary>
    /// Long lists that may be in use at once (9 MB). Arbitrary: it bounds what a guest can make us allocate; when all are in use
    /// the chain stays in the ring until a request completes.
    /// </summary>
    public const int MaxLongLists = 256;

    private readonly Iovec* _shortLists;
    private readonly nint[] _longListOfSlot;
    private readonly Stack<nint> _freeLongLists = new();
    private int _longListsMade;
    private bool _disposed;

    /// <summary>Creates an arena for a queue of the given size.</summary>
    public IovecArena(int queueSize)
    {
        // calloc: untouched pages cost nothing, so a queue of 32768 pays only for the slots its driver makes use of.
        _shortLists = (Iovec*)NativeMemory.AllocZeroed((nuint)queueSize * ShortListPieces, (nuint)sizeof(Iovec));
        _longListOfSlot = new nint[queueSize];
    }

    /// <summary>The short list of a slot.</summary>
    public Iovec* ShortList(ushort slot) => _shortLists + ((nuint)slot * ShortListPieces);

    /// <summary>
    /// A long list for a slot, with what the short one holds copied to its start.
    /// </summary>
    /// <returns>Null when all long lists are in use.</returns>
    public Iovec* TryGrow(ushort slot, int piecesUsed)
    {
        if (!_freeLongLists.TryPop(out nint list))
        {
            if (_longListsMade == MaxLongLists)
            {
                return null;
            }

            list = (nint)NativeMemory.Alloc(LongListPieces, (nuint)sizeof(Iovec));
            _longListsMade++;
        }

        _longListOfSlot[slot] = list;
        new ReadOnlySpan<Iovec>(ShortList(slot), piecesUsed).CopyTo(new Span<Iovec>((void*)list, LongListPieces));
        return (Iovec*)list;
    }

    /// <summary>Gives back what a slot used. Its pieces are dead from here on.</summary>
    public void Release(ushort slot)
    {
        nint list = _longListOfSlot[slot];
        if (list != 0)
        {
            _longListOfSlot[slot] = 0;
            _freeLongLists.Push(list);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_disposed)
        {
            return;
        }

        _disposed = true;
        foreach (nint list in _freeLongLists.Concat(_longListOfSlot.Where(list => list != 0)))
        {
            NativeMemory.Free((void*)list);
        }

        NativeMemory.Free(_shortLists);
    }
}
