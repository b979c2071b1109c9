namespace VirtioBlkFlow.Virtio.Inflight;

/// <summary>What a packed virtqueue's record says, found sound, as the record's own copy of it.</summary>
internal sealed class PackedRecoveryResult
{
    /// <summary>Entry after entry: of the free list, which ends with the number of entries, or of a chain.</summary>
    public required ushort[] Next { get; init; }

    /// <summary>Last entries of the chains, by first entry.</summary>
    public required ushort[] Last { get; init; }

    /// <summary>Lengths of the chains, by first entry.</summary>
    public required ushort[] Num { get; init; }

    public required ushort FreeHead { get; init; }

    public required PackedPosition Used { get; init; }

    public required PackedPosition? NextAvailable { get; init; }

    public required ulong NextCounter { get; init; }

    public required RecoveredChain[] Chains { get; init; }

    public required bool WroteRing { get; init; }

    /// <summary>What a new record says.</summary>
    public static PackedRecoveryResult Empty(int queueSize, PackedPosition used) => new()
    {
        Next = [.. Enumerable.Range(1, queueSize).Select(next => (ushort)next)],
        Last = new ushort[queueSize],
        Num = new ushort[queueSize],
        FreeHead = 0,
        Used = used,
        NextAvailable = null,
        NextCounter = 0,
        Chains = [],
        WroteRing = false,
    };
}

/// <summary>
/// Takes up a packed virtqueue's record after a crash (vhost-user, "Inflight I/O tracking"): a copy is judged, and only then are the record
/// and the ring put in order. Lives on the control path, once per start of a queue.
/// </summary>
internal sealed unsafe class PackedRecovery
{
    private const int DescriptorBytes = 16;
    private const int DescriptorFlagsOffset = 14;
    private const ushort VIRTQ_DESC_F_AVAIL = 1 << 7;
    private const ushort VIRTQ_DESC_F_USED = 1 << 15;

    private enum EntryUse : byte
    {
        Unknown,
        Free,
        InChain,
    }

    private readonly nint _ring;
    private readonly PackedInflightHeader _header;
    private readonly PackedInflightEntry[] _entries;
    private readonly EntryUse[] _uses;
    private readonly List<RecoveredChain> _chains = [];
    private ushort _freeHead;
    private PackedPosition _used;
    private int _slotsInFlight;
    private ulong _nextCounter;
    private bool _wroteRing;

    public PackedRecovery(nint address, int queueSize, nint descriptorRing)
    {
        _ring = descriptorRing;
        // Copied once: what is judged is what is used, whatever the front-end writes meanwhile.
        _header = Unsafe.ReadUnaligned<PackedInflightHeader>((void*)address);
        _entries = new ReadOnlySpan<PackedInflightEntry>((void*)(address + sizeof(PackedInflightHeader)), queueSize).ToArray();
        _uses = new EntryUse[queueSize];
    }

    private int QueueSize => _entries.Length;

    public InflightDefect Judge()
    {
        InflightDefect defect = JudgeFields();
        if (defect == InflightDefect.None)
        {
            CommitOrRollBack();
            defect = FollowFreeList();
        }

        if (defect == InflightDefect.None)
        {
            defect = FollowChains();
        }

        return defect == InflightDefect.None ? OrderCounters() : defect;
    }

    // Repeatable: a process killed in here leaves a record that the next one finishes in the same way.
    public void Finish<TObserver>(nint address, TObserver observer)
        where TObserver : struct, IStoreObserver
    {
        WithdrawUnpublished(observer);
        var header = (PackedInflightHeader*)address;
        var entries = (PackedInflightEntry*)(address + sizeof(PackedInflightHeader));
        for (int i = 0; i < QueueSize; i++)
        {
            if (_uses[i] == EntryUse.Free && _entries[i].Inflight != 0)
            {
                RecordStore.Write(&entries[i].Inflight, 0, observer);
            }
        }

        // Release: the free list before the positions. Equal positions end the matter, and the list must be the right one by then.
        RecordStore.Write(&header->FreeHeads, new FreeHeads { Current = _freeHead, Old = _freeHead }, observer);
        RecordStore.Write(&header->Used, PackedInflightRecord.Positions(_used, _used), observer);
    }

    public PackedRecoveryResult Result() => new()
    {
        Next = [.. _entries.Select(entry => entry.Next)],
        Last = [.. _entries.Select(entry => entry.Last)],
        Num = [.. _entries.Select(entry => entry.Num)],
        FreeHead = _freeHead,
        Used = _used,
        NextAvailable = _used.Advance(_slotsInFlight, QueueSize),
        NextCounter = _nextCounter,
        Chains = [.. _chains],
        WroteRing = _wroteRing,
    };

    private InflightDefect JudgeFields()
    {
        if (_header.Version != InflightLayout.Version)
        {
            return InflightDefect.UnknownVersion;
        }

        if (_header.EntryCount != QueueSize)
        {
            return InflightDefect.OtherQueueSize;
        }

        if (_header.Used.Offset >= QueueSize || _header.Used.OldOffset >= QueueSize)
        {
            return InflightDefect.UsedOffsetOutOfRange;
        }

        return _header.Used.Wrap > 1 || _header.Used.OldWrap > 1 || _entries.Any(entry => entry.Inflight > 1)
            ? InflightDefect.NotAFlag
            : InflightDefect.None;
    }

    // Two positions mean that a batch was on its way. Its first used descriptor stands at the old one and was made visible last: while that
    // descriptor is still available, the driver saw nothing of the batch.
    private void CommitOrRollBack()
    {
        var current = new PackedPosition(_header.Used.Offset, _header.Used.Wrap != 0);
        var old = new PackedPosition(_header.Used.OldOffset, _header.Used.OldWrap != 0);
        // Offset and counter: a batch of the whole ring ends at the offset it began at.
        bool committed = current != old && !IsAvailable(old);
        _used = committed ? current : old;
        _freeHead = committed ? _header.FreeHeads.Current : _header.FreeHeads.Old;
    }

    private InflightDefect FollowFreeList()
    {
        // Each step marks an entry that was not marked, so that the walk ends.
        for (ushort entry = _freeHead; entry != QueueSize; entry = _entries[entry].Next)
        {
            if (entry > QueueSize)
            {
                return InflightDefect.FreeListOutOfRange;
            }

            if (_uses[entry] != EntryUse.Unknown)
            {
                return InflightDefect.FreeListLoops;
            }

            _uses[entry] = EntryUse.Free;
        }

        return InflightDefect.None;
    }

    // A first entry on the free list is of a chain that was not taken whole, or is published: not in flight, whatever its byte says.
    private InflightDefect FollowChains()
    {
        for (int head = 0; head < QueueSize; head++)
        {
            if (_entries[head].Inflight != 0 && _uses[head] != EntryUse.Free)
            {
                InflightDefect defect = FollowChain((ushort)head);
                if (defect != InflightDefect.None)
                {
                    return defect;
                }
            }
        }

        return _uses.Contains(EntryUse.Unknown) ? InflightDefect.EntryLost : InflightDefect.None;
    }

    private InflightDefect FollowChain(ushort head)
    {
        int length = _entries[head].Num;
        if (length == 0 || length > QueueSize)
        {
            return InflightDefect.ChainLength;
        }

        var descriptors = new SavedDescriptor[length];
        ushort entry = head;
        for (int i = 0; ; i++)
        {
            if (entry >= QueueSize)
            {
                return InflightDefect.ChainOutOfRange;
            }

            if (_uses[entry] != EntryUse.Unknown)
            {
                return InflightDefect.EntryTwice;
            }

            _uses[entry] = EntryUse.InChain;
            descriptors[i] = _entries[entry].Descriptor;
            if (i == length - 1)
            {
                break;
            }

            entry = _entries[entry].Next;
        }

        if (entry != _entries[head].Last)
        {
            return InflightDefect.ChainEndsElsewhere;
        }

        _slotsInFlight += length;
        _chains.Add(new RecoveredChain(head, descriptors[^1].Id, descriptors));
        return InflightDefect.None;
    }

    private InflightDefect OrderCounters()
    {
        _chains.Sort((left, right) => _entries[left.Slot].Counter.CompareTo(_entries[right.Slot].Counter));
        for (int i = 1; i < _chains.Count; i++)
        {
            if (_entries[_chains[i].Slot].Counter == _entries[_chains[i - 1].Slot].Counter)
            {
                return InflightDefect.CounterUnusable;
            }
        }

        if (_chains.Count == 0)
        {
            return InflightDefect.None;
        }

        ulong last = _entries[_chains[^1].Slot].Counter;
        _nextCounter = unchecked(last + 1);
        return last == ulong.MaxValue ? InflightDefect.CounterUnusable : InflightDefect.None;
    }

    // A batch writes its later used descriptors before its first. When it was not published, they stand in the ring beyond the used position;
    // the driver would take each for a completion as soon as it gets there, though the request is served again. All slots up to the next
    // available one are ours, so nobody else writes them.
    private void WithdrawUnpublished<TObserver>(TObserver observer)
        where TObserver : struct, IStoreObserver
    {
        for (int i = 0; i < _slotsInFlight; i++)
        {
            PackedPosition position = _used.Advance(i, QueueSize);
            ushort flags = Volatile.Read(ref *Flags(position));
            if (HasBits(flags, available: position.Wrap, used: position.Wrap))
            {
                RecordStore.Write(Flags(position), (ushort)(flags ^ VIRTQ_DESC_F_USED), observer);
                _wroteRing = true;
            }
        }
    }

    // VIRTIO 1.4, "Driver and Device Ring Wrap Counters".
    private bool IsAvailable(PackedPosition position) =>
        HasBits(Volatile.Read(ref *Flags(position)), available: position.Wrap, used: !position.Wrap);

    private static bool HasBits(ushort flags, bool available, bool used) =>
        (flags & VIRTQ_DESC_F_AVAIL) != 0 == available && (flags & VIRTQ_DESC_F_USED) != 0 == used;

    private ushort* Flags(PackedPosition position) => (ushort*)(_ring + (position.Offset * DescriptorBytes) + DescriptorFlagsOffset);
}
