using VirtioBlkFlow.Device;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.VhostUser;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Device;

/// <summary>When writes are durable: VIRTIO 1.4, "Block Device", "Device Requirements: Device Operation", on stable writes.</summary>
public sealed class WriteCacheTests
{
    private const BlkFeatures Flush = BlkFeatures.VIRTIO_BLK_F_FLUSH;
    private const BlkFeatures Wce = BlkFeatures.VIRTIO_BLK_F_CONFIG_WCE;

    // What was negotiated, what the field then reads, whether writes are durable at once. A driver that may flush but not toggle gets
    // what the operator asked for: durable writes are never wrong.
    [Theory]
    [InlineData(CacheMode.Writeback, BlkFeatures.None, true)]
    [InlineData(CacheMode.Writethrough, BlkFeatures.None, true)]
    [InlineData(CacheMode.Writeback, Flush, false)]
    [InlineData(CacheMode.Writethrough, Flush, true)]
    [InlineData(CacheMode.Writeback, Wce, true)]
    [InlineData(CacheMode.Writethrough, Wce, true)]
    [InlineData(CacheMode.Writeback, Wce | Flush, false)]
    [InlineData(CacheMode.Writethrough, Wce | Flush, true)]
    public void What_was_negotiated_decides(CacheMode mode, BlkFeatures negotiated, bool writethrough)
    {
        var cache = new WriteCache(mode);
        cache.Negotiate(negotiated | (BlkFeatures)VirtioFeatures.VIRTIO_F_VERSION_1);
        Assert.Equal(writethrough, cache.IsWritethrough);
        if ((negotiated & Wce) != 0)
        {
            Assert.Equal(writethrough ? 0 : 1, cache.WritebackField);
        }
    }

    [Theory]
    [InlineData(CacheMode.Writeback)]
    [InlineData(CacheMode.Writethrough)]
    public void Nothing_negotiated_yet_is_durable(CacheMode mode) => Assert.True(new WriteCache(mode).IsWritethrough);

    [Theory]
    [InlineData(CacheMode.Writeback, Wce)]
    [InlineData(CacheMode.Writeback, Wce | Flush)]
    [InlineData(CacheMode.Writethrough, Wce)]
    [InlineData(CacheMode.Writethrough, Wce | Flush)]
    public void A_driver_that_may_toggle_toggles(CacheMode mode, BlkFeatures negotiated)
    {
        var cache = new WriteCache(mode);
        cache.Negotiate(negotiated);
        cache.SetWritebackField(true);
        Assert.False(cache.IsWritethrough);
        // Writes that completed before are nobody's to flush now.
        Assert.True(cache.SetWritebackField(false));
        Assert.True(cache.IsWritethrough);
        Assert.False(cache.SetWritebackField(false));
        Assert.False(cache.SetWritebackField(true));
        Assert.False(cache.IsWritethrough);
    }

    [Theory]
    [InlineData(BlkFeatures.None)]
    [InlineData(Flush)]
    public void A_field_that_was_not_negotiated_does_not_count(BlkFeatures negotiated)
    {
        var cache = new WriteCache(CacheMode.Writethrough);
        cache.Negotiate(negotiated);
        cache.SetWritebackField(true);
        Assert.True(cache.IsWritethrough);
    }

    [Fact]
    public void The_same_features_again_leave_the_field_alone()
    {
        var cache = new WriteCache(CacheMode.Writeback);
        cache.Negotiate(Wce | Flush);
        cache.SetWritebackField(false);
        cache.Negotiate(Wce | Flush);
        Assert.True(cache.IsWritethrough);
    }

    [Fact]
    public void Other_features_decide_anew()
    {
        var cache = new WriteCache(CacheMode.Writeback);
        cache.Negotiate(Flush);
        Assert.False(cache.IsWritethrough);
        cache.Negotiate(BlkFeatures.VIRTIO_BLK_F_MQ);
        Assert.True(cache.IsWritethrough);
    }

    // QEMU resets the device whenever the machine is paused; the driver that goes on trusts the mode it chose.
    [Theory]
    [InlineData(CacheMode.Writeback, false, 0)]
    [InlineData(CacheMode.Writeback, true, 1)]
    [InlineData(CacheMode.Writethrough, false, 0)]
    [InlineData(CacheMode.Writethrough, true, 0)]
    public void A_reset_takes_back_writeback_at_most(CacheMode mode, bool chosen, byte field)
    {
        var cache = new WriteCache(mode);
        cache.Negotiate(Wce | Flush);
        cache.SetWritebackField(chosen);
        cache.Reset();
        Assert.Equal(field, cache.WritebackField);
        Assert.True(cache.IsWritethrough);
        cache.Negotiate(Wce | Flush);
        Assert.Equal(field == 0, cache.IsWritethrough);
    }

    [Theory]
    [InlineData(CacheMode.Writeback, 1)]
    [InlineData(CacheMode.Writethrough, 0)]
    public void Another_driver_finds_what_the_operator_asked_for(CacheMode mode, byte field)
    {
        var cache = new WriteCache(mode);
        cache.Negotiate(Wce | Flush);
        cache.SetWritebackField(mode == CacheMode.Writethrough);
        cache.BeginAnew();
        Assert.Equal(field, cache.WritebackField);
        Assert.True(cache.IsWritethrough);
    }

    [Theory]
    [InlineData(BlkRequestType.VIRTIO_BLK_T_OUT, CacheMode.Writeback, false)]
    [InlineData(BlkRequestType.VIRTIO_BLK_T_OUT, CacheMode.Writethrough, true)]
    [InlineData(BlkRequestType.VIRTIO_BLK_T_DISCARD, CacheMode.Writeback, false)]
    [InlineData(BlkRequestType.VIRTIO_BLK_T_DISCARD, CacheMode.Writethrough, true)]
    [InlineData(BlkRequestType.VIRTIO_BLK_T_WRITE_ZEROES, CacheMode.Writeback, false)]
    [InlineData(BlkRequestType.VIRTIO_BLK_T_WRITE_ZEROES, CacheMode.Writethrough, true)]
    public void What_changes_the_disk_reaches_it_as_negotiated(BlkRequestType type, CacheMode mode, bool durable)
    {
        using var disk = new HeldDisk { Properties = new() { CapacityBytes = 4 << 20, CanDiscard = true, CanWriteZeroes = true } };
        using var rig = new DeviceRig(disk, new BlkDeviceOptions { Cache = mode });
        Assert.True(rig.Device.TrySetFeatures(rig.Device.OfferedFeatures));
        rig.Queue.Start();
        Assert.Equal(durable, IsDurable(type, rig, disk));
        Assert.Equal(ConfigWriteOutcome.Written, rig.Device.WriteConfig(BlkConfig.WritebackOffset, [(byte)(durable ? 1 : 0)], 0));
        Assert.Equal(!durable, IsDurable(type, rig, disk));
        rig.Queue.Stop();
    }

    [Theory]
    [InlineData(DiskOutcome.Done)]
    [InlineData(DiskOutcome.Failed)]
    public void The_switch_to_writethrough_flushes_what_was_volatile(DiskOutcome outcome)
    {
        using var disk = new HeldDisk { FlushOutcome = outcome };
        using var rig = new DeviceRig(disk, new BlkDeviceOptions { Cache = CacheMode.Writeback });
        Assert.True(rig.Device.TrySetFeatures(rig.Device.OfferedFeatures));
        Assert.Equal(ConfigWriteOutcome.Written, rig.Device.WriteConfig(BlkConfig.WritebackOffset, [0], 0));
        Assert.Equal(1, disk.Flushes);
        Assert.Equal(ConfigWriteOutcome.Written, rig.Device.WriteConfig(BlkConfig.WritebackOffset, [0], 0));
        Assert.Equal(ConfigWriteOutcome.Written, rig.Device.WriteConfig(BlkConfig.WritebackOffset, [1], 0));
        Assert.Equal(1, disk.Flushes);
    }

    private static bool IsDurable(BlkRequestType type, DeviceRig rig, HeldDisk disk)
    {
        int before = disk.SubmittedCount;
        RequestArea area = rig.Queue.TakeArea();
        bool hasSegments = type != BlkRequestType.VIRTIO_BLK_T_OUT;
        if (hasSegments)
        {
            area.WriteSegments(new BlkSegment { Sector = 0, SectorCount = 8 });
        }

        rig.Queue.AddChain(area, area.Chain(type, 0, hasSegments ? BlkSegment.SizeBytes : 512u));
        rig.Queue.Publish();
        Eventually.Holds(() => disk.SubmittedCount == before + 1, "the request reaches the disk");
        bool durable = rig.OnReactor(() => disk.InFlight[0].Durable);
        rig.OnReactor(() => disk.End());
        Assert.Equal((byte)BlkStatus.VIRTIO_BLK_S_OK, rig.Queue.Take().Status);
        return durable;
    }
}
