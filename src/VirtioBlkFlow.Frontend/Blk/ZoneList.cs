using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.Frontend.Blk;

/// <summary>Reads what ZONE_REPORT returns: <c>struct virtio_blk_zone_report</c> and the zones after it.</summary>
public static class ZoneList
{
    /// <summary>Takes the zones out of a report.</summary>
    /// <exception cref="DeviceBrokeRingException">It counts more than its buffer holds.</exception>
    public static BlkZoneDescriptor[] Read(ReadOnlySpan<byte> report)
    {
        ulong count = MemoryMarshal.Read<BlkZoneReportHeader>(report).ZoneCount;
        ReadOnlySpan<BlkZoneDescriptor> room = MemoryMarshal.Cast<byte, BlkZoneDescriptor>(report[BlkZoneReportHeader.SizeBytes..]);
        return count <= (ulong)room.Length
            ? room[..(int)count].ToArray()
            : throw new DeviceBrokeRingException($"ZONE_REPORT counts {count} zones in a buffer for {room.Length}.");
    }
}
