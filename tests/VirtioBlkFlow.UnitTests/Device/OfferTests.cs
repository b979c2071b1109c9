using System.Buffers.Binary;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.VhostUser;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Device;

/// <summary>Features and configuration space.</summary>
public sealed class OfferTests
{
    private const ulong Version1 = (ulong)VirtioFeatures.VIRTIO_F_VERSION_1;

    [Fact]
    public void Any_subset_with_VERSION_1_is_taken_and_nothing_else()
    {
        using var rig = new DeviceRig(new HeldDisk());
        ulong offered = rig.Device.OfferedFeatures;
        Assert.True(rig.Device.TrySetFeatures(offered));
        Assert.True(rig.Device.TrySetFeatures(Version1));
        for (int bit = 0; bit < 64; bit++)
        {
            ulong one = 1UL << bit;
            Assert.Equal((offered & one) != 0, rig.Device.TrySetFeatures(Version1 | one));
            Assert.Equal(one != Version1, rig.Device.TrySetFeatures(offered & ~one));
        }

        Assert.False(rig.Device.TrySetFeatures(0));
    }

    [Theory]
    [InlineData(false, true, true)]
    [InlineData(true, false, false)]
    [InlineData(true, true, true)]
    [InlineData(false, false, true)]
    [InlineData(false, true, false)]
    public void A_disk_decides_what_is_offered(bool readOnly, bool canDiscard, bool canWriteZeroes)
    {
        using var rig = new DeviceRig(new HeldDisk
        {
            Properties = new DiskProperties { CapacityBytes = 1 << 20, ReadOnly = readOnly, CanDiscard = canDiscard, CanWriteZeroes = canWriteZeroes },
        });
        var offered = (BlkFeatures)rig.Device.OfferedFeatures;
        Assert.Equal(readOnly, (offered & BlkFeatures.VIRTIO_BLK_F_RO) != 0);
        Assert.Equal(canDiscard && !readOnly, (offered & BlkFeatures.VIRTIO_BLK_F_DISCARD) != 0);
        Assert.Equal(canWriteZeroes && !readOnly, (offered & BlkFeatures.VIRTIO_BLK_F_WRITE_ZEROES) != 0);
        // A size_max of 0 would be taken as a limit; a legacy bit would change the meaning of requests.
        Assert.Equal(BlkFeatures.None, offered & (BlkFeatures)0b1000_1011);
        // CONFIG_WCE needs FLUSH.
        Assert.Equal(BlkFeatures.VIRTIO_BLK_F_FLUSH | BlkFeatures.VIRTIO_BLK_F_CONFIG_WCE, offered & (BlkFeatures)0xa00);
    }

    [Fact]
    public void The_configuration_space_has_its_fields_where_the_specification_puts_them()
    {
        using var rig = new DeviceRig(
            new HeldDisk
            {
                Properties = new DiskProperties
                {
                    CapacityBytes = 3UL << 40,
                    LogicalBlockBytes = 512,
                    PhysicalBlockBytes = 4096,
                    CanDiscard = true,
                    CanWriteZeroes = true,
                },
            },
            new BlkDeviceOptions { Cache = CacheMode.Writeback },
            queueCount: 3);
        byte[] space = Read(rig, 0, 256);
        Assert.Equal((3UL << 40) / 512, BinaryPrimitives.ReadUInt64LittleEndian(space));
        Assert.Equal(0u, U32(space, 8));
        Assert.Equal(126u, U32(space, 12));
        Assert.Equal((16383, 16, 63), (BinaryPrimitives.ReadUInt16LittleEndian(space.AsSpan(16)), space[18], space[19]));
        Assert.Equal(512u, U32(space, 20));
        Assert.Equal([3, 0, 8, 0], space[24..28]);
        Assert.Equal(1, space[32]);
        Assert.Equal([0, 3, 0], space[33..36]);
        Assert.InRange(U32(space, 36), 8u, uint.MaxValue);
        Assert.Equal(BlkDeviceOptions.DefaultSegments.MaxSegments, U32(space, 40));
        Assert.Equal(8u, U32(space, 44));
        Assert.InRange(U32(space, 48), 8u, uint.MaxValue);
        Assert.Equal(BlkDeviceOptions.DefaultSegments.MaxSegments, U32(space, 52));
        Assert.Equal([1, 0, 0, 0], space[56..60]);
        Assert.All(space[60..], one => Assert.Equal(0, one));
    }

    [Fact]
    public void Any_part_of_the_configuration_space_reads_as_the_whole_does()
    {
        using var rig = new DeviceRig(new HeldDisk());
        byte[] space = Read(rig, 0, 256);
        for (uint offset = 0; offset <= 256; offset++)
        {
            foreach (int length in new[] { 1, 2, 7, 8, 60, 256 })
            {
                int size = Math.Min(length, 256 - (int)offset);
                Assert.Equal(space[(int)offset..((int)offset + size)], Read(rig, offset, size));
            }
        }
    }

    [Fact]
    public void A_disk_that_cannot_discard_has_no_limits_for_it()
    {
        using var rig = new DeviceRig(new HeldDisk());
        Assert.All(Read(rig, 36, 21), one => Assert.Equal(0, one));
    }

    [Theory]
    [InlineData(0u, 8u)]
    [InlineData(65536u, 128u)]
    public void Discards_are_aligned_to_what_they_can_give_back_or_to_the_physical_block(uint granularityBytes, uint sectors)
    {
        DiskProperties properties = new() { CapacityBytes = 4 << 20, PhysicalBlockBytes = 4096, CanDiscard = true, DiscardGranularityBytes = granularityBytes };
        using var rig = new DeviceRig(new HeldDisk { Properties = properties });
        // discard_sector_alignment.
        Assert.Equal(sectors, U32(Read(rig, 0, 60), 44));
    }

    [Fact]
    public void Only_the_writeback_field_can_be_written()
    {
        using var rig = new DeviceRig(new HeldDisk());
        for (uint offset = 0; offset < 256; offset++)
        {
            ConfigWriteOutcome expected = offset == BlkConfig.WritebackOffset ? ConfigWriteOutcome.Written : ConfigWriteOutcome.NotWritable;
            Assert.Equal(expected, rig.Device.WriteConfig(offset, [1], 0));
        }

        Assert.Equal(ConfigWriteOutcome.NotWritable, rig.Device.WriteConfig(BlkConfig.WritebackOffset, [0, 0], 0));
        Assert.Equal(ConfigWriteOutcome.InvalidValue, rig.Device.WriteConfig(BlkConfig.WritebackOffset, [2], 0));
        Assert.Equal(1, Read(rig, BlkConfig.WritebackOffset, 1)[0]);
        Assert.Equal(ConfigWriteOutcome.Written, rig.Device.WriteConfig(BlkConfig.WritebackOffset, [0], 2));
        Assert.Equal(0, Read(rig, BlkConfig.WritebackOffset, 1)[0]);
    }

    [Theory]
    [InlineData(0, 8)]
    [InlineData(257, 8)]
    [InlineData(1, 0)]
    [InlineData(1, 1025)]
    public void Refuses_counts_it_cannot_have(int queueCount, int parallelism)
    {
        using var disk = new HeldDisk();
        Assert.Throws<ArgumentOutOfRangeException>(() => new BlkDevice(
            disk, new BlkDeviceOptions { QueueCount = queueCount, Parallelism = parallelism }, Microsoft.Extensions.Logging.Abstractions.NullLogger.Instance));
    }

    private static byte[] Read(DeviceRig rig, uint offset, int lengthBytes)
    {
        byte[] bytes = new byte[lengthBytes];
        bytes.AsSpan().Fill(0xee);
        rig.Device.ReadConfig(offset, bytes);
        return bytes;
    }

    private static uint U32(byte[] space, int offset) => BinaryPrimitives.ReadUInt32LittleEndian(space.AsSpan(offset));
}
