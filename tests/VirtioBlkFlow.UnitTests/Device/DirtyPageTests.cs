using System.Runtime.InteropServices;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Zoned;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.VhostUser;
using VirtioBlkFlow.Virtio.Blk;
using Xunit;
using static VirtioBlkFlow.Virtio.Blk.BlkRequestType;
using static VirtioBlkFlow.Virtio.Blk.BlkStatus;

namespace VirtioBlkFlow.UnitTests.Device;

/// <summary>For each type of request: of its own data, the pages that were written are marked, and no others.</summary>
public sealed unsafe class DirtyPageTests : IDisposable
{
    private const int PageBytes = 4096;
    private const int LogBytes = (int)(DeviceRig.MemoryBytes / PageBytes / 8);
    private const int ZoneSectors = 128;

    private readonly TemporaryImage _image = new(4 * ZoneSectors * 512);
    private readonly byte* _log = (byte*)NativeMemory.AllocZeroed(LogBytes);
    private DeviceRig? _rig;

    private DeviceRig Rig => _rig!;

    public void Dispose()
    {
        if (_rig != null)
        {
            _rig.Queue.Stop();
            _rig.Dispose();
        }

        NativeMemory.Free(_log);
        File.Delete(_image.Path + ".zones");
        _image.Dispose();
    }

    [Theory]
    [InlineData(VIRTIO_BLK_T_IN, 8192u, VIRTIO_BLK_S_OK, true, true)]
    [InlineData(VIRTIO_BLK_T_IN, 4096u, VIRTIO_BLK_S_OK, true, false)]
    [InlineData(VIRTIO_BLK_T_GET_ID, 8192u, VIRTIO_BLK_S_OK, true, false)]
    // Neither is offered by an image.
    [InlineData(VIRTIO_BLK_T_GET_LIFETIME, 8192u, VIRTIO_BLK_S_UNSUPP, false, false)]
    [InlineData(VIRTIO_BLK_T_ZONE_REPORT, 8192u, VIRTIO_BLK_S_UNSUPP, false, false)]
    public void An_image(BlkRequestType type, uint roomBytes, BlkStatus status, bool isFirstMarked, bool isSecondMarked)
    {
        Start(_image.Open());
        Assert.Equal((status, isFirstMarked, isSecondMarked), Do(type, 0, area => [DriverBuffer.Writable(area.DataAddress, roomBytes)]));
    }

    [Theory]
    [InlineData(VIRTIO_BLK_T_OUT, 4096u)]
    [InlineData(VIRTIO_BLK_T_FLUSH, 512u)]
    [InlineData(VIRTIO_BLK_T_DISCARD, 16u)]
    [InlineData(VIRTIO_BLK_T_WRITE_ZEROES, 16u)]
    public void What_is_only_read_is_not_marked(BlkRequestType type, uint dataBytes)
    {
        Start(_image.Open());
        Assert.Equal((VIRTIO_BLK_S_OK, false, false), Do(type, 0, area => [DriverBuffer.Readable(area.DataAddress, dataBytes)]));
    }

    [Fact]
    public void A_lifetime()
    {
        Start(new HeldDisk { Properties = new() { CapacityBytes = 1 << 20, HasLifetime = true }, Lifetime = new DiskLifetime(1, 1, 1) });
        Assert.Equal((VIRTIO_BLK_S_OK, true, true), Do(VIRTIO_BLK_T_GET_LIFETIME, 0, area => [DriverBuffer.Writable(area.DataAddress + PageBytes - 3, 6)]));
        Assert.Equal((VIRTIO_BLK_S_OK, true, false), Do(VIRTIO_BLK_T_GET_LIFETIME, 0, area => [DriverBuffer.Writable(area.DataAddress, 8192)]));
    }

    [Theory]
    [InlineData(8192u, true, false)]
    [InlineData(64u, true, false)]
    [InlineData(63u, false, false)]
    public void A_zone_report(uint roomBytes, bool isFirstMarked, bool isSecondMarked)
    {
        StartZoned();
        (BlkStatus status, bool first, bool second) = Do(VIRTIO_BLK_T_ZONE_REPORT, 0, area => [DriverBuffer.Writable(area.DataAddress, roomBytes)]);
        Assert.Equal(isFirstMarked, status == VIRTIO_BLK_S_OK);
        Assert.Equal((isFirstMarked, isSecondMarked), (first, second));
    }

    [Fact]
    public void The_answer_to_an_append_and_only_if_there_is_one()
    {
        StartZoned();
        Assert.Equal((VIRTIO_BLK_S_OK, true, true), Append(ZoneSectors, 4092));
        Assert.Equal((VIRTIO_BLK_S_OK, true, false), Append(ZoneSectors, 1024));
        Assert.Equal((VIRTIO_BLK_S_OK, false, true), Append(ZoneSectors, PageBytes));
        Assert.Equal((VIRTIO_BLK_S_ZONE_INVALID_CMD, false, false), Append(ZoneSectors + 1, 1024));

        (BlkStatus, bool, bool) Append(ulong sector, uint offset) => Do(
            VIRTIO_BLK_T_ZONE_APPEND,
            sector,
            area => [DriverBuffer.Readable(area.DataAddress, 512), DriverBuffer.Writable(area.DataAddress + offset, 8)]);
    }

    [Fact]
    public void A_list_of_an_erase_that_could_be_written_is_not()
    {
        var disk = new HeldDisk { Properties = new() { CapacityBytes = 1 << 20, CanSecureErase = true } };
        Start(disk);
        Assert.Equal((VIRTIO_BLK_S_IOERR, false, false), Do(VIRTIO_BLK_T_SECURE_ERASE, 0, area => [DriverBuffer.Writable(area.DataAddress, 15)]));
        Assert.Equal((VIRTIO_BLK_S_UNSUPP, false, false), Do(VIRTIO_BLK_T_SECURE_ERASE, 0, area =>
        {
            area.WriteSegments(new BlkSegment { SectorCount = 8, Flags = 2 });
            return [DriverBuffer.Writable(area.DataAddress, 16)];
        }));
    }

    private void StartZoned() => Start(ZonedDisk.Open(_image.Open(), new ZoneGeometry { ZoneBytes = ZoneSectors * 512, ConventionalZones = 1 }));

    private void Start(IDisk disk)
    {
        _rig = new DeviceRig(disk, new BlkDeviceOptions { Serial = "serial" });
        _rig.Queue.Start();
        _rig.Device.SetDirtyLog(new DirtyLogMapping((nint)_log, LogBytes), []);
    }

    // One request, and whether the two pages of its data are marked.
    private (BlkStatus Status, bool First, bool Second) Do(BlkRequestType type, ulong sector, Func<RequestArea, DriverBuffer[]> data)
    {
        RequestArea area = Rig.Queue.TakeArea();
        area.Data(RequestArea.MaxDataBytes).Clear();
        area.WriteHeader(type, sector);
        new Span<byte>(_log, LogBytes).Clear();
        Rig.Queue.AddChain(area, [area.Header, .. data(area), area.Status]);
        Rig.Queue.Publish();
        Answer answer = Rig.Queue.Take();
        // The status is always written, so whatever else is missing: the log works.
        Assert.True(IsMarked(area.StatusAddress));
        return ((BlkStatus)answer.Status, IsMarked(area.DataAddress), IsMarked(area.DataAddress + PageBytes));
    }

    private bool IsMarked(ulong guestAddress)
    {
        ulong page = guestAddress / PageBytes;
        return (Volatile.Read(ref _log[page / 8]) & (1 << (int)(page % 8))) != 0;
    }
}
