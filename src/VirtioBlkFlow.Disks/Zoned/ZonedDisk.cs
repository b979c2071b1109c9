using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.File;
using VirtioBlkFlow.Virtio.Blk;
using static VirtioBlkFlow.Disks.LibC;

namespace VirtioBlkFlow.Disks.Zoned;

/// <summary>
/// A host-managed zoned disk over an image file; what the file cannot keep is in a <see cref="ZoneFile"/> beside it. Shared by all queues,
/// which meet at the zone table's lock. Above the write pointer of a zone the image holds nothing but zeros and what writes that failed left.
/// </summary>
public sealed class ZonedDisk : IDisk
{
    private readonly FileDisk _disk;

    private ZonedDisk(FileDisk disk, ZoneTable zones, ZoneFile store, DiskProperties properties)
    {
        _disk = disk;
        Zones = zones;
        Store = store;
        Properties = properties;
    }

    /// <inheritdoc/>
    public DiskProperties Properties { get; }

    /// <inheritdoc/>
    public DiskLifetime? Lifetime => _disk.Lifetime;

    /// <summary>Zones whose records were damaged when the disk was opened; they are offline.</summary>
    public int DamagedZones => Store.DamagedZones;

    internal ZoneTable Zones { get; }

    internal ZoneFile Store { get; }

    /// <summary>Gives an image zones. The first time the image must be empty, and the zone file is made.</summary>
    /// <param name="disk">The image; belongs to the zoned disk from now on, also if this fails.</param>
    /// <param name="wanted">What its zones are like.</param>
    /// <exception cref="DiskOpenException">Geometry, image or zone file do not go together; the message names the remedy.</exception>
    public static ZonedDisk Open(FileDisk disk, ZoneGeometry wanted)
    {
        ZoneFile? store = null;
        try
        {
            DiskProperties image = disk.Properties;
            ZoneGeometry geometry = wanted.For(image, disk.Path);
            var zones = new ZoneTable(geometry, image.CapacityBytes);
            string path = ZoneFile.PathFor(disk.Path);
            if (!System.IO.File.Exists(path))
            {
                RequireFresh(disk, path);
                ZoneFile.Create(path, zones, geometry, image.CapacityBytes);
            }

            store = ZoneFile.Open(path, zones, geometry, image.CapacityBytes, image.ReadOnly);
            if (!image.ReadOnly)
            {
                ClearAboveWritePointers(disk, zones);
            }

            // Sequential zones are emptied by a reset: DISCARD, WRITE_ZEROES and SECURE_ERASE have no place in a host-managed disk.
            DiskProperties properties = image with { CanDiscard = false, CanWriteZeroes = false, CanSecureErase = false, Zones = geometry };
            return new ZonedDisk(disk, zones, store, properties);
        }
        catch (Exception exception)
        {
            store?.Dispose();
            disk.Dispose();
            throw exception is IOException or UnauthorizedAccessException
                ? new DiskOpenException($"Cannot use the zone file of '{disk.Path}': {exception.Message}", exception)
                : exception;
        }
    }

    /// <inheritdoc/>
    public IDiskQueue OpenQueue(IIoEngine engine, IDiskCompletions completions, int slotCount) =>
        new ZonedDiskQueue(this, _disk, engine, completions, slotCount);

    /// <inheritdoc/>
    public DiskOutcome Flush()
    {
        if (_disk.Flush() == DiskOutcome.Failed)
        {
            return DiskOutcome.Failed;
        }

        ulong epoch = BeginSync();
        if (!Properties.ReadOnly && fdatasync((int)Store.File.DangerousGetHandle()) != 0)
        {
            _disk.LoseDurability();
            return DiskOutcome.Failed;
        }

        EndSync(epoch);
        return DiskOutcome.Done;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Store.Dispose();
        _disk.Dispose();
    }

    internal ulong BeginSync()
    {
        lock (Zones.Sync)
        {
            return Store.BeginSync();
        }
    }

    internal void EndSync(ulong epoch)
    {
        lock (Zones.Sync)
        {
            Store.EndSync(epoch);
        }
    }

    // Without a zone file nothing tells what in an image was written: it would all be thrown away.
    private static void RequireFresh(FileDisk disk, string path)
    {
        if (disk.Properties.ReadOnly)
        {
            throw new DiskOpenException($"There is no zone file '{path}', and a read-only disk makes none. Open the image without --read-only once.");
        }

        long data = lseek((int)disk.File.DangerousGetHandle(), 0, SEEK_DATA);
        if (data >= 0 || Marshal.GetLastPInvokeError() != ENXIO)
        {
            throw new DiskOpenException(
                $"'{disk.Path}' holds data but has no zone file '{path}'. Zones begin with an empty image file: truncate -s 0 '{disk.Path}'; truncate -s {disk.Properties.CapacityBytes} '{disk.Path}'");
        }
    }

    // A reset that was interrupted, or writes that never completed: whatever they left goes now.
    private static void ClearAboveWritePointers(FileDisk disk, ZoneTable zones)
    {
        for (int i = 0; i < zones.Count; i++)
        {
            ref readonly Zone zone = ref zones[i];
            ulong length = zones.LengthOf(i) - zone.Written;
            if (zones.IsConventional(i) || length == 0 || zone.State is BlkZoneState.VIRTIO_BLK_ZS_RDONLY or BlkZoneState.VIRTIO_BLK_ZS_OFFLINE)
            {
                continue;
            }

            int file = (int)disk.File.DangerousGetHandle();
            while (fallocate(file, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, (long)(zones.StartOf(i) + zone.Written), (long)length) != 0)
            {
                if (Marshal.GetLastPInvokeError() != EINTR)
                {
                    throw new DiskOpenException(
                        $"Cannot clear what is above the write pointers of '{disk.Path}': {Marshal.GetLastPInvokeErrorMessage()}. Zones need a file system that can free space in a file (ext4, XFS, btrfs, tmpfs).");
                }
            }
        }
    }
}
