using VirtioBlkFlow.Device;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio.Blk;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Device;

/// <summary>GET_LIFETIME through a running device.</summary>
public sealed class LifetimeRequestTests
{
    private const ulong Bit = (ulong)BlkFeatures.VIRTIO_BLK_F_LIFETIME;
    private static readonly byte[] s_payload = [3, 0, 11, 0, 10, 0];

    [Theory]
    [InlineData(0u, 1u)]
    [InlineData(1u, 2u)]
    [InlineData(5u, 6u)]
    [InlineData(6u, 7u)]
    [InlineData(4096u, 6u)]
    public void It_fills_what_room_there_is(uint roomBytes, uint usedBytes)
    {
        using DeviceRig rig = Start(hasLifetime: true, new DiskLifetime(3, 11, 10));
        RequestArea area = Ask(rig, roomBytes, out Answer answer);
        Assert.Equal(((byte)BlkStatus.VIRTIO_BLK_S_OK, usedBytes), (answer.Status, answer.UsedBytes));
        int written = Math.Min((int)roomBytes, BlkLifetime.SizeBytes);
        Assert.Equal(s_payload[..written], area.Data(written).ToArray());
        Assert.Equal(-1, area.Data(RequestArea.MaxDataBytes)[written..].IndexOfAnyExcept((byte)0xcc));
        rig.Queue.Stop();
    }

    [Fact]
    public void Each_answer_is_what_the_disk_knows_by_then()
    {
        var disk = new HeldDisk { Properties = PropertiesWith(true), Lifetime = new DiskLifetime(1, 1, 1) };
        using var rig = new DeviceRig(disk);
        rig.Queue.Start();
        Assert.Equal([1, 0, 1, 0, 1, 0], Ask(rig, 6, out _).Data(6).ToArray());
        disk.Lifetime = new DiskLifetime(2, 5, 6);
        Assert.Equal([2, 0, 5, 0, 6, 0], Ask(rig, 6, out _).Data(6).ToArray());
        // A disk that has forgotten: undefined, which any driver must expect.
        disk.Lifetime = null;
        Assert.Equal(new byte[6], Ask(rig, 6, out Answer answer).Data(6).ToArray());
        Assert.Equal((byte)BlkStatus.VIRTIO_BLK_S_OK, answer.Status);
        Assert.Equal(0, disk.SubmittedCount);
        rig.Queue.Stop();
    }

    [Theory]
    [InlineData(false, false)]
    [InlineData(true, true)]
    public void Where_it_is_not_offered_it_is_unsupported(bool hasLifetime, bool isHidden)
    {
        using DeviceRig rig = Start(hasLifetime, new DiskLifetime(1, 1, 1), isHidden ? Bit : 0);
        Assert.Equal(0ul, rig.Device.OfferedFeatures & Bit);
        RequestArea area = Ask(rig, 6, out Answer answer);
        Assert.Equal(((byte)BlkStatus.VIRTIO_BLK_S_UNSUPP, 0u), (answer.Status, answer.UsedBytes));
        Assert.Equal(-1, area.Data(6).IndexOfAnyExcept((byte)0xcc));
        rig.Queue.Stop();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void It_is_offered_where_the_disk_has_it_written_or_not(bool readOnly)
    {
        using var rig = new DeviceRig(new HeldDisk { Properties = PropertiesWith(true) with { ReadOnly = readOnly } });
        Assert.Equal(Bit, rig.Device.OfferedFeatures & Bit);
    }

    private static DeviceRig Start(bool hasLifetime, DiskLifetime lifetime, ulong hidden = 0)
    {
        var rig = new DeviceRig(
            new HeldDisk { Properties = PropertiesWith(hasLifetime), Lifetime = lifetime },
            new BlkDeviceOptions { Features = new FeatureChoices(0, hidden) });
        rig.Queue.Start();
        return rig;
    }

    private static DiskProperties PropertiesWith(bool hasLifetime) => new() { CapacityBytes = 4 << 20, HasLifetime = hasLifetime };

    private static RequestArea Ask(DeviceRig rig, uint roomBytes, out Answer answer)
    {
        RequestArea area = rig.Queue.TakeArea();
        area.Data(RequestArea.MaxDataBytes).Fill(0xcc);
        area.WriteHeader(BlkRequestType.VIRTIO_BLK_T_GET_LIFETIME, 0);
        DriverBuffer[] chain = roomBytes == 0 ? [area.Header, area.Status] : [area.Header, DriverBuffer.Writable(area.DataAddress, roomBytes), area.Status];
        rig.Queue.AddChain(area, chain);
        rig.Queue.Publish();
        answer = rig.Queue.Take();
        return area;
    }
}
