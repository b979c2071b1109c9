namespace VirtioBlkFlow.Virtio.Migration;

/// <summary>How marking ended.</summary>
public enum DirtyOutcome
{
    /// <summary>Every page is marked.</summary>
    Marked,

    /// <summary>A page has no bit in the log, or the range runs over the end of the address space: the front-end made the log too small.</summary>
    OutOfRange,
}

/// <summary>
/// The bitmap of guest pages written since the front-end last looked (vhost-user, "Migration"): page 4096 bytes, bit <c>page % 8</c> of byte
/// <c>page / 8</c>. Memory shared with the front-end, which swaps words to zero while we set bits. Safe to use from any thread: all queues
/// share one log.
/// </summary>
public sealed unsafe class DirtyLog
{
    /// <summary>Bytes a bit stands for (vhost-user, "Migration").</summary>
    public const int PageBytes = 4096;

    private const int WordBytes = 8;
    private const int WordBits = 64;

    // Fixed at construction.
    private readonly byte* _start;
    private readonly byte* _end;

    // Shared.
    private long _outOfRangeCount;

    /// <summary>Takes up a log.</summary>
    /// <param name="address">First byte in this process; any alignment.</param>
    /// <param name="lengthBytes">Length in bytes; any.</param>
    public DirtyLog(nint address, ulong lengthBytes)
    {
        _start = (byte*)address;
        _end = _start + lengthBytes;
    }

    /// <summary>How often a range did not fit into the log.</summary>
    public long OutOfRangeCount => Volatile.Read(ref _outOfRangeCount);

    /// <summary>
    /// Marks every page a range overlaps. After the write to guest memory and before the publish: marked before the write, a page could be
    /// copied and its bit cleared in between, and the write would be lost.
    /// </summary>
    /// <param name="guestAddress">First guest-physical address.</param>
    /// <param name="lengthBytes">Length in bytes; 0 marks nothing.</param>
    /// <returns>With <see cref="DirtyOutcome.OutOfRange"/> the pages that have a bit are marked all the same.</returns>
    public DirtyOutcome Mark(ulong guestAddress, ulong lengthBytes)
    {
        if (lengthBytes == 0)
        {
            return DirtyOutcome.Marked;
        }

        // StoreLoad: the write to guest memory before the look at the bit, against the front-end that swaps the bit away and then reads the
        // page. Without it we could see the bit still set, and the front-end the page not yet written.
        Interlocked.MemoryBarrier();
        bool overflows = lengthBytes - 1 > ulong.MaxValue - guestAddress;
        ulong first = guestAddress / PageBytes;
        ulong last = (overflows ? ulong.MaxValue : guestAddress + (lengthBytes - 1)) / PageBytes;
        ulong logBytes = (ulong)(_end - _start);
        bool beyond = last / 8 >= logBytes;
        if (!beyond)
        {
            MarkPages(first, last);
        }
        else if (first / 8 < logBytes)
        {
            MarkPages(first, (logBytes * 8) - 1);
        }

        if (!beyond && !overflows)
        {
            return DirtyOutcome.Marked;
        }

        Interlocked.Increment(ref _outOfRangeCount);
        return DirtyOutcome.OutOfRange;
    }

    /// <summary>Marks a range at an offset from an address the front-end gave, where the sum may run over.</summary>
    internal DirtyOutcome MarkAt(ulong baseAddress, ulong offset, ulong lengthBytes)
    {
        if (offset <= ulong.MaxValue - baseAddress)
        {
            return Mark(baseAddress + offset, lengthBytes);
        }

        Interlocked.Increment(ref _outOfRangeCount);
        return DirtyOutcome.OutOfRange;
    }

    // All bits exist. A word at a time; its bits are in page order, as bytes are in a little-endian word.
    private void MarkPages(ulong first, ulong last)
    {
        ulong page = first;
        while (true)
        {
            byte* at = _start + (page / 8);
            byte* word = (byte*)((nuint)at & ~(nuint)(WordBytes - 1));
            int bit = ((int)(at - word) * 8) + (int)(page % 8);
            ulong count = Math.Min((ulong)(WordBits - bit), last - page + 1);
            ulong mask = (ulong.MaxValue >> (int)(WordBits - count)) << bit;
            if (word >= _start && word + WordBytes <= _end)
            {
                SetInWord((ulong*)word, mask);
            }
            else
            {
                SetInBytes(word, mask);
            }

            if (count > last - page)
            {
                return;
            }

            page += count;
        }
    }

    // Reads first: a bit that is set already costs no exclusive access to a cache line that all queues and the front-end share.
    private static void SetInWord(ulong* word, ulong mask)
    {
        if ((Volatile.Read(ref *word) & mask) != mask)
        {
            Interlocked.Or(ref *word, mask);
        }
    }

    // A word that sticks out of the log at its start or end: the mask has bits in the bytes inside only, and no other is touched.
    private static void SetInBytes(byte* word, ulong mask)
    {
        for (; mask != 0; mask >>= 8, word++)
        {
            var bits = (byte)mask;
            byte seen = bits == 0 ? (byte)0 : Volatile.Read(ref *word);
            while ((seen & bits) != bits)
            {
                byte before = Interlocked.CompareExchange(ref *word, (byte)(seen | bits), seen);
                if (before == seen)
                {
                    break;
                }

                seen = before;
            }
        }
    }
}
