using VirtioBlkFlow.Disks.Engine;

namespace VirtioBlkFlow.Device.Pipeline;

/// <summary>
/// Memory for the piece lists of a batch's runs; given back as a whole, when the batch has completed. Owned by the queue's thread.
/// </summary>
internal sealed unsafe class PieceArena
{
    /// <summary>Pieces in the runs of a batch: as many as one operation of the kernel takes. Arbitrary otherwise; what finds no room goes alone.</summary>
    public const int Capacity = IIoEngine.MaxPieces;

    private readonly Iovec* _pieces;
    private int _count;

    /// <param name="pieces">Room for <see cref="Capacity"/> pieces; stays the caller's.</param>
    public PieceArena(Iovec* pieces) => _pieces = pieces;

    /// <summary>Where the next list begins.</summary>
    public Iovec* Next => _pieces + _count;

    /// <summary>Adds pieces to the list that is being made.</summary>
    /// <returns>False if there is no room for all of them; none were added then.</returns>
    public bool TryAdd(Iovec* pieces, int count)
    {
        if (count > Capacity - _count)
        {
            return false;
        }

        new ReadOnlySpan<Iovec>(pieces, count).CopyTo(new Span<Iovec>(_pieces + _count, count));
        _count += count;
        return true;
    }

    /// <summary>All lists are free.</summary>
    public void Clear() => _count = 0;
}
