using System.Diagnostics;

namespace VirtioBlkFlow.Virtio.Inflight;

/// <summary>A chain an earlier process had in flight when it ended.</summary>
/// <param name="Slot">The number it is known by from now on: below the queue size, and no other chain's.</param>
/// <param name="BufferId">The driver's id for it: what the used descriptor returns.</param>
/// <param name="Descriptors">Its descriptors as they were read from the ring, one for each ring slot it occupies.</param>
public sealed record RecoveredChain(ushort Slot, ushort BufferId, SavedDescriptor[] Descriptors);

/// <summary>A place in a packed ring: an offset below its size, and the wrap counter of the lap.</summary>
/// <param name="Offset">Index of a descriptor.</param>
/// <param name="Wrap">The wrap counter; it starts as true and toggles with each lap.</param>
public readonly record struct PackedPosition(ushort Offset, bool Wrap)
{
    /// <summary>The place a number of slots further on, at most one lap. Sizes need not be powers of two, so this compares and subtracts.</summary>
    public PackedPosition Advance(int slots, int queueSize)
    {
        int offset = Offset + slots;
        return offset >= queueSize ? new PackedPosition((ushort)(offset - queueSize), !Wrap) : new PackedPosition((ushort)offset, Wrap);
    }
}

/// <summary>
/// The record of a packed virtqueue's chains in flight, in memory that outlives this process (vhost-user, "Inflight I/O tracking"). Owned by
/// the queue's thread. The memory is read once, when the record is opened; from then on it is only written.
/// <para>A chain is taken by <see cref="TrySave(in SavedDescriptor)"/> for each descriptor as it is read from the ring, then
/// <see cref="Take(ushort)"/>, or <see cref="Abandon"/> when it cannot be served now.</para>
/// <para>A batch is published like this: <see cref="AddToBatch"/> for each chain, <see cref="BeforePublish()"/>, the used descriptors with
/// the flags of the first one last, <see cref="AfterPublish()"/>. A process killed anywhere in between leaves both states of the record, and
/// the flags of that first descriptor say which of them the driver saw.</para>
/// </summary>
[DebuggerDisplay("{_next.Length} entries, {_freeCount} free, {_batchCount} in the batch, next counter {_nextCounter}")]
public sealed unsafe class PackedInflightRecord
{
    // Fixed at construction.
    private readonly PackedInflightHeader* _header;
    private readonly PackedInflightEntry* _entries;
    private readonly RecoveredChain[] _recovered;

    // Owned by the queue's thread: our own copy of what the shared memory says.
    private readonly ushort[] _next;
    private readonly ushort[] _last;
    private readonly ushort[] _num;
    private readonly ushort[] _entryOfSlot;
    private readonly bool[] _inFlight;

    // First entries of the chains in the batch.
    private readonly ushort[] _batch;
    private int _batchCount;
    private bool _batchIsWritten;
    private int _freeCount;
    private ushort _freeHead;
    private PackedPosition _used;
    private ulong _nextCounter;

    // The chain that is being saved: its entries are still on the free list, from its head on.
    private ushort _savingLast;
    private ushort _savingCount;

    internal PackedInflightRecord(nint address, PackedRecoveryResult from)
    {
        _header = (PackedInflightHeader*)address;
        _entries = (PackedInflightEntry*)(address + sizeof(PackedInflightHeader));
        _next = from.Next;
        _last = from.Last;
        _num = from.Num;
        int queueSize = _next.Length;
        _entryOfSlot = new ushort[queueSize];
        _inFlight = new bool[queueSize];
        _batch = new ushort[queueSize];
        _freeHead = from.FreeHead;
        _used = from.Used;
        _nextCounter = from.NextCounter;
        _recovered = from.Chains;
        NextAvailable = from.NextAvailable;
        WroteRing = from.WroteRing;
        _freeCount = queueSize;
        foreach (RecoveredChain chain in _recovered)
        {
            _inFlight[chain.Slot] = true;
            _entryOfSlot[chain.Slot] = chain.Slot;
            _freeCount -= chain.Descriptors.Length;
        }
    }

    /// <summary>
    /// The chains an earlier process had in flight when it ended, in the order it took them. They count as taken: submit them again, before
    /// anything from the ring.
    /// </summary>
    public ReadOnlySpan<RecoveredChain> Recovered => _recovered;

    /// <summary>Where the next used descriptor goes.</summary>
    public PackedPosition Used => _used;

    /// <summary>
    /// Where to go on in the ring, whatever base the front-end gave: what is neither used nor in flight was never taken. Null in a record of
    /// no earlier process: then the front-end's base counts.
    /// </summary>
    public PackedPosition? NextAvailable { get; }

    /// <summary>Whether opening the record withdrew used descriptors, so that the ring's pages are dirty.</summary>
    public bool WroteRing { get; }

    /// <summary>
    /// Opens a queue's record: makes it when it is new, else takes up what an earlier process left. Nothing that was read is used before
    /// all of it is found sound, and a record with a defect is left as it was. After a batch that did not reach the driver, used
    /// descriptors it left in the ring are withdrawn: the driver would take them for real as soon as a shorter batch leads up to them.
    /// </summary>
    /// <param name="address">First byte of the queue's record in this process.</param>
    /// <param name="lengthBytes">Bytes that may be used there.</param>
    /// <param name="queueSize">Entries of the queue.</param>
    /// <param name="descriptorRing">Host address of the descriptor ring, aligned to 16 bytes, whole in mapped memory.</param>
    /// <param name="used">Where used descriptors go in a new record: what the front-end said. An older record knows it better.</param>
    /// <param name="record">The record; null with a defect.</param>
    /// <exception cref="ArgumentOutOfRangeException">No queue has that size.</exception>
    public static InflightDefect TryOpen(
        nint address, ulong lengthBytes, int queueSize, nint descriptorRing, PackedPosition used, out PackedInflightRecord? record) =>
        TryOpen(address, lengthBytes, queueSize, descriptorRing, used, default(Unobserved), out record);

    /// <summary>Saves the next descriptor of the chain that is being read, in ring order.</summary>
    /// <returns>False when no entry is free: the driver made more available than the ring holds. Then <see cref="Abandon"/>.</returns>
    public bool TrySave(in SavedDescriptor descriptor)
    {
        if (_savingCount == _freeCount)
        {
            return false;
        }

        _savingLast = _savingCount == 0 ? _freeHead : _next[_savingLast];
        _entries[_savingLast].Descriptor = descriptor;
        _savingCount++;
        return true;
    }

    /// <summary>Forgets the descriptors saved since the last chain. What they left in free entries means nothing.</summary>
    public void Abandon() => _savingCount = 0;

    /// <summary>
    /// Records that the chain whose descriptors were just saved is in flight. Before its I/O starts.
    /// </summary>
    /// <param name="slot">What the caller calls it: below the queue size, and of no chain in flight.</param>
    public void Take(ushort slot) => Take(slot, default(Unobserved));

    /// <summary>Puts a chain into the batch. Nothing is written to the shared memory yet, so chains may be taken meanwhile.</summary>
    /// <param name="slot">What <see cref="Take(ushort)"/> was given.</param>
    public void AddToBatch(ushort slot)
    {
        if (!_inFlight[slot])
        {
            // Each request completes exactly once; anything else is our bug, and the record would name the wrong requests.
            Environment.FailFast($"Slot {slot} was completed without being in flight.");
        }

        // The slot's number is free again at once; the chain's entries are not, before the batch is published.
        _inFlight[slot] = false;
        _batch[_batchCount++] = _entryOfSlot[slot];
    }

    /// <summary>Writes the state after the batch beside the state before it: before the flags of the batch's first used descriptor.</summary>
    public void BeforePublish() => BeforePublish(default(Unobserved));

    /// <summary>Makes the state after the batch the only one: after the flags of the batch's first used descriptor.</summary>
    public void AfterPublish() => AfterPublish(default(Unobserved));

    internal static InflightDefect TryOpen<TObserver>(
        nint address, ulong lengthBytes, int queueSize, nint descriptorRing, PackedPosition used, TObserver observer, out PackedInflightRecord? record)
        where TObserver : struct, IStoreObserver
    {
        record = null;
        InflightDefect defect = InflightLayout.CheckPlace(packed: true, address, lengthBytes, queueSize);
        if (defect == InflightDefect.None && used.Offset >= queueSize)
        {
            defect = InflightDefect.UsedOffsetOutOfRange;
        }

        if (defect != InflightDefect.None)
        {
            return defect;
        }

        if (Volatile.Read(ref ((PackedInflightHeader*)address)->Version) == 0)
        {
            Initialise(address, queueSize, used, observer);
            record = new PackedInflightRecord(address, PackedRecoveryResult.Empty(queueSize, used));
            return InflightDefect.None;
        }

        var recovery = new PackedRecovery(address, queueSize, descriptorRing);
        defect = recovery.Judge();
        if (defect == InflightDefect.None)
        {
            recovery.Finish(address, observer);
            record = new PackedInflightRecord(address, recovery.Result());
        }

        return defect;
    }

    internal void Take<TObserver>(ushort slot, TObserver observer)
        where TObserver : struct, IStoreObserver
    {
        if (_inFlight[slot] || _savingCount == 0)
        {
            Environment.FailFast($"Slot {slot} was taken twice, or for a chain without descriptors.");
        }

        ushort head = _freeHead;
        PackedInflightEntry* entry = _entries + head;
        _last[head] = _savingLast;
        _num[head] = _savingCount;
        RecordStore.Write(&entry->Last, _savingLast, observer);
        RecordStore.Write(&entry->Num, _savingCount, observer);
        // The counter before the flag: an entry that counts has its place in the order.
        RecordStore.Write(&entry->Counter, _nextCounter++, observer);
        RecordStore.Write(&entry->Inflight, 1, observer);
        _inFlight[slot] = true;
        _entryOfSlot[slot] = head;
        _freeCount -= _savingCount;
        _savingCount = 0;
        _freeHead = _next[_savingLast];
        // Release: the entries before the head that takes them off the free list. An entry on that list counts as free, whatever it says.
        RecordStore.Write(&_header->FreeHeads, new FreeHeads { Current = _freeHead, Old = _freeHead }, observer);
    }

    internal void BeforePublish<TObserver>(TObserver observer)
        where TObserver : struct, IStoreObserver
    {
        if (_batchCount == 0)
        {
            return;
        }

        _batchIsWritten = true;
        ushort oldHead = _freeHead;
        PackedPosition oldUsed = _used;
        for (int i = 0; i < _batchCount; i++)
        {
            ushort head = _batch[i];
            ushort last = _last[head];
            _next[last] = _freeHead;
            RecordStore.Write(&_entries[last].Next, _freeHead, observer);
            _freeHead = head;
            _used = _used.Advance(_num[head], _next.Length);
        }

        RecordStore.Write(&_header->FreeHeads, new FreeHeads { Current = _freeHead, Old = oldHead }, observer);
        // The release of the descriptor's flags orders this before them: a batch the driver saw is one the record knows.
        RecordStore.Write(&_header->Used, Positions(_used, oldUsed), observer);
    }

    internal void AfterPublish<TObserver>(TObserver observer)
        where TObserver : struct, IStoreObserver
    {
        if (_batchCount == 0)
        {
            return;
        }

        if (!_batchIsWritten)
        {
            // After a crash right now the next process would begin these requests again.
            Environment.FailFast("A batch was published before the record knew of it.");
        }

        _batchIsWritten = false;
        for (int i = 0; i < _batchCount; i++)
        {
            ushort head = _batch[i];
            // Release: the descriptor's flags before the clear.
            RecordStore.Write(&_entries[head].Inflight, 0, observer);
            _freeCount += _num[head];
        }

        _batchCount = 0;
        // Release: the free list before the positions. Equal positions end the matter, and the list must be the new one by then.
        RecordStore.Write(&_header->FreeHeads, new FreeHeads { Current = _freeHead, Old = _freeHead }, observer);
        RecordStore.Write(&_header->Used, Positions(_used, _used), observer);
    }

    internal static UsedPositions Positions(PackedPosition current, PackedPosition old) => new()
    {
        Offset = current.Offset,
        OldOffset = old.Offset,
        Wrap = current.Wrap ? (byte)1 : (byte)0,
        OldWrap = old.Wrap ? (byte)1 : (byte)0,
    };

    // The document leaves the first state of the free list open: all entries in order, and the number of entries as its end.
    private static void Initialise<TObserver>(nint address, int queueSize, PackedPosition used, TObserver observer)
        where TObserver : struct, IStoreObserver
    {
        var header = (PackedInflightHeader*)address;
        var entries = (PackedInflightEntry*)(address + sizeof(PackedInflightHeader));
        new Span<PackedInflightEntry>(entries, queueSize).Clear();
        for (int i = 0; i < queueSize; i++)
        {
            RecordStore.Write(&entries[i].Next, (ushort)(i + 1), observer);
        }

        RecordStore.Write(&header->Features, 0UL, observer);
        RecordStore.Write(&header->EntryCount, (ushort)queueSize, observer);
        RecordStore.Write(&header->FreeHeads, default(FreeHeads), observer);
        RecordStore.Write(&header->Used, Positions(used, used), observer);
        // Last: until then the record is new to whoever comes next.
        RecordStore.Write(&header->Version, InflightLayout.Version, observer);
    }
}
