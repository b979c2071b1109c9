namespace VirtioBlkFlow.Disks;

/// <summary>What a disk can be asked to do.</summary>
public enum DiskOperation : byte
{
    /// <summary>Disk to memory.</summary>
    Read,

    /// <summary>Memory to disk.</summary>
    Write,

    /// <summary>Make all writes completed so far, on all queues, durable.</summary>
    Flush,

    /// <summary>The data of the ranges is not needed any more.</summary>
    Discard,

    /// <summary>The ranges read as zeros from now on.</summary>
    WriteZeroes,

    /// <summary>Memory to the write pointer of the zone at the offset; <see cref="IDiskCompletions.OnAppended"/> says where that was.</summary>
    Append,

    /// <summary>The data of the ranges can never be read again.</summary>
    SecureErase,

    /// <summary>
    /// Descriptions of zones to memory, from the one with the offset on: <see cref="Virtio.Blk.BlkZoneReportHeader"/> and descriptors. The
    /// length is that of a header and of whole descriptors of zones there are.
    /// </summary>
    ZoneReport,

    /// <summary>Opens the zone at the offset.</summary>
    ZoneOpen,

    /// <summary>Closes it.</summary>
    ZoneClose,

    /// <summary>Makes it full.</summary>
    ZoneFinish,

    /// <summary>Empties it.</summary>
    ZoneReset,

    /// <summary>Empties all zones.</summary>
    ZoneResetAll,
}

/// <summary>A range of a disk. It begins as the kernel takes ranges of block devices: two numbers of 64 bits.</summary>
/// <param name="OffsetBytes">First byte.</param>
/// <param name="LengthBytes">Length in bytes.</param>
/// <param name="MayDeallocate">For WriteZeroes: space may be given back, as long as the range reads as zeros.</param>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct DiskRange(ulong OffsetBytes, ulong LengthBytes, bool MayDeallocate);

/// <summary>A request to a disk. Ranges and lengths were checked against <see cref="DiskProperties"/> by the caller.</summary>
public unsafe struct DiskRequest
{
    /// <summary>First byte of a Read or Write; of a zone.</summary>
    public ulong OffsetBytes;

    /// <summary>Memory of a Read, Write, Append or ZoneReport; sums up to <see cref="LengthBytes"/>.</summary>
    public Iovec* Pieces;

    /// <summary>Ranges of a Discard, WriteZeroes or SecureErase.</summary>
    public DiskRange* Ranges;

    /// <summary>Length of that memory.</summary>
    public uint LengthBytes;

    /// <summary>How many pieces.</summary>
    public int PieceCount;

    /// <summary>How many ranges.</summary>
    public int RangeCount;

    /// <summary>What to do.</summary>
    public DiskOperation Operation;

    /// <summary>For anything that changes the disk: it is durable before its completion.</summary>
    public bool Durable;
}
