namespace VirtioBlkFlow.Virtio.Inflight;

/// <summary>
/// What stands before the entries of a packed virtqueue's record: <c>QueueRegionPacked</c> without its array, 32 bytes with the padding C
/// puts before the entries, little-endian (vhost-user, "Inflight I/O tracking").
/// </summary>
[StructLayout(LayoutKind.Explicit, Size = 32)]
public struct PackedInflightHeader
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

    /// <summary>Which entries are free, now and at the last commit.</summary>
    [FieldOffset(12)]
    public FreeHeads FreeHeads;

    /// <summary>Where used descriptors go, now and at the last commit.</summary>
    [FieldOffset(16)]
    public UsedPositions Used;
}

/// <summary>
/// <c>free_head</c> and <c>old_free_head</c>: two fields of the document that share an aligned word, so that one store changes both.
/// </summary>
[StructLayout(LayoutKind.Explicit, Size = 4)]
public struct FreeHeads
{
    /// <summary>First free entry; the number of entries when none is free.</summary>
    [FieldOffset(0)]
    public ushort Current;

    /// <summary>The same at the last commit.</summary>
    [FieldOffset(2)]
    public ushort Old;
}

/// <summary>
/// <c>used_idx</c>, <c>old_used_idx</c>, <c>used_wrap_counter</c>, <c>old_used_wrap_counter</c> and two bytes of padding: one aligned word,
/// so that one store changes an offset together with its wrap counter. Two stores would leave a moment in which the offset is of one lap and
/// the counter of another; a recovery from that would judge the ring by the wrong lap.
/// </summary>
[StructLayout(LayoutKind.Explicit, Size = 8)]
public struct UsedPositions
{
    /// <summary>Offset of the next used descriptor in the ring.</summary>
    [FieldOffset(0)]
    public ushort Offset;

    /// <summary>The same at the last commit.</summary>
    [FieldOffset(2)]
    public ushort OldOffset;

    /// <summary>The used wrap counter, 0 or 1.</summary>
    [FieldOffset(4)]
    public byte Wrap;

    /// <summary>The same at the last commit.</summary>
    [FieldOffset(5)]
    public byte OldWrap;
}

/// <summary>One entry of a packed virtqueue's record, for one descriptor: <c>DescStatePacked</c>, 32 bytes, little-endian.</summary>
[StructLayout(LayoutKind.Explicit, Size = 32)]
public struct PackedInflightEntry
{
    /// <summary>In a chain's first entry: 1 while the chain is in flight, else 0.</summary>
    [FieldOffset(0)]
    public byte Inflight;

    /// <summary>The next free entry, or the next one of the chain.</summary>
    [FieldOffset(2)]
    public ushort Next;

    /// <summary>In a chain's first entry: its last entry.</summary>
    [FieldOffset(4)]
    public ushort Last;

    /// <summary>In a chain's first entry: how many entries, and ring slots, it has.</summary>
    [FieldOffset(6)]
    public ushort Num;

    /// <summary>In a chain's first entry: grows with each chain taken.</summary>
    [FieldOffset(8)]
    public ulong Counter;

    /// <summary>The descriptor as it was read from the ring, because completions overwrite the ring.</summary>
    [FieldOffset(16)]
    public SavedDescriptor Descriptor;
}

/// <summary>A descriptor of a packed virtqueue as the record keeps it: the ring's fields in the document's order, 16 bytes.</summary>
[StructLayout(LayoutKind.Explicit, Size = 16)]
public struct SavedDescriptor
{
    /// <summary>Buffer id; only the one of a chain's last descriptor means something.</summary>
    [FieldOffset(0)]
    public ushort Id;

    /// <summary>Flags as the driver set them.</summary>
    [FieldOffset(2)]
    public ushort Flags;

    /// <summary>Length of the buffer in bytes.</summary>
    [FieldOffset(4)]
    public uint LengthBytes;

    /// <summary>Guest-physical address of the buffer.</summary>
    [FieldOffset(8)]
    public ulong Address;
}
