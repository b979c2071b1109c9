using VirtioBlkFlow.Daemon.Specs;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.Disks.Presented;
using VirtioBlkFlow.Disks.Wrapping;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Daemon.Specs;

public sealed class SlotTextTests
{
    [Theory]
    [InlineData("0")]
    [InlineData("31")]
    [InlineData("3:7")]
    [InlineData("255:31:7")]
    public void The_slot_is_the_disks_name(string slot)
    {
        DiskSpec disk = Read($"{slot},virtio-blk,/images/a,,b.img");
        Assert.Equal((slot, DiskKinds.File, "/images/a,b.img"), (disk.Id, disk.Kind, disk.What));
    }

    [Fact]
    public void Options_are_those_of_device_models_and_our_own_keys()
    {
        DiskSpec disk = Read("3,virtio-blk,a.img,writeback,ro,sectorsize=4096,direct,num-queues=2");
        Assert.Equal(CacheMode.Writeback, disk.Device.Cache);
        Assert.Equal(CacheMode.Writethrough, Read("3,virtio-blk,a.img,writethru").Device.Cache);
        Assert.Equal((true, true, 2), (disk.ReadOnly, disk.Direct, disk.Device.QueueCount));
        Assert.Equal(new BlockSizes(4096, 4096), disk.BlockSizes);
        Assert.Equal(new BlockSizes(512, 4096), Read("3,virtio-blk,a.img,sectorsize=512/4096").BlockSizes);
        Assert.Equal(new RangeDiskOptions(2048, 100), Read("3,virtio-blk,a.img,range=2048/100").Range);
    }

    [Theory]
    [InlineData("3", "SLOT,virtio-blk,FILE")]
    [InlineData("3,virtio-blk", "SLOT,virtio-blk,FILE")]
    [InlineData("3,virtio-blk,", "SLOT,virtio-blk,FILE")]
    [InlineData("3,virtio-net,a.img", "'virtio-net'", "only virtio-blk")]
    [InlineData("32,virtio-blk,a.img", "'32'", "BUS:DEVICE:FUNCTION")]
    [InlineData("3:8,virtio-blk,a.img", "'3:8'")]
    [InlineData("256:0:0,virtio-blk,a.img", "'256:0:0'")]
    [InlineData("0:0:0:0,virtio-blk,a.img", "'0:0:0:0'")]
    [InlineData("-1,virtio-blk,a.img", "'-1'")]
    [InlineData("3,virtio-blk,a.img,writethru,writeback", "twice")]
    [InlineData("3,virtio-blk,a.img,writeback=on", "'writeback'", "cache")]
    [InlineData("3,virtio-blk,a.img,nocache", "'nocache'", "direct")]
    [InlineData("3,virtio-blk,a.img,sectorsize=", "powers of two")]
    public void What_is_wrong_is_named_with_what_is_allowed(string text, params string[] words)
    {
        string refusal = Assert.Throws<SpecException>(() => Read(text)).Message;
        Assert.StartsWith($"-s '{text}': ", refusal, StringComparison.Ordinal);
        Assert.All(words, word => Assert.Contains(word, refusal, StringComparison.Ordinal));
    }

    private static DiskSpec Read(string text) => SlotText.Read(new SpecReader(new DiskSpec()), text);
}
