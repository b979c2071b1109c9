using System.Diagnostics;

namespace VirtioBlkFlow.Virtio.Inflight;

/// <summary>
/// The record of a split virtqueue's requests in flight, in memory that outlives this process (vhost-user, "Inflight I/O tracking"). Owned
/// by the queue's thread. The memory is read once, when the record is opened; from then on it is only written.
/// <para>A batch is published like this: <see cref="AddToBatch"/> for each head, <see cref="BeforePublish()"/>, the store of the ring's
/// <c>used.idx</c>, <see cref="AfterPublish(ushort)"/>. A process killed anywhere in between leaves either a batch that is not published,
/// whose requests are served again, or one that is, and the list of the heads still to be cleared.</para>
/// </summary>
[DebuggerDisplay("{_states.Length} entries, {_batchCount} in the batch, next counter {_nextCounter}")]
public sealed unsafe class SplitInflightRecord
{
    private enum HeadState : byte
    {
        Free,
        InFlight,
        InBatch,
    }

    // Fixed at construction.
    private readonly SplitInflightHeader* _header;
    private readonly SplitInflightEntry* _entries;
    private readonly ushort[] _recovered;

    // Owned by the queue's thread: our own copy of what the shared memory says.
    private readonly HeadState[] _states;
    private readonly ushort[] _batch;
    private int _batchCount;
    private bool _batchIsWritten;
    private ushort _lastBatchHead;
    private ulong _nextCounter;

    private SplitInflightRecord(nint address, int queueSize, ushort[] recovered, ulong nextCounter, ushort lastBatchHead, ushort? nextAvailable)
    {
        _header = (SplitInflightHeader*)address;
        _entries = (SplitInflightEntry*)(address + sizeof(SplitInflightHeader));
        _states = new HeadState[queueSize];
        _batch = new ushort[queueSize];
        _recovered = recovered;
        _nextCounter = nextCounter;
        _lastBatchHead = lastBatchHead;
        NextAvailable = nextAvailable;
        foreach (ushort head in recovered)
        {
            _states[head] = HeadState.InFlight;
        }
    }

    /// <summary>
    /// The heads an earlier process had in flight when it ended, in the order it took them. They count as taken: submit them again, before
    /// anything from the ring.
    /// </summary>
    public ReadOnlySpan<ushort> Recovered => _recovered;

    /// <summary>
    /// Where to go on in the available ring, whatever base the front-end gave: what is neither used nor in flight was never taken. Null in
    /// a record of no earlier process: then the front-end's base counts.
    /// </summary>
    public ushort? NextAvailable { get; }

    /// <summary>
    /// Opens a queue's record: makes it when it is new, else takes up what an earlier process left. Nothing that was read is used before
    /// all of it is found sound, and a record with a defect is left as it was.
    /// </summary>
    /// <param name="address">First byte of the queue's record in this process.</param>
    /// <param name="lengthBytes">Bytes that may be used there.</param>
    /// <param name="queueSize">Entries of the queue.</param>
    /// <param name="usedIndex">The ring's <c>used.idx</c> as it is now.</param>
    /// <param name="record">The record; null with a defect.</param>
    /// <exception cref="ArgumentOutOfRangeException">No queue has that size.</exception>
    public static InflightDefect TryOpen(nint address, ulong lengthBytes, int queueSize, ushort usedIndex, out SplitInflightRecord? record) =>
        TryOpen(address, lengthBytes, queueSize, usedIndex, default(Unobserved), out record);

    /// <summary>
    /// Records that a head is in flight. Before its I/O starts.
    /// </summary>
    /// <returns>False when it is in flight already, or in a batch not yet published: the driver offered a head it did not own.</returns>
    public bool Take(ushort head) => Take(head, default(Unobserved));

    /// <summary>Puts a head that is in flight into the batch. Nothing is written to the shared memory yet, so heads may be taken meanwhile.</summary>
    public void AddToBatch(ushort head)
    {
        if (_states[head] != HeadState.InFlight)
        {
            // Each request completes exactly once; anything else is our bug, and the record would name the wrong requests.
            Environment.FailFast($"Head {head} was completed without being in flight.");
        }

        _states[head] = HeadState.InBatch;
        _batch[_batchCount++] = head;
    }

    /// <summary>Writes the list of the batch: after the used elements, before the ring's <c>used.idx</c>.</summary>
    public void BeforePublish() => BeforePublish(default(Unobserved));

    /// <summary>Clears the heads of the batch: after the ring's <c>used.idx</c>.</summary>
    /// <param name="usedIndex">What was stored there.</param>
    public void AfterPublish(ushort usedIndex) => AfterPublish(usedIndex, default(Unobserved));

    internal static InflightDefect TryOpen<TObserver>(
        nint address, ulong lengthBytes, int queueSize, ushort usedIndex, TObserver observer, out SplitInflightRecord? record)
        where TObserver : struct, IStoreObserver
    {
        record = null;
        InflightDefect defect = InflightLayout.CheckPlace(packed: false, address, lengthBytes, queueSize);
        if (defect != InflightDefect.None)
        {
            return defect;
        }

        ushort version = Volatile.Read(ref ((SplitInflightHeader*)address)->Version);
        if (version == 0)
        {
            Initialise(address, queueSize, usedIndex, observer);
            record = new SplitInflightRecord(address, queueSize, [], nextCounter: 0, lastBatchHead: 0, nextAvailable: null);
            return InflightDefect.None;
        }

        var recovery = new SplitRecovery(address, queueSize, usedIndex);
        defect = recovery.Judge();
        if (defect != InflightDefect.None)
        {
            return defect;
        }

        recovery.Finish(address, observer);
        ushort[] heads = recovery.HeadsInOrder();
        record = new SplitInflightRecord(address, queueSize, heads, recovery.NextCounter, recovery.LastBatchHead, (ushort)(usedIndex + heads.Length));
        return InflightDefect.None;
    }

    internal bool Take<TObserver>(ushort head, TObserver observer)
        where TObserver : struct, IStoreObserver
    {
        if (_states[head] != HeadState.Free)
        {
            return false;
        }

        _states[head] = HeadState.InFlight;
        SplitInflightEntry* entry = _entries + head;
        // The counter before the flag: an entry that counts has its place in the order.
        RecordStore.Write(&entry->Counter, _nextCounter++, observer);
        RecordStore.Write(&entry->Inflight, 1, observer);
        return true;
    }

    internal void BeforePublish<TObserver>(TObserver observer)
        where TObserver : struct, IStoreObserver
    {
        if (_batchCount == 0)
        {
            return;
        }

        _batchIsWritten = true;
        for (int i = 0; i < _batchCount; i++)
        {
            RecordStore.Write(&_entries[_batch[i]].Next, _lastBatchHead, observer);
            _lastBatchHead = _batch[i];
        }

        // Once for the batch: before used.idx moves, nobody follows the list. The release of used.idx orders all this before it.
        RecordStore.Write(&_header->LastBatchHead, _lastBatchHead, observer);
    }

    internal void AfterPublish<TObserver>(ushort usedIndex, TObserver observer)
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
            // Release: used.idx before the clear. The other way round, a request that is neither used nor in flight would be lost.
            RecordStore.Write(&_entries[_batch[i]].Inflight, 0, observer);
            _states[_batch[i]] = HeadState.Free;
        }

        _batchCount = 0;
        // Release: the clears before the index that says they are done.
        RecordStore.Write(&_header->UsedIndex, usedIndex, observer);
    }

    private static void Initialise<TObserver>(nint address, int queueSize, ushort usedIndex, TObserver observer)
        where TObserver : struct, IStoreObserver
    {
        new Span<byte>((void*)(address + sizeof(SplitInflightHeader)), queueSize * sizeof(SplitInflightEntry)).Clear();
        var header = (SplitInflightHeader*)address;
        RecordStore.Write(&header->Features, 0UL, observer);
        RecordStore.Write(&header->EntryCount, (ushort)queueSize, observer);
        RecordStore.Write(&header->LastBatchHead, 0, observer);
        RecordStore.Write(&header->UsedIndex, usedIndex, observer);
        // Last: until then the record is new to whoever comes next.
        RecordStore.Write(&header->Version, InflightLayout.Version, observer);
    }
}
