namespace VirtioBlkFlow.Virtio.Inflight;

/// <summary>
/// What stands before the entries of a split virtqueue's record: <c>QueueRegionSplit</c> without its array, 16 bytes, little-endian
/// (vhost-user, "Inflight I/O tracking").
/// </summary>
[StructLayout(LayoutKind.Explicit, Size = 16)]
public struct SplitInflightHeader
{
    /// <summary>Feature bits of the record; none is defined.</summary>
    [FieldOffset(0)]
    public ulong Features;

    /// <summary>0 before the first use, then <see cref="InflightLayout.Version"/>.</summary>
    [FieldOffset(8)]
    public ushort Version;

    /// <summary>Entries: the size of the queue (<c>desc_num</c>).</summary>
    [FieldOffset(10)]
    public ushort EntryCount;

    /// <summary>Head of the list of the last batch (<c>last_batch_head</c>).</summary>
    [FieldOffset(12)]
    public ushort LastBatchHead;

    /// <summary>The ring's used index up to which the entries are cleared (<c>used_idx</c>).</summary>
    [FieldOffset(14)]
    public ushort UsedIndex;
}

/// <summary>One head of a split virtqueue's record: <c>DescStateSplit</c>, 16 bytes, little-endian.</summary>
[StructLayout(LayoutKind.Explicit, Size = 16)]
public struct SplitInflightEntry
{
    /// <summary>1 while the request is in flight, else 0.</summary>
    [FieldOffset(0)]
    public byte Inflight;

    /// <summary>The next head of the batch this one was completed in.</summary>
    [FieldOffset(6)]
    public ushort Next;

    /// <summary>Grows with each request taken: the order to submit them in again.</summary>
    [FieldOffset(8)]
    public ulong Counter;
}
