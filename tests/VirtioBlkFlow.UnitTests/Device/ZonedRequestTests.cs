using System.Buffers.Binary;
using System.Runtime.InteropServices;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.Disks.Zoned;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;
using Xunit;
using static VirtioBlkFlow.Virtio.Blk.BlkRequestType;
using static VirtioBlkFlow.Virtio.Blk.BlkStatus;

namespace VirtioBlkFlow.UnitTests.Device;

/// <summary>Zoned requests through a running device: layout of answers, status bytes, features.</summary>
public sealed class ZonedRequestTests : IDisposable
{
    private const int ZoneSectors = 128;
    private const int Zones = 5;

    private readonly TemporaryImage _image = new(Zones * ZoneSectors * 512);
    private DeviceRig? _rig;

    private DeviceRig Rig => _rig ??= Start(s_geometry);

    private static readonly ZoneGeometry s_geometry = new() { ZoneBytes = ZoneSectors * 512, ConventionalZones = 1, MaxOpen = 1, MaxActive = 2, MaxAppendBytes = 4096 };

    public void Dispose()
    {
        if (_rig != null)
        {
            _rig.Queue.Stop();
            _rig.Dispose();
        }

        File.Delete(_image.Path + ".zones");
        _image.Dispose();
    }

    [Fact]
    public void A_driver_that_knows_no_zones_is_refused_and_the_space_says_host_managed()
    {
        ulong offered = Rig.Device.OfferedFeatures;
        Assert.NotEqual(0ul, offered & (ulong)BlkFeatures.VIRTIO_BLK_F_ZONED);
        Assert.Equal(0ul, offered & (ulong)(BlkFeatures.VIRTIO_BLK_F_DISCARD | BlkFeatures.VIRTIO_BLK_F_WRITE_ZEROES));
        Assert.False(Rig.Device.TrySetFeatures(offered & ~(ulong)BlkFeatures.VIRTIO_BLK_F_ZONED));
        Assert.True(Rig.Device.TrySetFeatures((ulong)(VirtioFeatures.VIRTIO_F_VERSION_1 | (VirtioFeatures)BlkFeatures.VIRTIO_BLK_F_ZONED)));
        byte[] space = new byte[96];
        Rig.Device.ReadConfig(0, space);
        uint[] zoned = MemoryMarshal.Cast<byte, uint>(space.AsSpan(72, 20)).ToArray();
        Assert.Equal([ZoneSectors, 1u, 2u, 8u, 512u], zoned);
        Assert.Equal([1, 0, 0, 0], space[92..]);
    }

    [Fact]
    public void An_append_answers_with_the_sector_before_the_status()
    {
        for (int i = 0; i < 3; i++)
        {
            (byte status, uint used, RequestArea area) = Append(ZoneSectors, 1024);
            Assert.Equal(((byte)VIRTIO_BLK_S_OK, 9u), (status, used));
            Assert.Equal((ulong)(ZoneSectors + (2 * i)), BinaryPrimitives.ReadUInt64LittleEndian(area.Data(8192)[4096..]));
        }
    }

    [Fact]
    public void An_append_is_checked_before_and_after_its_zone_is_known()
    {
        Assert.Equal((byte)VIRTIO_BLK_S_ZONE_INVALID_CMD, Append(ZoneSectors + 8, 512).Status);
        Assert.Equal((byte)VIRTIO_BLK_S_ZONE_INVALID_CMD, Append(0, 512).Status);
        Assert.Equal((byte)VIRTIO_BLK_S_ZONE_INVALID_CMD, Append(Zones * ZoneSectors, 512).Status);
        Assert.Equal((byte)VIRTIO_BLK_S_ZONE_INVALID_CMD, Append(ulong.MaxValue, 512).Status);
        Assert.Equal((byte)VIRTIO_BLK_S_ZONE_INVALID_CMD, Append((1UL << 55) + ZoneSectors, 512).Status);
        Assert.Equal((byte)VIRTIO_BLK_S_IOERR, Append(ZoneSectors, 511).Status);
        // No room for the sector.
        Assert.Equal((byte)VIRTIO_BLK_S_IOERR, Rig.Queue.Do(VIRTIO_BLK_T_ZONE_APPEND, ZoneSectors, 512).Status);
    }

    [Theory]
    [InlineData(4096u, 8u, VIRTIO_BLK_S_OK)]
    [InlineData(4096u, 9u, VIRTIO_BLK_S_ZONE_INVALID_CMD)]
    [InlineData(0u, 1u, VIRTIO_BLK_S_UNSUPP)]
    public void An_append_has_its_own_limit(uint maxAppendBytes, uint sectors, BlkStatus status)
    {
        _rig = Start(s_geometry with { MaxAppendBytes = maxAppendBytes });
        RequestArea area = Rig.Queue.TakeArea();
        area.WriteHeader(VIRTIO_BLK_T_ZONE_APPEND, ZoneSectors);
        Rig.Queue.AddChain(area, [area.Header, DriverBuffer.Readable(area.DataAddress, sectors * 512), DriverBuffer.Writable(area.DataAddress + 8000, 8), area.Status]);
        Rig.Queue.Publish();
        Assert.Equal((byte)status, Rig.Queue.Take().Status);
    }

    [Theory]
    [InlineData(0UL, 64u + 160, 2, 0)]
    [InlineData(300UL, 4096u, 3, 2)]
    [InlineData(0UL, 64u, 0, 0)]
    [InlineData((Zones * ZoneSectors) - 1UL, 8000u, 1, 4)]
    public void A_report_has_the_zones_that_fit_from_the_one_with_the_sector(ulong sector, uint roomBytes, int zones, int first)
    {
        (Answer answer, byte[] bytes) = Report(sector, roomBytes);
        Assert.Equal((byte)VIRTIO_BLK_S_OK, answer.Status);
        uint reportBytes = 64 + (64 * (uint)zones);
        Assert.Equal(roomBytes == reportBytes ? reportBytes + 1 : reportBytes, answer.UsedBytes);
        Assert.Equal((ulong)zones, BinaryPrimitives.ReadUInt64LittleEndian(bytes));
        for (int i = 0; i < zones; i++)
        {
            Assert.Equal((ulong)((first + i) * ZoneSectors), BinaryPrimitives.ReadUInt64LittleEndian(bytes.AsSpan(64 + (64 * i) + 8)));
        }

        Assert.Equal(-1, bytes.AsSpan((int)reportBytes).IndexOfAnyExcept((byte)0xee));
    }

    [Fact]
    public void A_report_without_room_or_beyond_the_end_is_invalid()
    {
        Assert.Equal((byte)VIRTIO_BLK_S_ZONE_INVALID_CMD, Report(0, 63).Answer.Status);
        Assert.Equal((byte)VIRTIO_BLK_S_ZONE_INVALID_CMD, Report(Zones * ZoneSectors, 4096).Answer.Status);
        Assert.Equal((byte)VIRTIO_BLK_S_ZONE_INVALID_CMD, Report(ulong.MaxValue, 4096).Answer.Status);
    }

    [Fact]
    public void Each_status_reaches_the_driver()
    {
        Assert.Equal((byte)VIRTIO_BLK_S_ZONE_UNALIGNED_WP, Rig.Queue.Do(VIRTIO_BLK_T_OUT, ZoneSectors + 1, 512).Status);
        Assert.Equal((byte)VIRTIO_BLK_S_ZONE_INVALID_CMD, Rig.Queue.Do(VIRTIO_BLK_T_ZONE_OPEN, 0).Status);
        Assert.Equal((byte)VIRTIO_BLK_S_OK, Rig.Queue.Do(VIRTIO_BLK_T_ZONE_OPEN, ZoneSectors).Status);
        Assert.Equal((byte)VIRTIO_BLK_S_ZONE_OPEN_RESOURCE, Rig.Queue.Do(VIRTIO_BLK_T_OUT, 2 * ZoneSectors, 512).Status);
        Assert.Equal((byte)VIRTIO_BLK_S_OK, Rig.Queue.Do(VIRTIO_BLK_T_OUT, ZoneSectors, 512).Status);
        Assert.Equal((byte)VIRTIO_BLK_S_OK, Rig.Queue.Do(VIRTIO_BLK_T_ZONE_CLOSE, ZoneSectors).Status);
        Assert.Equal((byte)VIRTIO_BLK_S_OK, Rig.Queue.Do(VIRTIO_BLK_T_OUT, 2 * ZoneSectors, 512).Status);
        Assert.Equal((byte)VIRTIO_BLK_S_ZONE_ACTIVE_RESOURCE, Rig.Queue.Do(VIRTIO_BLK_T_OUT, 3 * ZoneSectors, 512).Status);
        Assert.Equal((byte)VIRTIO_BLK_S_OK, Rig.Queue.Do(VIRTIO_BLK_T_ZONE_FINISH, ZoneSectors).Status);
        Assert.Equal((byte)VIRTIO_BLK_S_OK, Rig.Queue.Do(VIRTIO_BLK_T_ZONE_RESET, ZoneSectors).Status);
        Assert.Equal((byte)VIRTIO_BLK_S_OK, Rig.Queue.Do(VIRTIO_BLK_T_ZONE_RESET_ALL, ulong.MaxValue).Status);
        Assert.Equal((byte)VIRTIO_BLK_S_ZONE_INVALID_CMD, Rig.Queue.Do(VIRTIO_BLK_T_IN, ZoneSectors - 1, 1024).Status);
    }

    [Fact]
    public void Writes_of_one_batch_are_in_the_order_they_came()
    {
        for (uint i = 0; i < 16; i++)
        {
            RequestArea area = Rig.Queue.Add(VIRTIO_BLK_T_OUT, ZoneSectors + i, 512);
            area.Data(512).Fill((byte)(i + 1));
        }

        Rig.Queue.Publish();
        for (int i = 0; i < 16; i++)
        {
            Assert.Equal((byte)VIRTIO_BLK_S_OK, Rig.Queue.Take().Status);
        }

        for (int i = 0; i < 16; i++)
        {
            Assert.Equal(i + 1, _image.Read((ZoneSectors + i) * 512, 1)[0]);
        }
    }

    [Theory]
    [InlineData(15u)]
    [InlineData(16u)]
    [InlineData(18u)]
    [InlineData(20u)]
    [InlineData(22u)]
    [InlineData(24u)]
    [InlineData(26u)]
    public void A_disk_without_zones_supports_none_of_it(uint type)
    {
        using var image = new TemporaryImage();
        using var rig = new DeviceRig(image.Open());
        rig.Queue.Start();
        Assert.Equal((byte)VIRTIO_BLK_S_UNSUPP, rig.Queue.Do((BlkRequestType)type, 0, 512).Status);
        rig.Queue.Stop();
    }

    [Fact]
    public void Appends_of_several_queues_to_one_zone_never_meet()
    {
        using var image = new TemporaryImage(4 << 20);
        using (var rig = new DeviceRig(ZonedDisk.Open(image.Open(), new ZoneGeometry { ZoneBytes = 1 << 20 }), new BlkDeviceOptions { Cache = CacheMode.Writeback }, queueCount: 3))
        {
            foreach (DriverQueue queue in rig.Queues)
            {
                queue.Start();
            }

            var sectors = new System.Collections.Concurrent.ConcurrentBag<ulong>();
            Parallel.ForEach(rig.Queues, queue =>
            {
                for (int i = 0; i < 200; i++)
                {
                    RequestArea area = queue.TakeArea();
                    area.WriteHeader(VIRTIO_BLK_T_ZONE_APPEND, 2048);
                    area.Data(512).Fill((byte)(queue.Index + 1));
                    queue.AddChain(area, [area.Header, DriverBuffer.Readable(area.DataAddress, 512), DriverBuffer.Writable(area.DataAddress + 4096, 8), area.Status]);
                    queue.Publish();
                    Assert.Equal((byte)VIRTIO_BLK_S_OK, queue.Take().Status);
                    ulong sector = BinaryPrimitives.ReadUInt64LittleEndian(area.Data(8192)[4096..]);
                    Assert.Equal(queue.Index + 1, image.Read((long)sector * 512, 1)[0]);
                    sectors.Add(sector);
                }
            });
            Assert.Equal(Enumerable.Range(2048, 600).Select(sector => (ulong)sector), sectors.Order());
            foreach (DriverQueue queue in rig.Queues)
            {
                queue.Stop();
            }
        }

        File.Delete(image.Path + ".zones");
    }

    private DeviceRig Start(ZoneGeometry geometry)
    {
        var rig = new DeviceRig(ZonedDisk.Open(_image.Open(), geometry));
        rig.Queue.Start();
        return rig;
    }

    private (byte Status, uint Used, RequestArea Area) Append(ulong sector, uint bytes)
    {
        RequestArea area = Rig.Queue.TakeArea();
        area.WriteHeader(VIRTIO_BLK_T_ZONE_APPEND, sector);
        DriverBuffer[] chain = [area.Header, DriverBuffer.Readable(area.DataAddress, bytes), DriverBuffer.Writable(area.DataAddress + 4096, 8), area.Status];
        Rig.Queue.AddChain(area, chain);
        Rig.Queue.Publish();
        Answer answer = Rig.Queue.Take();
        return (answer.Status, answer.UsedBytes, area);
    }

    private (Answer Answer, byte[] Bytes) Report(ulong sector, uint roomBytes)
    {
        RequestArea area = Rig.Queue.TakeArea();
        area.WriteHeader(VIRTIO_BLK_T_ZONE_REPORT, sector);
        area.Data((int)roomBytes).Fill(0xee);
        Rig.Queue.AddChain(area, [area.Header, DriverBuffer.Writable(area.DataAddress, roomBytes), area.Status]);
        Rig.Queue.Publish();
        return (Rig.Queue.Take(), area.Data((int)roomBytes).ToArray());
    }
}
