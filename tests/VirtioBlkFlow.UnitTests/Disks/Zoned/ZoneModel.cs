using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Virtio.Blk;
using static VirtioBlkFlow.Disks.DiskOutcome;
using static VirtioBlkFlow.Virtio.Blk.BlkZoneState;

namespace VirtioBlkFlow.UnitTests.Disks.Zoned;

/// <summary>What a zoned disk must do, said again as plainly as possible: one request at a time, data in an array.</summary>
internal sealed class ZoneModel(int zones, int zoneBytes, int capacity, int conventional, int maxOpen, int maxActive)
{
    private readonly List<int> _openedByWrites = [];

    public BlkZoneState[] States { get; } = [.. Enumerable.Range(0, zones).Select(zone => zone < conventional ? VIRTIO_BLK_ZS_NOT_WP : VIRTIO_BLK_ZS_EMPTY)];

    public int[] Pointers { get; } = new int[zones];

    public byte[] Data { get; } = new byte[zones * zoneBytes];

    public DiskOutcome Write(int zone, int start, int length, byte value, bool append)
    {
        if (zone < conventional)
        {
            if (append)
            {
                return ZoneInvalidCommand;
            }

            Data.AsSpan((zone * zoneBytes) + start, length).Fill(value);
            return Done;
        }

        if (States[zone] == VIRTIO_BLK_ZS_FULL || start + length > zoneBytes)
        {
            return ZoneInvalidCommand;
        }

        start = append ? Pointers[zone] : start;
        if (start != Pointers[zone])
        {
            return ZoneUnalignedWrite;
        }

        if (start + length > capacity)
        {
            return ZoneInvalidCommand;
        }

        if (States[zone] is VIRTIO_BLK_ZS_EMPTY or VIRTIO_BLK_ZS_CLOSED)
        {
            DiskOutcome outcome = TakeResources(zone);
            if (outcome != Done)
            {
                return outcome;
            }

            States[zone] = VIRTIO_BLK_ZS_IOPEN;
            _openedByWrites.Add(zone);
        }

        Data.AsSpan((zone * zoneBytes) + start, length).Fill(value);
        Pointers[zone] += length;
        if (Pointers[zone] == capacity)
        {
            Become(zone, VIRTIO_BLK_ZS_FULL);
        }

        return Done;
    }

    public DiskOutcome Change(DiskOperation operation, int zone)
    {
        if (operation == DiskOperation.ZoneResetAll)
        {
            for (int i = conventional; i < zones; i++)
            {
                Empty(i);
            }

            return Done;
        }

        bool isOpen = States[zone] is VIRTIO_BLK_ZS_IOPEN or VIRTIO_BLK_ZS_EOPEN;
        switch (operation)
        {
            case not DiskOperation.ZoneReset when States[zone] == VIRTIO_BLK_ZS_FULL && operation == DiskOperation.ZoneFinish:
                return Done;
            case var _ when zone < conventional:
                return ZoneInvalidCommand;
            case DiskOperation.ZoneReset:
                Empty(zone);
                return Done;
            case var _ when States[zone] == VIRTIO_BLK_ZS_FULL:
                return ZoneInvalidCommand;
            case DiskOperation.ZoneFinish:
                Become(zone, VIRTIO_BLK_ZS_FULL);
                return Done;
            case DiskOperation.ZoneOpen:
                DiskOutcome outcome = isOpen ? Done : TakeResources(zone);
                if (outcome == Done)
                {
                    Become(zone, VIRTIO_BLK_ZS_EOPEN);
                }

                return outcome;
            case DiskOperation.ZoneClose when isOpen:
                Become(zone, Pointers[zone] == 0 ? VIRTIO_BLK_ZS_EMPTY : VIRTIO_BLK_ZS_CLOSED);
                return Done;
            default:
                return States[zone] == VIRTIO_BLK_ZS_CLOSED ? Done : ZoneInvalidCommand;
        }
    }

    /// <summary>The process has ended and another has begun.</summary>
    public void Reopen()
    {
        for (int i = 0; i < zones; i++)
        {
            if (States[i] is VIRTIO_BLK_ZS_IOPEN or VIRTIO_BLK_ZS_EOPEN)
            {
                Become(i, Pointers[i] == 0 ? VIRTIO_BLK_ZS_EMPTY : VIRTIO_BLK_ZS_CLOSED);
            }
        }
    }

    private void Empty(int zone)
    {
        Become(zone, VIRTIO_BLK_ZS_EMPTY);
        Pointers[zone] = 0;
        Data.AsSpan(zone * zoneBytes, zoneBytes).Clear();
    }

    private void Become(int zone, BlkZoneState state)
    {
        _openedByWrites.Remove(zone);
        States[zone] = state;
    }

    private DiskOutcome TakeResources(int zone)
    {
        int open = States.Count(state => state is VIRTIO_BLK_ZS_IOPEN or VIRTIO_BLK_ZS_EOPEN);
        int active = open + States.Count(state => state == VIRTIO_BLK_ZS_CLOSED);
        if (maxActive > 0 && States[zone] == VIRTIO_BLK_ZS_EMPTY && active >= maxActive)
        {
            return ZoneActiveResource;
        }

        if (maxOpen > 0 && open >= maxOpen)
        {
            if (_openedByWrites.Count == 0)
            {
                return ZoneOpenResource;
            }

            int oldest = _openedByWrites[0];
            Become(oldest, Pointers[oldest] == 0 ? VIRTIO_BLK_ZS_EMPTY : VIRTIO_BLK_ZS_CLOSED);
        }

        return Done;
    }
}
