using System.Buffers.Binary;
using System.Numerics;
using Mono.Unix.Native;
using VirtioBlkFlow.Virtio.Blk;
using static VirtioBlkFlow.Virtio.Blk.BlkZoneState;

namespace VirtioBlkFlow.Disks.Zoned;

/// <summary>
/// The file beside an image (<c>IMAGE.zones</c>) that keeps the state of its zones. A header of 4096 bytes that is never written again, then
/// two tables of records, 32 bytes for each zone, little-endian, each with a checksum. A record goes to the table that does not hold what
/// the last sync made durable, so that a write that was torn leaves the record before it. Used under the lock of the zone table.
/// </summary>
internal sealed unsafe class ZoneFile : IDisposable
{
    private const ulong Magic = 0x3153_454e_4f5a_4256; // "VBZONES1"
    private const int HeaderBytes = 4096;
    private const int RecordBytes = 32;

    // Of a record: u64 sequence, u64 written bytes, u32 zone, u8 state, 7 reserved, u32 CRC-32C of what is before it.
    private const int WrittenOffset = 8;
    private const int ZoneOffset = 16;
    private const int StateOffset = 20;
    private const int ChecksumOffset = 28;

    private readonly ulong _tableBytes;

    // Under the lock of the zone table.
    private readonly Record[] _records;
    private ulong _epoch = 1;
    private ulong _syncedEpoch;

    private ZoneFile(SafeFileHandle file, int zones)
    {
        File = file;
        _records = new Record[zones];
        _tableBytes = TableBytes(zones);
    }

    public SafeFileHandle File { get; }

    /// <summary>Zones of which both records were damaged; they are offline.</summary>
    public int DamagedZones { get; private set; }

    public static string PathFor(string image) => image + ".zones";

    /// <summary>Makes a file for a disk whose zones are empty: whole and durable, or not at all.</summary>
    public static void Create(string path, ZoneTable zones, ZoneGeometry geometry, ulong diskBytes)
    {
        string temporary = path + ".new";
        using (SafeFileHandle file = System.IO.File.OpenHandle(temporary, FileMode.Create, FileAccess.ReadWrite, FileShare.ReadWrite | FileShare.Delete))
        {
            RandomAccess.Write(file, HeaderOf(geometry, diskBytes, zones.Count), 0);
            using var made = new ZoneFile(new SafeFileHandle(file.DangerousGetHandle(), ownsHandle: false), zones.Count);
            // All of the file has its place now, so that no later record finds the file system full.
            RandomAccess.Write(file, new byte[2 * made._tableBytes], HeaderBytes);
            for (int i = geometry.ConventionalZones; i < zones.Count; i++)
            {
                if (!made.TryStore(i, zones))
                {
                    throw new IOException($"Cannot write '{temporary}'.");
                }
            }

            RandomAccess.FlushToDisk(file);
        }

        System.IO.File.Move(temporary, path, overwrite: false);
        int folder = Syscall.open(System.IO.Path.GetDirectoryName(System.IO.Path.GetFullPath(path))!, OpenFlags.O_RDONLY | OpenFlags.O_CLOEXEC);
        if (folder >= 0)
        {
            // The name is as durable as what it names.
            _ = Syscall.fsync(folder);
            _ = Syscall.close(folder);
        }
    }

    /// <summary>Opens a file and loads the table from it.</summary>
    /// <exception cref="DiskOpenException">It is not one of ours, or not of this disk.</exception>
    public static ZoneFile Open(string path, ZoneTable zones, ZoneGeometry geometry, ulong diskBytes, bool readOnly)
    {
        SafeFileHandle handle = System.IO.File.OpenHandle(
            path, FileMode.Open, readOnly ? FileAccess.Read : FileAccess.ReadWrite, FileShare.ReadWrite | FileShare.Delete);
        var file = new ZoneFile(handle, zones.Count);
        try
        {
            byte[] header = new byte[HeaderBytes];
            if (RandomAccess.Read(handle, header, 0) != HeaderBytes || !header.AsSpan(0, 8).SequenceEqual(HeaderOf(geometry, diskBytes, zones.Count).AsSpan(0, 8)))
            {
                throw new DiskOpenException($"'{path}' is no zone file. Move it away to begin with an empty image.");
            }

            if (!header.AsSpan().SequenceEqual(HeaderOf(geometry, diskBytes, zones.Count)))
            {
                throw new DiskOpenException(
                    $"'{path}' was made for another size of the image, of its zones or of their capacity, or another number of conventional zones. "
                    + "Give the options it was made with, or remove it and its image to begin anew.");
            }

            // What is read here may be in the page cache only; from now on it counts as durable.
            if (!readOnly)
            {
                RandomAccess.FlushToDisk(handle);
            }

            file.Load(zones, geometry.ConventionalZones);
            return file;
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Writes down what a zone is now; it survives the end of this process at once, a loss of power after the next sync.</summary>
    public bool TryStore(int zone, ZoneTable zones)
    {
        ref Record record = ref _records[zone];
        if (record.Epoch <= _syncedEpoch)
        {
            record.Table ^= 1;
        }

        // Until all of it is written no sync makes it count: the other record is what there is, and the next goes here again.
        record.Epoch = ulong.MaxValue;
        record.Sequence++;
        Span<byte> bytes = stackalloc byte[RecordBytes];
        bytes.Clear();
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, record.Sequence);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes[WrittenOffset..], zones[zone].Written);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes[ZoneOffset..], (uint)zone);
        bytes[StateOffset] = (byte)zones.StoredStateOf(zone);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes[ChecksumOffset..], ChecksumOf(bytes));
        fixed (byte* first = bytes)
        {
            var piece = new Virtio.Iovec(first, RecordBytes);
            nint written;
            do
            {
                written = LibC.pwritev2((int)File.DangerousGetHandle(), &piece, 1, (long)OffsetOf(record.Table, zone), 0);
            }
            while (written < 0 && Marshal.GetLastPInvokeError() == LibC.EINTR);
            if (written != RecordBytes)
            {
                return false;
            }
        }

        record.Epoch = _epoch;
        return true;
    }

    /// <summary>A sync of the file begins: what was stored until now is durable when it succeeds.</summary>
    /// <returns>What to end it with.</returns>
    public ulong BeginSync() => _epoch++;

    /// <summary>A sync has succeeded.</summary>
    public void EndSync(ulong epoch) => _syncedEpoch = Math.Max(_syncedEpoch, epoch);

    public void Dispose() => File.Dispose();

    /// <summary>Where a zone's record is in a table, 0 or 1.</summary>
    internal ulong OffsetOf(int table, int zone) => HeaderBytes + ((ulong)table * _tableBytes) + ((ulong)zone * RecordBytes);

    private static ulong TableBytes(int zones) => (((ulong)zones * RecordBytes) + 4095) & ~4095ul;

    private void Load(ZoneTable zones, int conventionalZones)
    {
        byte[] tables = new byte[2 * _tableBytes];
        int read = RandomAccess.Read(File, tables, HeaderBytes);
        for (int zone = conventionalZones; zone < _records.Length; zone++)
        {
            ref Record record = ref _records[zone];
            ulong written = 0;
            BlkZoneState state = VIRTIO_BLK_ZS_OFFLINE;
            for (int table = 0; table < 2; table++)
            {
                int offset = (int)(OffsetOf(table, zone) - HeaderBytes);
                if (offset + RecordBytes > read || !TryRead(tables.AsSpan(offset, RecordBytes), zone, zones, out ulong sequence, out ulong itsWritten, out BlkZoneState itsState))
                {
                    continue;
                }

                if (sequence > record.Sequence)
                {
                    record.Sequence = sequence;
                    record.Table = (byte)table;
                    written = itsWritten;
                    state = itsState;
                }
            }

            DamagedZones += record.Sequence == 0 ? 1 : 0;
            zones.Load(zone, written, state);
        }
    }

    private static bool TryRead(ReadOnlySpan<byte> bytes, int zone, ZoneTable zones, out ulong sequence, out ulong written, out BlkZoneState state)
    {
        sequence = BinaryPrimitives.ReadUInt64LittleEndian(bytes);
        written = BinaryPrimitives.ReadUInt64LittleEndian(bytes[WrittenOffset..]);
        state = (BlkZoneState)bytes[StateOffset];
        return BinaryPrimitives.ReadUInt32LittleEndian(bytes[ChecksumOffset..]) == ChecksumOf(bytes)
            && sequence > 0
            && BinaryPrimitives.ReadUInt32LittleEndian(bytes[ZoneOffset..]) == (uint)zone
            && written <= zones.CapacityOf(zone)
            && state is VIRTIO_BLK_ZS_EMPTY or VIRTIO_BLK_ZS_CLOSED or VIRTIO_BLK_ZS_FULL or VIRTIO_BLK_ZS_RDONLY or VIRTIO_BLK_ZS_OFFLINE;
    }

    /// <summary>CRC-32C of a record but its own checksum.</summary>
    internal static uint ChecksumOf(ReadOnlySpan<byte> record)
    {
        uint checksum = uint.MaxValue;
        foreach (byte one in record[..ChecksumOffset])
        {
            checksum = BitOperations.Crc32C(checksum, one);
        }

        return ~checksum;
    }

    private static byte[] HeaderOf(ZoneGeometry geometry, ulong diskBytes, int zones)
    {
        byte[] header = new byte[HeaderBytes];
        ulong[] fields = [Magic, diskBytes, geometry.ZoneBytes, geometry.ZoneCapacityBytes!.Value, (ulong)geometry.ConventionalZones, (ulong)zones];
        for (int i = 0; i < fields.Length; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(header.AsSpan(i * 8), fields[i]);
        }

        return header;
    }

    // Where the newest record of a zone is, and in which epoch it was stored.
    private struct Record
    {
        public ulong Sequence;
        public ulong Epoch;
        public byte Table;
    }
}
