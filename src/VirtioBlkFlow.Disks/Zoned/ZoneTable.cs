using VirtioBlkFlow.Virtio.Blk;
using static VirtioBlkFlow.Virtio.Blk.BlkZoneState;

namespace VirtioBlkFlow.Disks.Zoned;

/// <summary>
/// The zones of a disk and the rules of their states (VIRTIO 1.4, "Block Device", "Device Operation", on zoned devices). No I/O. Shared by
/// all queues: every member but the fixed ones is used under <see cref="Sync"/>.
/// </summary>
internal sealed class ZoneTable
{
    // Fixed at construction.
    private readonly ZoneGeometry _geometry;
    private readonly ulong _diskBytes;
    private readonly ulong _zoneBytes;
    private readonly uint _granularityBytes;

    // Under Sync.
    private readonly Zone[] _zones;

    // Zones that a write opened, the oldest first: whom to close when another is to be opened. Kept only if there is a limit, which bounds it.
    private readonly List<int> _implicitlyOpen;
    private int _open;
    private int _active;

    /// <summary>Creates a table; every sequential zone is empty.</summary>
    /// <param name="geometry">Complete; see <see cref="ZoneGeometry.For"/>.</param>
    /// <param name="diskBytes">Size of the disk.</param>
    public ZoneTable(ZoneGeometry geometry, ulong diskBytes)
    {
        _geometry = geometry;
        _diskBytes = diskBytes;
        _zoneBytes = geometry.ZoneBytes;
        _granularityBytes = geometry.WriteGranularityBytes!.Value;
        _zones = new Zone[(diskBytes + _zoneBytes - 1) / _zoneBytes];
        _implicitlyOpen = new List<int>(geometry.MaxOpen);
        for (int i = 0; i < _zones.Length; i++)
        {
            _zones[i].State = IsConventional(i) ? VIRTIO_BLK_ZS_NOT_WP : VIRTIO_BLK_ZS_EMPTY;
        }
    }

    /// <summary>Held by whoever looks at zones or changes them; only for moments.</summary>
    public Lock Sync { get; } = new();

    public int Count => _zones.Length;

    public ref readonly Zone this[int index] => ref _zones[index];

    public int OpenCount => _open;

    public int ActiveCount => _active;

    public bool IsConventional(int zone) => zone < _geometry.ConventionalZones;

    public int IndexOf(ulong offsetBytes) => (int)(offsetBytes / _zoneBytes);

    public ulong StartOf(int zone) => (ulong)zone * _zoneBytes;

    /// <summary>Bytes of a zone; the last may have fewer than the others.</summary>
    public ulong LengthOf(int zone) => Math.Min(_zoneBytes, _diskBytes - StartOf(zone));

    /// <summary>Bytes of a zone that can be written.</summary>
    public ulong CapacityOf(int zone) => IsConventional(zone) ? LengthOf(zone) : Math.Min(_geometry.ZoneCapacityBytes!.Value, LengthOf(zone));

    /// <summary>Takes over what storage says about a sequential zone, before the disk is used.</summary>
    public void Load(int zone, ulong writtenBytes, BlkZoneState state)
    {
        ref Zone it = ref _zones[zone];
        it.Written = writtenBytes;
        it.WritePointer = writtenBytes;
        it.State = state;
        it.IsFinished = state == VIRTIO_BLK_ZS_FULL;
        _active += state == VIRTIO_BLK_ZS_CLOSED ? 1 : 0;
    }

    /// <summary>What storage has to say about a zone: open ones are closed or empty once the power is back.</summary>
    public BlkZoneState StoredStateOf(int zone)
    {
        ref readonly Zone it = ref _zones[zone];
        return it.State is VIRTIO_BLK_ZS_RDONLY or VIRTIO_BLK_ZS_OFFLINE ? it.State
            : it.IsFinished || it.Written == CapacityOf(zone) ? VIRTIO_BLK_ZS_FULL
            : it.Written == 0 ? VIRTIO_BLK_ZS_EMPTY
            : VIRTIO_BLK_ZS_CLOSED;
    }

    /// <summary>Checks a read.</summary>
    /// <param name="offsetBytes">Within the disk.</param>
    /// <param name="lengthBytes">Within the disk.</param>
    /// <param name="storedBytes">Bytes from the start of the read that storage has; what follows was not written since the last reset.</param>
    public DiskOutcome CheckRead(ulong offsetBytes, uint lengthBytes, out uint storedBytes)
    {
        storedBytes = lengthBytes;
        if (lengthBytes == 0)
        {
            return DiskOutcome.Done;
        }

        int zone = IndexOf(offsetBytes);
        if (IsConventional(IndexOf(offsetBytes + lengthBytes - 1)))
        {
            return DiskOutcome.Done;
        }

        if (Crosses(zone, offsetBytes, lengthBytes) || _zones[zone].State == VIRTIO_BLK_ZS_OFFLINE)
        {
            return DiskOutcome.ZoneInvalidCommand;
        }

        ulong end = StartOf(zone) + _zones[zone].WritePointer;
        storedBytes = end <= offsetBytes ? 0 : (uint)Math.Min(lengthBytes, end - offsetBytes);
        return DiskOutcome.Done;
    }

    /// <summary>Accepts a write, and moves the write pointer behind it. End it with <see cref="EndWrite"/>.</summary>
    /// <param name="offsetBytes">Within the disk.</param>
    /// <param name="lengthBytes">Within the disk, not 0.</param>
    /// <param name="zone">The sequential zone; −1 for a write to conventional ones, which is nothing to be ended.</param>
    public DiskOutcome BeginWrite(ulong offsetBytes, uint lengthBytes, out int zone)
    {
        zone = -1;
        int index = IndexOf(offsetBytes);
        if (IsConventional(IndexOf(offsetBytes + lengthBytes - 1)))
        {
            return DiskOutcome.Done;
        }

        if (Crosses(index, offsetBytes, lengthBytes) || !CanBeWritten(index))
        {
            return DiskOutcome.ZoneInvalidCommand;
        }

        ulong start = offsetBytes - StartOf(index);
        if (start != _zones[index].WritePointer || (start + lengthBytes) % _granularityBytes != 0)
        {
            return DiskOutcome.ZoneUnalignedWrite;
        }

        DiskOutcome outcome = Accept(index, lengthBytes);
        zone = outcome == DiskOutcome.Done ? index : -1;
        return outcome;
    }

    /// <summary>Accepts a write wherever the write pointer is.</summary>
    /// <param name="startBytes">Start of the zone.</param>
    /// <param name="lengthBytes">Not 0.</param>
    /// <param name="zone">The zone.</param>
    /// <param name="offsetBytes">Where the data goes.</param>
    public DiskOutcome BeginAppend(ulong startBytes, uint lengthBytes, out int zone, out ulong offsetBytes)
    {
        zone = IndexOf(startBytes);
        offsetBytes = 0;
        if (startBytes != StartOf(zone) || IsConventional(zone) || !CanBeWritten(zone))
        {
            return DiskOutcome.ZoneInvalidCommand;
        }

        if (lengthBytes % _granularityBytes != 0)
        {
            return DiskOutcome.ZoneUnalignedWrite;
        }

        offsetBytes = startBytes + _zones[zone].WritePointer;
        return Accept(zone, lengthBytes);
    }

    /// <summary>
    /// A write has ended. One that failed takes the write pointer back if it was the last of its zone, so that it can be repeated; what
    /// others wrote behind it stays, and so does its gap, until the zone is reset. A zone that it filled stays full.
    /// </summary>
    public void EndWrite(int zone, ulong offsetBytes, uint lengthBytes, bool succeeded)
    {
        ref Zone it = ref _zones[zone];
        it.InFlightWrites--;
        ulong start = offsetBytes - StartOf(zone);
        if (succeeded)
        {
            it.Written = Math.Max(it.Written, start + lengthBytes);
        }
        else if (it.WritePointer == start + lengthBytes && it.State != VIRTIO_BLK_ZS_FULL)
        {
            it.WritePointer = start;
        }
    }

    /// <summary>ZONE_OPEN.</summary>
    public DiskOutcome Open(ulong startBytes)
    {
        if (!TryFind(startBytes, out int zone) || !CanBeWritten(zone))
        {
            return DiskOutcome.ZoneInvalidCommand;
        }

        return MakeOpen(zone, VIRTIO_BLK_ZS_EOPEN);
    }

    /// <summary>ZONE_CLOSE. Of a zone that is not open and not closed it is refused, as NVMe zoned namespaces do.</summary>
    public DiskOutcome Close(ulong startBytes)
    {
        if (!TryFind(startBytes, out int zone) || _zones[zone].IsResetting)
        {
            return DiskOutcome.ZoneInvalidCommand;
        }

        switch (_zones[zone].State)
        {
            case VIRTIO_BLK_ZS_IOPEN or VIRTIO_BLK_ZS_EOPEN:
                CloseOpen(zone);
                return DiskOutcome.Done;
            case VIRTIO_BLK_ZS_CLOSED:
                return DiskOutcome.Done;
            default:
                return DiskOutcome.ZoneInvalidCommand;
        }
    }

    /// <summary>ZONE_FINISH.</summary>
    /// <param name="startBytes">Start of the zone.</param>
    /// <param name="zone">The zone.</param>
    public DiskOutcome Finish(ulong startBytes, out int zone)
    {
        if (!TryFind(startBytes, out zone) || (_zones[zone].State != VIRTIO_BLK_ZS_FULL && !CanBeWritten(zone)) || _zones[zone].IsResetting)
        {
            return DiskOutcome.ZoneInvalidCommand;
        }

        _zones[zone].IsFinished = true;
        Become(zone, VIRTIO_BLK_ZS_FULL);
        return DiskOutcome.Done;
    }

    /// <summary>
    /// ZONE_RESET: throw the zone's data away, then call <see cref="EndReset"/>. Refused while writes are in flight: one that came through
    /// later would leave old data above the new write pointer.
    /// </summary>
    /// <param name="startBytes">Start of the zone.</param>
    /// <param name="zone">The zone; −1 if it is empty, and nothing is to be done.</param>
    public DiskOutcome BeginReset(ulong startBytes, out int zone)
    {
        if (!TryFind(startBytes, out zone) || IsLost(zone) || IsBusy(zone))
        {
            return DiskOutcome.ZoneInvalidCommand;
        }

        if (_zones[zone].State == VIRTIO_BLK_ZS_EMPTY)
        {
            zone = -1;
            return DiskOutcome.Done;
        }

        _zones[zone].IsResetting = true;
        return DiskOutcome.Done;
    }

    /// <summary>
    /// ZONE_RESET_ALL: all that can be reset, or none. Then go on with <see cref="NextInResetAll"/>. While zones of one are left there is no
    /// second; so find the next zone under the same hold of <see cref="Sync"/>, or you may find those of the second.
    /// </summary>
    public DiskOutcome BeginResetAll()
    {
        for (int i = _geometry.ConventionalZones; i < _zones.Length; i++)
        {
            if (IsBusy(i))
            {
                return DiskOutcome.ZoneInvalidCommand;
            }
        }

        for (int i = _geometry.ConventionalZones; i < _zones.Length; i++)
        {
            _zones[i].IsInResetAll = _zones[i].IsResetting = !IsLost(i) && _zones[i].State != VIRTIO_BLK_ZS_EMPTY;
        }

        return DiskOutcome.Done;
    }

    /// <summary>The first zone from one on that a ZONE_RESET_ALL has still to reset; the number of zones if there is none.</summary>
    public int NextInResetAll(int zone)
    {
        while (zone < _zones.Length && !_zones[zone].IsInResetAll)
        {
            zone++;
        }

        return zone;
    }

    /// <summary>A zone's data is gone; or could not be thrown away, and the zone is what it was.</summary>
    public void EndReset(int zone, bool succeeded)
    {
        ref Zone it = ref _zones[zone];
        it.IsResetting = false;
        it.IsInResetAll = false;
        if (succeeded)
        {
            it.WritePointer = 0;
            it.Written = 0;
            it.IsFinished = false;
            Become(zone, VIRTIO_BLK_ZS_EMPTY);
        }
    }

    /// <summary>A zone as a report shows it.</summary>
    public BlkZoneDescriptor Describe(int zone) => new()
    {
        CapacitySectors = CapacityOf(zone) / BlkRequest.SectorBytes,
        StartSector = StartOf(zone) / BlkRequest.SectorBytes,
        WritePointerSector = (StartOf(zone) + _zones[zone].WritePointer) / BlkRequest.SectorBytes,
        Type = IsConventional(zone) ? BlkZoneType.VIRTIO_BLK_ZT_CONV : BlkZoneType.VIRTIO_BLK_ZT_SWR,
        State = _zones[zone].State,
    };

    // A sequential zone that begins there.
    private bool TryFind(ulong startBytes, out int zone)
    {
        zone = IndexOf(startBytes);
        return startBytes == StartOf(zone) && !IsConventional(zone);
    }

    private bool Crosses(int zone, ulong offsetBytes, uint lengthBytes) => offsetBytes + lengthBytes > StartOf(zone) + LengthOf(zone);

    private bool IsLost(int zone) => _zones[zone].State is VIRTIO_BLK_ZS_RDONLY or VIRTIO_BLK_ZS_OFFLINE;

    private bool IsBusy(int zone) => _zones[zone].IsResetting || _zones[zone].InFlightWrites > 0;

    private bool CanBeWritten(int zone) =>
        _zones[zone].State is VIRTIO_BLK_ZS_EMPTY or VIRTIO_BLK_ZS_IOPEN or VIRTIO_BLK_ZS_EOPEN or VIRTIO_BLK_ZS_CLOSED && !_zones[zone].IsResetting;

    private DiskOutcome Accept(int zone, uint lengthBytes)
    {
        ref Zone it = ref _zones[zone];
        if (lengthBytes > CapacityOf(zone) - it.WritePointer)
        {
            return DiskOutcome.ZoneInvalidCommand;
        }

        if (it.State is VIRTIO_BLK_ZS_EMPTY or VIRTIO_BLK_ZS_CLOSED)
        {
            DiskOutcome outcome = MakeOpen(zone, VIRTIO_BLK_ZS_IOPEN);
            if (outcome != DiskOutcome.Done)
            {
                return outcome;
            }
        }

        it.InFlightWrites++;
        it.WritePointer += lengthBytes;
        if (it.WritePointer == CapacityOf(zone))
        {
            Become(zone, VIRTIO_BLK_ZS_FULL);
        }

        return DiskOutcome.Done;
    }

    // Being active counts first: when both limits are reached, that is what is reported.
    private DiskOutcome MakeOpen(int zone, BlkZoneState state)
    {
        BlkZoneState before = _zones[zone].State;
        if (_geometry.MaxActive > 0 && !Zone.IsActive(before) && _active >= _geometry.MaxActive)
        {
            return DiskOutcome.ZoneActiveResource;
        }

        if (_geometry.MaxOpen > 0 && !Zone.IsOpen(before) && _open >= _geometry.MaxOpen)
        {
            if (_implicitlyOpen.Count == 0)
            {
                return DiskOutcome.ZoneOpenResource;
            }

            CloseOpen(_implicitlyOpen[0]);
        }

        Become(zone, state);
        return DiskOutcome.Done;
    }

    private void CloseOpen(int zone) => Become(zone, _zones[zone].WritePointer == 0 ? VIRTIO_BLK_ZS_EMPTY : VIRTIO_BLK_ZS_CLOSED);

    // The one place where a state changes and is counted.
    private void Become(int zone, BlkZoneState state)
    {
        BlkZoneState before = _zones[zone].State;
        _open += (Zone.IsOpen(state) ? 1 : 0) - (Zone.IsOpen(before) ? 1 : 0);
        _active += (Zone.IsActive(state) ? 1 : 0) - (Zone.IsActive(before) ? 1 : 0);
        if (_geometry.MaxOpen > 0 && before == VIRTIO_BLK_ZS_IOPEN)
        {
            _implicitlyOpen.Remove(zone);
        }

        if (_geometry.MaxOpen > 0 && state == VIRTIO_BLK_ZS_IOPEN)
        {
            _implicitlyOpen.Add(zone);
        }

        _zones[zone].State = state;
    }
}
