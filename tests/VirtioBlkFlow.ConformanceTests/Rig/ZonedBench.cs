using System.Buffers.Binary;
using System.Numerics;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.Disks.Zoned;
using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.ConformanceTests.Rig;

/// <summary>A host-managed disk of five and a half zones behind a device, and a driver at it. Zone 0 is conventional.</summary>
internal sealed class ZonedBench : IDisposable
{
    /// <summary>Sectors from the start of a zone to the next.</summary>
    public const int ZoneSectors = 128;

    /// <summary>What every write writes.</summary>
    public const byte Pattern = 0x5a;

    private const long ImageBytes = ZoneSectors * 512 * 11 / 2;

    // The zone file (see ZoneFile): after a page come two tables of a page each; of a record of 32 bytes, the state is at 20 and the checksum,
    // CRC-32C of what is before it, at 28.
    private const int TableBytes = 4096;
    private const int RecordBytes = 32;
    private const int StateOffset = 20;
    private const int ChecksumOffset = 28;

    private readonly TestFolder? _folder;

    public ZonedBench(ZoneGeometry? zones = null, BlkDeviceOptions? options = null)
        : this(new ServedOptions { ImageBytes = ImageBytes, Zones = zones ?? Usual, Device = options ?? new BlkDeviceOptions() }, null)
    {
    }

    private ZonedBench(ServedOptions options, TestFolder? folder)
    {
        _folder = folder;
        Device = new ServedDevice(options);
        Session = Device.Open();
    }

    /// <summary>At most two zones open, three active, and eight sectors in an append.</summary>
    public static ZoneGeometry Usual { get; } = new() { ZoneBytes = ZoneSectors * 512, ConventionalZones = 1, MaxOpen = 2, MaxActive = 3, MaxAppendBytes = 4096 };

    public ServedDevice Device { get; }

    public FrontendSession Session { get; }

    public BlkDriver Driver => Session.Drivers[0];

    /// <summary>A disk with one zone written to and then in a state that no request leads to: its record says so when the disk is opened.</summary>
    public static ZonedBench WithZone(int zone, BlkZoneState state)
    {
        TestFolder folder = new();
        DiskImage image = new(folder["zoned.img"]);
        using (FileStream file = new(image.FilePath, FileMode.CreateNew))
        {
            file.SetLength(ImageBytes);
        }

        ServedOptions options = new() { SharedImage = image, Zones = Usual };
        using (ZonedBench first = new(options, folder: null))
        {
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, first.Write((ulong)zone * ZoneSectors));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, first.Driver.ZoneClose((ulong)zone * ZoneSectors));
        }

        Mark(image.FilePath + ".zones", zone, state);
        return new ZonedBench(options, folder);
    }

    public BlkStatus Write(ulong sector, int lengthBytes = 512)
    {
        byte[] data = new byte[lengthBytes];
        data.AsSpan().Fill(Pattern);
        return Driver.Write(sector, data);
    }

    public BlkStatus Append(ulong sector, int lengthBytes, out ulong appendedSector)
    {
        byte[] data = new byte[lengthBytes];
        data.AsSpan().Fill(Pattern);
        return Driver.ZoneAppend(sector, data, out appendedSector);
    }

    /// <summary>All zones.</summary>
    public BlkZoneDescriptor[] Report()
    {
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, Driver.ZoneReport(0, out BlkZoneDescriptor[] zones, 4096));
        return zones;
    }

    public BlkZoneState StateOf(ulong zone) => Report()[zone].State;

    public void Dispose()
    {
        Session.Dispose();
        Device.Dispose();
        _folder?.Dispose();
    }

    private static void Mark(string zoneFile, int zone, BlkZoneState state)
    {
        using FileStream file = new(zoneFile, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);
        for (int table = 1; table <= 2; table++)
        {
            byte[] record = new byte[RecordBytes];
            file.Position = (table * TableBytes) + (zone * RecordBytes);
            file.ReadExactly(record);
            record[StateOffset] = (byte)state;
            uint checksum = uint.MaxValue;
            foreach (byte one in record.AsSpan(0, ChecksumOffset))
            {
                checksum = BitOperations.Crc32C(checksum, one);
            }

            BinaryPrimitives.WriteUInt32LittleEndian(record.AsSpan(ChecksumOffset), ~checksum);
            file.Position = (table * TableBytes) + (zone * RecordBytes);
            file.Write(record);
        }
    }
}
