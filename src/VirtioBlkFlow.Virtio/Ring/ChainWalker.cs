using System.Runtime.Intrinsics;

namespace VirtioBlkFlow.Virtio.Ring;

/// <summary>How a walk along a chain ended.</summary>
internal enum WalkOutcome
{
    /// <summary>The chain ended; it may carry <see cref="ChainFaults"/>.</summary>
    Complete,

    /// <summary>All long lists are in use: walk again after a request completed.</summary>
    NoListFree,

    /// <summary>The chain breaks the rules so that no answer can be given; see <see cref="ChainWalker.Defect"/>.</summary>
    Broken,
}

/// <summary>
/// Walks one chain: copies each descriptor once, validates the copy, translates its buffer. Lives on the stack of the
/// queue's thread for the length of one pop.
/// </summary>
internal unsafe ref partial struct ChainWalker
{
    private readonly GuestMemory _memory;
    private readonly IovecArena _arena;
    private readonly ushort _slot;
    private readonly bool _indirectNegotiated;
    private Iovec* _pieces;
    private int _capacity;
    private int _readableCount;
    private int _writableCount;
    private ulong _readableBytes;
    private ulong _writableBytes;
    private ChainFaults _faults;
    private bool _lastWritableIsMapped;
    private int _stepsLeft;

    public ChainWalker(GuestMemory memory, IovecArena arena, ushort slot, bool indirectNegotiated)
    {
        _memory = memory;
        _arena = arena;
        _slot = slot;
        _indirectNegotiated = indirectNegotiated;
        _pieces = arena.ShortList(slot);
        _capacity = IovecArena.ShortListPieces;
        _stepsLeft = Virtqueue.MaxChainLength;
        Defect = RingDefect.None;
    }

    /// <summary>Why the walk ended with <see cref="WalkOutcome.Broken"/>.</summary>
    public RingDefect Defect { get; private set; }

    // Writes down what was found, in the end.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void Describe(out DescriptorChain chain)
    {
        if (_readableBytes > uint.MaxValue || _writableBytes > uint.MaxValue)
        {
            _faults |= ChainFaults.TooLong;
        }

        // Field by field to where it stays. Built aside and copied, it would be read in wider pieces than it was just written in, and a
        // processor cannot forward such stores: it waits until they have reached the cache.
        chain.Slot = _slot;
        chain.DescriptorCount = (ushort)(Virtqueue.MaxChainLength - _stepsLeft);
        chain.Faults = _faults;
        chain.LastWritableIsMapped = _lastWritableIsMapped;
        chain.Pieces = _pieces;
        chain.ReadableCount = _readableCount;
        chain.WritableCount = _writableCount;
        // Saturated: a length that wrapped would look like a small one, and bytes would be reported that nobody wrote.
        chain.ReadableBytes = (uint)Math.Min(_readableBytes, uint.MaxValue);
        chain.WritableBytes = (uint)Math.Min(_writableBytes, uint.MaxValue);
    }

    private WalkOutcome Add(ulong address, uint lengthBytes, bool writable)
    {
        if (--_stepsLeft < 0)
        {
            return Break(RingDefect.ChainTooLong);
        }

        // Not forbidden, and nothing to do: a zero-length buffer holds no byte.
        if (lengthBytes == 0)
        {
            return WalkOutcome.Complete;
        }

        if (!writable && _writableCount + (long)_writableBytes > 0)
        {
            _faults |= ChainFaults.ReadableAfterWritable;
            return WalkOutcome.Complete;
        }

        int used = _readableCount + _writableCount;
        if (used == IovecArena.ShortListPieces && _capacity == IovecArena.ShortListPieces && !TryGrow(used))
        {
            return WalkOutcome.NoListFree;
        }

        byte* host = used < _capacity ? _memory.TranslateWithinRegion(address, lengthBytes) : null;
        int added;
        if (host != null)
        {
            _pieces[used] = new Iovec(host, lengthBytes);
            added = 1;
        }
        else if (!TryAddStraddling(address, lengthBytes, used, out added))
        {
            return WalkOutcome.NoListFree;
        }

        if (added == 0)
        {
            _faults |= ChainFaults.Unmapped;
        }

        if (writable)
        {
            _writableCount += added;
            _writableBytes += lengthBytes;
            _lastWritableIsMapped = added > 0;
        }
        else
        {
            _readableCount += added;
            _readableBytes += lengthBytes;
        }

        return WalkOutcome.Complete;
    }

    // A buffer over several regions, or over none: then added is 0, as when even a long list is full (most descriptors straddle
    // regions then, which no driver does). False when a long list is needed and none is free.
    private bool TryAddStraddling(ulong address, uint lengthBytes, int used, out int added)
    {
        if (_memory.TryTranslate(address, lengthBytes, _pieces + used, _capacity - used, out added))
        {
            return true;
        }

        if (used + added == _capacity && _capacity == IovecArena.ShortListPieces)
        {
            if (!TryGrow(used))
            {
                return false;
            }

            if (_memory.TryTranslate(address, lengthBytes, _pieces + used, _capacity - used, out added))
            {
                return true;
            }
        }

        added = 0;
        return true;
    }

    private bool TryGrow(int used)
    {
        Iovec* longer = _arena.TryGrow(_slot, used);
        if (longer == null)
        {
            return false;
        }

        _pieces = longer;
        _capacity = IovecArena.LongListPieces;
        return true;
    }

    private WalkOutcome Break(RingDefect defect)
    {
        Defect = defect;
        return WalkOutcome.Broken;
    }

    // One 16-byte load: what is validated is what is used, whatever the guest writes meanwhile.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<ulong> CopyOnce(byte* source) => Vector128.Load((ulong*)source);

    // An entry of an indirect table. The table may straddle regions: then it has no host address of its own.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private readonly bool TryCopyFromTable(byte* table, ulong tableAddress, uint index, out Vector128<ulong> copy)
    {
        if (table != null)
        {
            copy = CopyOnce(table + (index * SplitRingLayout.DescriptorBytes));
            return true;
        }

        return TryCopyFromStraddlingTable(tableAddress, index, out copy);
    }

    private readonly bool TryCopyFromStraddlingTable(ulong tableAddress, uint index, out Vector128<ulong> copy)
    {
        copy = default;
        Iovec* pieces = stackalloc Iovec[SplitRingLayout.DescriptorBytes];
        ulong address = unchecked(tableAddress + (index * (ulong)SplitRingLayout.DescriptorBytes));
        if (!_memory.TryTranslate(address, SplitRingLayout.DescriptorBytes, pieces, SplitRingLayout.DescriptorBytes, out int count))
        {
            return false;
        }

        Span<byte> bytes = stackalloc byte[SplitRingLayout.DescriptorBytes];
        Iovec.Gather(pieces, count, bytes);
        copy = MemoryMarshal.Read<Vector128<ulong>>(bytes);
        return true;
    }

    // What holds for the table of both kinds of ring.
    private bool TryOpenTable(ulong tableAddress, uint lengthBytes, uint queueSize, out byte* table, out uint tableSize)
    {
        table = null;
        tableSize = lengthBytes / SplitRingLayout.DescriptorBytes;
        RingDefect defect = RingDefect.None;
        if (!_indirectNegotiated)
        {
            defect = RingDefect.IndirectNotNegotiated;
        }
        else if (lengthBytes == 0 || lengthBytes % SplitRingLayout.DescriptorBytes != 0)
        {
            defect = RingDefect.IndirectTableSize;
        }
        else if (tableSize > Math.Max(queueSize, Virtqueue.MaxChainLength))
        {
            // Linux makes tables longer than the queue (queue of 16, 128 entries): the limit is ours, not the queue's.
            defect = RingDefect.ChainTooLong;
        }

        if (defect != RingDefect.None)
        {
            Break(defect);
            return false;
        }

        table = _memory.TranslateWithinRegion(tableAddress, lengthBytes);
        return true;
    }
}
