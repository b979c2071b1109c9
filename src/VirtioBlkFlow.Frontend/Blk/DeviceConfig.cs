namespace VirtioBlkFlow.Frontend.Blk;

/// <summary>
/// The whole configuration space as the driver reads it, by offset: <c>struct virtio_blk_config</c>, 96 bytes, little-endian
/// (VIRTIO 1.4, "Block Device", "Device configuration layout"). Apart from the device's own structure, so that a field in the wrong place
/// is found out. Which fields mean something depends on the features.
/// </summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public readonly record struct DeviceConfig(
    ulong CapacitySectors,
    uint SizeMax,
    uint SegMax,
    ushort Cylinders,
    byte Heads,
    byte SectorsPerTrack,
    uint BlkSize,
    byte PhysicalBlockExp,
    byte AlignmentOffset,
    ushort MinIoSize,
    uint OptIoSize,
    byte Writeback,
    byte Unused0,
    ushort NumQueues,
    uint MaxDiscardSectors,
    uint MaxDiscardSeg,
    uint DiscardSectorAlignment,
    uint MaxWriteZeroesSectors,
    uint MaxWriteZeroesSeg,
    byte WriteZeroesMayUnmap,
    byte Unused1A,
    byte Unused1B,
    byte Unused1C,
    uint MaxSecureEraseSectors,
    uint MaxSecureEraseSeg,
    uint SecureEraseSectorAlignment,
    uint ZoneSectors,
    uint MaxOpenZones,
    uint MaxActiveZones,
    uint MaxAppendSectors,
    uint ZonedWriteGranularityBytes,
    byte ZonedModel,
    byte Unused2A,
    byte Unused2B,
    byte Unused2C)
{
    /// <summary>Size of the structure.</summary>
    public const int SizeBytes = 96;

    /// <summary>Reads it; bytes that are not there count as zeros, as for a front-end that asks for less.</summary>
    public static DeviceConfig Read(ReadOnlySpan<byte> bytes)
    {
        Span<byte> whole = stackalloc byte[SizeBytes];
        whole.Clear();
        bytes[..Math.Min(bytes.Length, SizeBytes)].CopyTo(whole);
        return MemoryMarshal.Read<DeviceConfig>(whole);
    }
}
