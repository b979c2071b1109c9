using System.Buffers.Binary;
using System.Runtime.InteropServices;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.File;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio.Blk;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Device;

/// <summary>SECURE_ERASE through a running device, with a disk double that can.</summary>
public sealed class SecureEraseTests : IDisposable
{
    private const ulong Bit = (ulong)BlkFeatures.VIRTIO_BLK_F_SECURE_ERASE;
    private const byte Ok = (byte)BlkStatus.VIRTIO_BLK_S_OK;
    private const byte IoErr = (byte)BlkStatus.VIRTIO_BLK_S_IOERR;
    private const byte Unsupp = (byte)BlkStatus.VIRTIO_BLK_S_UNSUPP;
    private const ulong Sectors = 8192;
    private static readonly DiskProperties s_properties = new() { CapacityBytes = Sectors * 512, CanSecureErase = true };

    private readonly HeldDisk _disk = new() { Properties = s_properties };
    private readonly DeviceRig _rig;

    public SecureEraseTests()
    {
        _rig = new DeviceRig(_disk, new BlkDeviceOptions { SecureErase = new SegmentLimits(64, 3) });
        _rig.Queue.Start();
    }

    public static TheoryData<BlkSegment[], byte> Lists => new()
    {
        { [Segment(0, 64)], Ok },
        { [Segment(0, 1), Segment(Sectors - 1, 1), Segment(8, 0)], Ok },
        { [Segment(0, 65)], IoErr },
        { [Segment(0, 1), Segment(0, 1), Segment(0, 1), Segment(0, 1)], IoErr },
        { [Segment(Sectors - 1, 2)], IoErr },
        // The unmap flag is reserved here as all others are, and flags come before ranges.
        { [Segment(0, 1, 1)], Unsupp },
        { [Segment(0, 65, 2)], Unsupp },
    };

    public void Dispose()
    {
        _rig.Queue.Stop();
        _rig.Dispose();
    }

    [Theory]
    [MemberData(nameof(Lists))]
    public void A_list_is_checked_whole_wherever_it_lies(BlkSegment[] list, byte status)
    {
        foreach (bool isWritable in new[] { false, true })
        {
            RequestArea area = Send(list, isWritable);
            byte[] before = area.Data(list.Length * BlkSegment.SizeBytes).ToArray();
            if (status == Ok)
            {
                EndOne(list);
            }

            Answer answer = _rig.Queue.Take();
            // A list the device could write is before the status, and nothing was written to it.
            Assert.Equal((status, isWritable ? 0u : 1u), (answer.Status, answer.UsedBytes));
            Assert.Equal(before, area.Data(before.Length).ToArray());
        }
    }

    [Fact]
    public void What_was_read_counts_and_not_what_could_be_written()
    {
        RequestArea area = _rig.Queue.TakeArea();
        area.WriteHeader(BlkRequestType.VIRTIO_BLK_T_SECURE_ERASE, 0);
        area.WriteSegments(Segment(0, 8), Segment(16, 8));
        _rig.Queue.AddChain(
            area,
            [area.Header, DriverBuffer.Readable(area.DataAddress, 16), DriverBuffer.Writable(area.DataAddress + 16, 16), area.Status]);
        _rig.Queue.Publish();
        EndOne(Segment(0, 8));
        Assert.Equal(Ok, _rig.Queue.Take().Status);
    }

    [Theory]
    [InlineData(0u)]
    [InlineData(15u)]
    [InlineData(17u)]
    public void A_writable_list_of_the_wrong_length_fails(uint listBytes)
    {
        RequestArea area = _rig.Queue.TakeArea();
        area.WriteHeader(BlkRequestType.VIRTIO_BLK_T_SECURE_ERASE, 0);
        _rig.Queue.AddChain(
            area, listBytes == 0 ? [area.Header, area.Status] : [area.Header, DriverBuffer.Writable(area.DataAddress, listBytes), area.Status]);
        _rig.Queue.Publish();
        Assert.Equal(IoErr, _rig.Queue.Take().Status);
    }

    [Fact]
    public void Only_an_erase_takes_its_list_from_where_the_device_could_write()
    {
        using var disk = new HeldDisk { Properties = s_properties with { CanDiscard = true, CanWriteZeroes = true } };
        using var rig = new DeviceRig(disk);
        rig.Queue.Start();
        foreach (BlkRequestType type in new[] { BlkRequestType.VIRTIO_BLK_T_DISCARD, BlkRequestType.VIRTIO_BLK_T_WRITE_ZEROES })
        {
            RequestArea area = rig.Queue.TakeArea();
            area.WriteHeader(type, 0);
            area.WriteSegments(Segment(0, 8));
            rig.Queue.AddChain(area, [area.Header, DriverBuffer.Writable(area.DataAddress, BlkSegment.SizeBytes), area.Status]);
            rig.Queue.Publish();
            Assert.Equal(IoErr, rig.Queue.Take().Status);
        }

        rig.Queue.Stop();
    }

    [Fact]
    public void A_failure_is_told()
    {
        Send([Segment(0, 8)], isWritable: false);
        EndOne([Segment(0, 8)], DiskOutcome.Failed);
        Assert.Equal(IoErr, _rig.Queue.Take().Status);
    }

    [Fact]
    public void Stopping_waits_for_it()
    {
        Send([Segment(0, 8)], isWritable: true);
        Eventually.Holds(() => _disk.SubmittedCount == 1, "the erase is in flight");
        Task<ushort> stop = Task.Run(_rig.Queue.Stop);
        _rig.LetTurnsPass();
        Assert.False(stop.IsCompleted);
        _rig.OnReactor(() => _disk.End());
        Assert.Equal(1, Eventually.Result(stop, "the queue stops"));
        Assert.Equal(Ok, _rig.Queue.Take().Status);
        _rig.Queue.Start(1);
    }

    [Theory]
    [InlineData(false, false, false)]
    [InlineData(true, true, false)]
    [InlineData(true, false, true)]
    public void It_is_offered_only_where_the_disk_can(bool canErase, bool readOnly, bool isOffered)
    {
        using var rig = new DeviceRig(
            new HeldDisk { Properties = s_properties with { CanSecureErase = canErase, ReadOnly = readOnly, PhysicalBlockBytes = 4096 } },
            new BlkDeviceOptions { SecureErase = new SegmentLimits(64, 3) });
        Assert.Equal(isOffered ? Bit : 0, rig.Device.OfferedFeatures & Bit);
        byte[] fields = new byte[12];
        rig.Device.ReadConfig(60, fields);
        // Linux refuses a device that offers it with a 0 in any of the three.
        uint[] expected = isOffered ? [64, 3, 8] : [0, 0, 0];
        Assert.Equal(expected, Enumerable.Range(0, 3).Select(i => BinaryPrimitives.ReadUInt32LittleEndian(fields.AsSpan(i * 4))));
    }

    [Theory]
    [InlineData(IoEngineKind.IoUring)]
    [InlineData(IoEngineKind.Threads)]
    public void A_disk_that_cannot_after_all_fails_it_and_keeps_its_data(IoEngineKind engine)
    {
        using var image = new TemporaryImage();
        image.Write(0, [1, 2, 3]);
        // The host says that it can; the kernel then refuses what a regular file does not know.
        var host = new BlockDeviceHost { NumberOf = _ => new DeviceNumber(0, 0), CanSecureErase = _ => true };
        using var rig = new DeviceRig(FileDisk.Open(new FileDiskOptions(image.Path), host), new BlkDeviceOptions { Engine = engine });
        rig.Queue.Start();
        for (int i = 0; i < 20; i++)
        {
            RequestArea area = rig.Queue.TakeArea();
            area.WriteSegments(Segment(0, 8));
            rig.Queue.AddChain(area, area.Chain(BlkRequestType.VIRTIO_BLK_T_SECURE_ERASE, 0, BlkSegment.SizeBytes));
            rig.Queue.Publish();
            Assert.Equal(IoErr, rig.Queue.Take().Status);
        }

        Assert.Equal([1, 2, 3], image.Read(0, 3));
        rig.Queue.Stop();
    }

    private static BlkSegment Segment(ulong sector, uint count, uint flags = 0) => new() { Sector = sector, SectorCount = count, Flags = flags };

    private RequestArea Send(BlkSegment[] list, bool isWritable)
    {
        RequestArea area = _rig.Queue.TakeArea();
        area.WriteHeader(BlkRequestType.VIRTIO_BLK_T_SECURE_ERASE, 0);
        area.WriteSegments(list);
        uint bytes = (uint)MemoryMarshal.AsBytes<BlkSegment>(list).Length;
        _rig.Queue.AddChain(area, [area.Header, new DriverBuffer(area.DataAddress, bytes, isWritable), area.Status]);
        _rig.Queue.Publish();
        return area;
    }

    // Waits for the one request at the disk, sees that it is what was asked for, and ends it.
    private void EndOne(params BlkSegment[] list) => EndOne(list, DiskOutcome.Done);

    private void EndOne(BlkSegment[] list, DiskOutcome outcome)
    {
        Eventually.Holds(() => _rig.OnReactor(() => _disk.InFlight.Count) == 1, "the erase is at the disk");
        HeldDisk.Held held = _rig.OnReactor(() => _disk.InFlight[0]);
        Assert.Equal(DiskOperation.SecureErase, held.Operation);
        Assert.True(held.Durable);
        Assert.Equal(list.Select(one => (one.Sector * 512, one.SectorCount * 512ul)), held.Ranges.Select(range => (range.OffsetBytes, range.LengthBytes)));
        _rig.OnReactor(() => _disk.End(outcome: outcome));
    }
}
