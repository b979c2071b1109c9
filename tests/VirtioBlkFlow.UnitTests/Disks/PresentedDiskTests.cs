using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.File;
using VirtioBlkFlow.Disks.Null;
using VirtioBlkFlow.Disks.Presented;
using VirtioBlkFlow.UnitTests.Device;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Disks;

public sealed class PresentedDiskTests
{
    [Theory]
    [InlineData(512, 512)]
    [InlineData(512, 4096)]
    [InlineData(4096, 4096)]
    [InlineData(1024, 65536)]
    public void Shows_the_blocks_it_was_told_to(uint logical, uint physical)
    {
        using PresentedDisk disk = PresentedDisk.Open(NullDisk.Open(new NullDiskOptions(1 << 20)), new BlockSizes(logical, physical));
        Assert.Equal((logical, physical), (disk.Properties.LogicalBlockBytes, disk.Properties.PhysicalBlockBytes));
        Assert.True(disk.Properties.CanDiscard);
    }

    [Theory]
    [InlineData(4096, 4096, "not a multiple", 4096 + 512)]
    [InlineData(4096, 512, "smaller than a logical one", 8192)]
    public void Refuses_blocks_that_do_not_fit(uint logical, uint physical, string word, ulong sizeBytes) => Assert.Contains(
        word,
        Assert.Throws<DiskOpenException>(() => PresentedDisk.Open(NullDisk.Open(new NullDiskOptions(sizeBytes)), new BlockSizes(logical, physical))).Message,
        StringComparison.Ordinal);

    [Fact]
    public void Refuses_blocks_that_are_smaller_than_those_underneath()
    {
        PresentedDisk large = PresentedDisk.Open(NullDisk.Open(new NullDiskOptions(8192)), new BlockSizes(4096, 4096));
        Assert.Contains(
            "4096 or more", Assert.Throws<DiskOpenException>(() => PresentedDisk.Open(large, new BlockSizes(512, 4096))).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(512, true)]
    [InlineData(65536, true)]
    [InlineData(256, false)]
    [InlineData(131072, false)]
    [InlineData(1000, false)]
    public void A_block_is_a_power_of_two_that_a_sector_fits_into(ulong bytes, bool isBlock) => Assert.Equal(isBlock, BlockSizes.IsBlockSize(bytes));

    [Fact]
    public void Another_size_is_rounded_down_to_the_larger_blocks()
    {
        using TemporaryImage image = new(4096 * 3);
        using PresentedDisk disk = PresentedDisk.Open(FileDisk.Open(new FileDiskOptions(image.Path)), new BlockSizes(4096, 4096));
        using (FileStream file = System.IO.File.OpenWrite(image.Path))
        {
            file.SetLength((4096 * 5) + 1024 + 100);
        }

        Assert.Equal(new DiskResize(4096 * 3, 4096 * 5, 1124), disk.Refresh());
        Assert.Equal(4096ul * 5, disk.Properties.CapacityBytes);
    }
}
