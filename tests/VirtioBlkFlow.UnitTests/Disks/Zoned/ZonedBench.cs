using System.Runtime.InteropServices;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.Zoned;
using VirtioBlkFlow.UnitTests.Device;
using VirtioBlkFlow.Virtio.Blk;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Disks.Zoned;

/// <summary>A zoned disk over a real file, opened and opened again.</summary>
internal sealed class ZonedBench : IDisposable
{
    private readonly TemporaryImage _image;
    private readonly ZoneGeometry _geometry;
    private readonly IoEngineKind _engine;
    private bool _isOpen;

    public ZonedBench(ZoneGeometry geometry, long imageBytes, IoEngineKind engine = IoEngineKind.Threads)
    {
        _geometry = geometry;
        _engine = engine;
        _image = new TemporaryImage(imageBytes);
        Open();
    }

    public TemporaryImage Image => _image;

    public string ZonePath => ZoneFile.PathFor(_image.Path);

    public ZonedDisk Disk { get; private set; } = null!;

    public DiskBench Bench { get; private set; } = null!;

    /// <summary>Ends the disk and opens it again, as after the end of the process.</summary>
    public void Reopen(Action? between = null)
    {
        Close();
        between?.Invoke();
        Open();
    }

    public DiskOutcome Do(DiskOperation operation, int zone, bool durable = false) => Bench.Do(operation, (ulong)zone * _geometry.ZoneBytes, durable);

    public DiskOutcome Write(ulong offsetBytes, int bytes, byte value = 0x5a, bool durable = false)
    {
        Bench.Memory[..bytes].Fill(value);
        return Bench.Transfer(DiskOperation.Write, offsetBytes, 0, 1, bytes, durable);
    }

    public DiskOutcome Append(int zone, int bytes, byte value = 0x5a)
    {
        Bench.Memory[..bytes].Fill(value);
        return Bench.Transfer(DiskOperation.Append, (ulong)zone * _geometry.ZoneBytes, 0, 1, bytes);
    }

    public DiskOutcome Read(ulong offsetBytes, int bytes, out byte[] data)
    {
        Bench.Memory[..bytes].Fill(0xee);
        DiskOutcome outcome = Bench.Transfer(DiskOperation.Read, offsetBytes, 0, 1, bytes);
        data = Bench.Memory[..bytes].ToArray();
        return outcome;
    }

    public BlkZoneDescriptor[] Report()
    {
        int zones = Disk.Zones.Count;
        Assert.Equal(DiskOutcome.Done, Bench.Transfer(DiskOperation.ZoneReport, 0, 0, 1, 64 + (64 * zones)));
        Assert.Equal((ulong)zones, MemoryMarshal.Read<ulong>(Bench.Memory));
        return MemoryMarshal.Cast<byte, BlkZoneDescriptor>(Bench.Memory.Slice(64, 64 * zones)).ToArray();
    }

    public BlkZoneState StateOf(int zone) => Report()[zone].State;

    /// <summary>Writes a zone's record as if something else had: a state that no request leads to.</summary>
    public void Mark(int zone, BlkZoneState state) => Reopen(() =>
    {
        for (int table = 0; table < 2; table++)
        {
            byte[] record = ReadRecord(table, zone);
            record[20] = (byte)state;
            BitConverter.TryWriteBytes(record.AsSpan(28), ZoneFile.ChecksumOf(record));
            WriteRecord(table, zone, record);
        }
    });

    public byte[] ReadRecord(int table, int zone)
    {
        using FileStream file = new(ZonePath, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        file.Position = (long)OffsetOf(table, zone);
        byte[] record = new byte[32];
        file.ReadExactly(record);
        return record;
    }

    public void WriteRecord(int table, int zone, ReadOnlySpan<byte> record)
    {
        using FileStream file = new(ZonePath, FileMode.Open, FileAccess.Write, FileShare.ReadWrite);
        file.Position = (long)OffsetOf(table, zone);
        file.Write(record);
    }

    public void Dispose()
    {
        Close();
        File.Delete(ZonePath);
        _image.Dispose();
    }

    private static ulong OffsetOf(int table, int zone) => 4096 + ((ulong)table * 4096) + ((ulong)zone * 32);

    private void Open()
    {
        // Without the lock: a ring lets go of its files a moment after it is closed.
        Disk = ZonedDisk.Open(_image.Open(withLock: false), _geometry);
        Bench = new DiskBench(Disk, _engine);
        _isOpen = true;
    }

    private void Close()
    {
        // Not twice, when a test fails between closing and opening.
        if (!_isOpen)
        {
            return;
        }

        _isOpen = false;
        Bench.Dispose();
        Disk.Dispose();
    }
}
