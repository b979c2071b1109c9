using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.Virtio.Migration;

/// <summary>
/// Remembers, for one virtqueue, where its chains in flight may be written, and marks what was written when they complete. A chain's own
/// list of pieces does not serve: on the way it is trimmed and advanced in place. Owned by the queue's thread; exists only while writes
/// are logged. Take it up and drop it while nothing is in flight: of a chain popped before, it knows nothing.
/// </summary>
public sealed unsafe class DirtyTracker : IDisposable
{
    // Fixed at construction. The same arena as the queue's own, with the same bounds: whatever list the queue had memory for, this has too.
    private readonly IovecArena _arena;

    // Owned by the queue's thread.
    private readonly nint[] _pieces;
    private readonly int[] _counts;

    /// <summary>Creates a tracker for a queue of the given size.</summary>
    public DirtyTracker(int queueSize)
    {
        _arena = new IovecArena(queueSize);
        _pieces = new nint[queueSize];
        _counts = new int[queueSize];
    }

    /// <summary>
    /// Remembers a chain that was just popped, before anything changes its list.
    /// </summary>
    /// <param name="slot">The queue's number of the chain: below the queue size.</param>
    /// <param name="chain">The chain.</param>
    /// <returns>False when all memory for long lists is in use, which the queue's own list of the same length makes impossible.</returns>
    public bool TryRemember(ushort slot, in DescriptorChain chain)
    {
        int count = chain.WritableCount;
        Iovec* list = count <= IovecArena.ShortListPieces ? _arena.ShortList(slot) : _arena.TryGrow(slot, piecesUsed: 0);
        if (list == null)
        {
            return false;
        }

        new ReadOnlySpan<Iovec>(chain.Writable, count).CopyTo(new Span<Iovec>(list, count));
        _pieces[slot] = (nint)list;
        _counts[slot] = count;
        return true;
    }

    /// <summary>
    /// Marks what a chain's completion wrote and forgets the chain. After the last write to its buffers, the status byte among them, and
    /// before its used element is published.
    /// </summary>
    /// <param name="slot">What <see cref="TryRemember"/> was given.</param>
    /// <param name="touchedBytes">
    /// Bytes that may have been written, from the first writable byte on: after a failed or short read all of its buffer, as the kernel may
    /// have written any part of it.
    /// </param>
    /// <param name="memory">The memory the chain was popped with.</param>
    /// <param name="log">The log.</param>
    public DirtyOutcome MarkCompleted(ushort slot, ulong touchedBytes, GuestMemory memory, DirtyLog log)
    {
        var pieces = (Iovec*)_pieces[slot];
        int count = _counts[slot];
        var outcome = DirtyOutcome.Marked;
        ulong left = touchedBytes;
        for (int i = 0; i < count && left > 0; i++)
        {
            ulong take = Math.Min(left, pieces[i].LengthBytes);
            outcome |= Mark(pieces[i].Base, take, memory, log);
            left -= take;
        }

        if (count > 0)
        {
            // The status byte is the very last one (VIRTIO 1.4, "Block Device", "Device Operation").
            outcome |= Mark(pieces[count - 1].Base + pieces[count - 1].LengthBytes - 1, 1, memory, log);
        }

        Forget(slot);
        return outcome;
    }

    /// <summary>Forgets a chain without marking anything.</summary>
    public void Forget(ushort slot)
    {
        _counts[slot] = 0;
        _arena.Release(slot);
    }

    /// <summary>Frees the native memory.</summary>
    public void Dispose() => _arena.Dispose();

    private static DirtyOutcome Mark(byte* host, ulong lengthBytes, GuestMemory memory, DirtyLog log) =>
        memory.TryToGuest((nint)host, lengthBytes, out ulong guestAddress) ? log.Mark(guestAddress, lengthBytes) : DirtyOutcome.OutOfRange;
}
