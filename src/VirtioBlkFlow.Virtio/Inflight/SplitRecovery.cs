namespace VirtioBlkFlow.Virtio.Inflight;

/// <summary>
/// Takes up a split virtqueue's record after a crash (vhost-user, "Inflight I/O tracking"): a copy is judged, and only then is the record
/// itself put in order. Lives on the control path, once per start of a queue.
/// </summary>
internal sealed unsafe class SplitRecovery
{
    private readonly SplitInflightHeader _header;
    private readonly SplitInflightEntry[] _entries;
    private readonly ushort _usedIndex;
    private readonly List<ushort> _toClear = [];

    public SplitRecovery(nint address, int queueSize, ushort usedIndex)
    {
        // Copied once: what is judged is what is used, whatever the front-end writes meanwhile.
        _header = Unsafe.ReadUnaligned<SplitInflightHeader>((void*)address);
        _entries = new ReadOnlySpan<SplitInflightEntry>((void*)(address + sizeof(SplitInflightHeader)), queueSize).ToArray();
        _usedIndex = usedIndex;
    }

    public ulong NextCounter { get; private set; }

    public ushort LastBatchHead => _header.LastBatchHead;

    public InflightDefect Judge()
    {
        if (_header.Version != InflightLayout.Version)
        {
            return InflightDefect.UnknownVersion;
        }

        if (_header.EntryCount != _entries.Length)
        {
            return InflightDefect.OtherQueueSize;
        }

        if (_entries.Any(entry => entry.Inflight > 1))
        {
            return InflightDefect.NotAFlag;
        }

        InflightDefect defect = FollowLastBatch();
        return defect != InflightDefect.None ? defect : OrderCounters();
    }

    public ushort[] HeadsInOrder() =>
        [.. Enumerable.Range(0, _entries.Length).Where(IsInFlight).OrderBy(head => _entries[head].Counter).Select(head => (ushort)head)];

    // Repeatable: a process killed in here leaves a record that the next one finishes in the same way.
    public void Finish<TObserver>(nint address, TObserver observer)
        where TObserver : struct, IStoreObserver
    {
        var header = (SplitInflightHeader*)address;
        var entries = (SplitInflightEntry*)(address + sizeof(SplitInflightHeader));
        foreach (ushort head in _toClear)
        {
            RecordStore.Write(&entries[head].Inflight, 0, observer);
        }

        // Release: the clears before the index that says they are done.
        RecordStore.Write(&header->UsedIndex, _usedIndex, observer);
    }

    // The batch reached the driver and its heads may not all be cleared. The record's index lags by the length of the batch; modulo 65536:
    // 65534 in the record and 1 in the ring are a batch of 3.
    private InflightDefect FollowLastBatch()
    {
        int length = (ushort)(_usedIndex - _header.UsedIndex);
        if (length > _entries.Length)
        {
            return InflightDefect.BatchTooLong;
        }

        var seen = new bool[_entries.Length];
        ushort head = _header.LastBatchHead;
        for (int i = 0; i < length; i++)
        {
            if (head >= _entries.Length)
            {
                return InflightDefect.BatchHeadOutOfRange;
            }

            if (seen[head])
            {
                return InflightDefect.BatchLoops;
            }

            seen[head] = true;
            _toClear.Add(head);
            _entries[head].Inflight = 0;
            head = _entries[head].Next;
        }

        return InflightDefect.None;
    }

    private InflightDefect OrderCounters()
    {
        ulong[] counters = [.. Enumerable.Range(0, _entries.Length).Where(IsInFlight).Select(head => _entries[head].Counter).Order()];
        if (counters is [.., ulong.MaxValue] || counters.Distinct().Count() != counters.Length)
        {
            return InflightDefect.CounterUnusable;
        }

        NextCounter = counters is [.., ulong last] ? last + 1 : 0;
        return InflightDefect.None;
    }

    private bool IsInFlight(int head) => _entries[head].Inflight != 0;
}
