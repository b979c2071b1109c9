using System.Buffers.Binary;
using Mono.Unix.Native;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Presented;
using VirtioBlkFlow.Disks.Wrapping;
using VirtioBlkFlow.UnitTests.Disks.Wrapping;
using VirtioBlkFlow.Virtio.Blk;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Device;

/// <summary>A disk that changes its size while it is served.</summary>
public sealed class ResizeTests : IDisposable
{
    private const byte Ok = (byte)BlkStatus.VIRTIO_BLK_S_OK;
    private const byte IoErr = (byte)BlkStatus.VIRTIO_BLK_S_IOERR;
    private const int SmallBytes = 1 << 20;
    private const int LargeBytes = 3 << 20;

    private readonly TemporaryImage _image = new(SmallBytes);

    public void Dispose() => _image.Dispose();

    [Fact]
    public void A_disk_that_grew_can_be_used_up_to_its_new_end()
    {
        using var rig = new DeviceRig(_image.Open());
        rig.Queue.Start();
        const ulong lastSector = (LargeBytes / 512) - 1;
        Assert.Equal(IoErr, rig.Queue.Do(BlkRequestType.VIRTIO_BLK_T_OUT, lastSector, 512).Status);
        Truncate(LargeBytes);
        Assert.Equal(IoErr, rig.Queue.Do(BlkRequestType.VIRTIO_BLK_T_OUT, lastSector, 512).Status);
        Assert.Equal(new DiskResize(SmallBytes, LargeBytes, 0), rig.Device.Refresh());
        Assert.Equal(LargeBytes / 512, CapacityOf(rig.Device));
        Assert.Equal(1, rig.ConfigChanges);
        Assert.Equal(Ok, rig.Queue.Do(BlkRequestType.VIRTIO_BLK_T_OUT, lastSector, 512).Status);
        Assert.Equal(IoErr, rig.Queue.Do(BlkRequestType.VIRTIO_BLK_T_OUT, lastSector + 1, 512).Status);
        rig.Queue.Stop();
    }

    [Fact]
    public void A_disk_that_shrank_ends_earlier_and_does_not_grow_again()
    {
        Truncate(LargeBytes);
        using var rig = new DeviceRig(_image.Open());
        rig.Queue.Start();
        Truncate(SmallBytes);
        rig.Device.Refresh();
        Assert.Equal(SmallBytes / 512, CapacityOf(rig.Device));
        foreach (BlkRequestType type in new[] { BlkRequestType.VIRTIO_BLK_T_IN, BlkRequestType.VIRTIO_BLK_T_OUT })
        {
            Assert.Equal(IoErr, rig.Queue.Do(type, SmallBytes / 512, 512).Status);
            Assert.Equal(Ok, rig.Queue.Do(type, (SmallBytes / 512) - 1, 512).Status);
        }

        Assert.Equal(SmallBytes, new FileInfo(_image.Path).Length);
        rig.Queue.Stop();
    }

    [Fact]
    public void A_read_beyond_the_end_of_a_file_that_was_cut_fails_before_anybody_says_so()
    {
        Truncate(LargeBytes);
        using var rig = new DeviceRig(_image.Open());
        rig.Queue.Start();
        Truncate(SmallBytes);
        Assert.Equal(IoErr, rig.Queue.Do(BlkRequestType.VIRTIO_BLK_T_IN, SmallBytes / 512, 512).Status);
        Assert.Equal(IoErr, rig.Queue.Do(BlkRequestType.VIRTIO_BLK_T_IN, (SmallBytes / 512) - 1, 1024).Status);
        rig.Queue.Stop();
    }

    [Fact]
    public void A_size_that_is_no_multiple_of_the_block_is_rounded_down()
    {
        using var rig = new DeviceRig(_image.Open());
        Truncate(LargeBytes + 511);
        Assert.Equal(new DiskResize(SmallBytes, LargeBytes, 511), rig.Device.Refresh());
    }

    [Fact]
    public void The_same_size_is_no_news()
    {
        using var rig = new DeviceRig(_image.Open());
        Assert.Equal(new DiskResize(SmallBytes, SmallBytes, 0), rig.Device.Refresh());
        Assert.Equal(0, rig.ConfigChanges);
    }

    [Fact]
    public void A_disk_that_notices_another_size_by_itself_is_looked_at_whatever_stands_before_it()
    {
        var below = new AnsweringDisk();
        IDisk disk = PresentedDisk.Open(new ReadOnlyDisk(RangeDisk.Open(below, new RangeDiskOptions(8))), new BlockSizes(512, 4096));
        using (var rig = new DeviceRig(disk))
        {
            below.NoticeSize();
            Assert.Equal(0, rig.ConfigChanges);
            below.NewCapacityBytes = 8 << 20;
            below.NoticeSize();
            Assert.Equal((8 << 20) / 512 - 8, CapacityOf(rig.Device));
            Assert.Equal(1, rig.ConfigChanges);
        }

        // The device is gone, and does not mind.
        below.NewCapacityBytes = 4 << 20;
        below.NoticeSize();
        Assert.Equal(8UL << 20, below.Properties.CapacityBytes);
    }

    [Fact]
    public void A_disk_of_no_size_left_refuses_everything_and_comes_back()
    {
        using var rig = new DeviceRig(_image.Open());
        rig.Queue.Start();
        Truncate(0);
        rig.Device.Refresh();
        Assert.Equal(IoErr, rig.Queue.Do(BlkRequestType.VIRTIO_BLK_T_IN, 0, 512).Status);
        Truncate(SmallBytes);
        rig.Device.Refresh();
        Assert.Equal(Ok, rig.Queue.Do(BlkRequestType.VIRTIO_BLK_T_IN, 0, 512).Status);
        rig.Queue.Stop();
    }

    [Fact]
    public void A_capacity_is_the_old_or_the_new_one_whoever_reads_it_and_traffic_goes_on()
    {
        // All eight bytes differ between the two sizes, so that a torn one would show.
        const long one = 0x0102_0304 * 512L;
        const long other = 0x7ffe_fdfc * 512L;
        Truncate(one);
        using var rig = new DeviceRig(_image.Open());
        rig.Queue.Start();
        using var ended = new CancellationTokenSource();
        Task resizing = Task.Run(() =>
        {
            for (int i = 0; !ended.IsCancellationRequested; i++)
            {
                Truncate(i % 2 == 0 ? other : one);
                rig.Device.Refresh();
            }
        });
        for (int i = 0; i < 3000; i++)
        {
            Assert.Contains(CapacityOf(rig.Device), new[] { one / 512, other / 512 });
            Assert.Equal(Ok, rig.Queue.Do(BlkRequestType.VIRTIO_BLK_T_IN, (ulong)i, 512).Status);
            // May be inside or outside, and may be cut off in the middle: an answer is all that counts.
            Assert.Contains(rig.Queue.Do(BlkRequestType.VIRTIO_BLK_T_IN, (one / 512) + (ulong)i, 4096).Status, new[] { Ok, IoErr });
        }

        ended.Cancel();
        Eventually.Ends(resizing, "resizing ends");
        Assert.True(rig.ConfigChanges > 1);
        rig.Queue.Stop();
    }

    private static long CapacityOf(BlkDevice device)
    {
        byte[] capacity = new byte[8];
        device.ReadConfig(0, capacity);
        return BinaryPrimitives.ReadInt64LittleEndian(capacity);
    }

    private void Truncate(long bytes) => Assert.Equal(0, Syscall.truncate(_image.Path, bytes));
}
