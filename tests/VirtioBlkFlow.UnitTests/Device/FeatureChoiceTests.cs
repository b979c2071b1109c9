using System.Buffers.Binary;
using Microsoft.Extensions.Logging.Abstractions;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Device;

/// <summary>Features and limits that the operator chooses.</summary>
public sealed class FeatureChoiceTests
{
    private static readonly DiskProperties s_disk = new() { CapacityBytes = 64 << 20, CanDiscard = true, CanWriteZeroes = true };

    [Fact]
    public void Every_feature_but_VERSION_1_can_be_hidden_alone()
    {
        ulong offered = Offer(s_disk, new BlkDeviceOptions { SizeMax = 65536 });
        foreach (string name in FeatureChoices.Names)
        {
            Assert.True(FeatureChoices.TryGetBit(name, out ulong bit));
            if (bit == (ulong)VirtioFeatures.VIRTIO_F_VERSION_1)
            {
                continue;
            }

            ulong without = Offer(s_disk, new BlkDeviceOptions { SizeMax = 65536, Features = default(FeatureChoices).With(bit, on: false) });
            ulong expected = offered & ~bit;
            if (name == "flush")
            {
                expected &= ~(ulong)BlkFeatures.VIRTIO_BLK_F_CONFIG_WCE;
            }

            Assert.Equal((name, expected), (name, without));
        }
    }

    [Theory]
    [InlineData("discard", (ulong)BlkFeatures.VIRTIO_BLK_F_DISCARD)]
    [InlineData("write-zeroes", (ulong)BlkFeatures.VIRTIO_BLK_F_WRITE_ZEROES)]
    [InlineData("config-wce", (ulong)BlkFeatures.VIRTIO_BLK_F_CONFIG_WCE)]
    [InlineData("event-idx", (ulong)VirtioFeatures.VIRTIO_RING_F_EVENT_IDX)]
    [InlineData("indirect-desc", (ulong)VirtioFeatures.VIRTIO_RING_F_INDIRECT_DESC)]
    [InlineData("packed", (ulong)VirtioFeatures.VIRTIO_F_RING_PACKED)]
    [InlineData("in-order", (ulong)VirtioFeatures.VIRTIO_F_IN_ORDER)]
    [InlineData("version-1", (ulong)VirtioFeatures.VIRTIO_F_VERSION_1)]
    public void Names_are_the_specifications_without_prefix(string name, ulong bit)
    {
        Assert.True(FeatureChoices.TryGetBit(name, out ulong found));
        Assert.Equal(bit, found);
        Assert.Equal(name, FeatureChoices.NameOf(bit));
    }

    [Theory]
    [InlineData("ro", "--read-only")]
    [InlineData("size-max", "--size-max")]
    [InlineData("zoned", "--zoned")]
    [InlineData("lifetime", "eMMC")]
    [InlineData("secure-erase", "block devices")]
    public void What_cannot_be_offered_is_refused_with_the_remedy(string name, string remedy)
    {
        string message = Refusal(s_disk, name, on: true);
        Assert.Contains(name, message, StringComparison.Ordinal);
        Assert.Contains(remedy, message, StringComparison.Ordinal);
    }

    [Fact]
    public void What_a_driver_must_know_cannot_be_hidden()
    {
        Assert.Contains("version-1", Refusal(s_disk, "version-1", on: false), StringComparison.Ordinal);
        Assert.Contains("--read-only", Refusal(s_disk with { ReadOnly = true }, "ro", on: false), StringComparison.Ordinal);
        Assert.Contains("4096", Refusal(s_disk with { LogicalBlockBytes = 4096 }, "blk-size", on: false), StringComparison.Ordinal);
        Assert.Contains("--read-only", Refusal(s_disk with { ReadOnly = true }, "discard", on: true), StringComparison.Ordinal);
    }

    [Fact]
    public void A_cache_that_could_not_be_flushed_is_refused()
    {
        FeatureChoices both = default(FeatureChoices).With((ulong)BlkFeatures.VIRTIO_BLK_F_FLUSH, false).With((ulong)BlkFeatures.VIRTIO_BLK_F_CONFIG_WCE, true);
        Assert.Throws<OfferException>(() => Offer(s_disk, new BlkDeviceOptions { Features = both }));
    }

    [Fact]
    public void A_hidden_request_type_is_unsupported_and_does_nothing()
    {
        using var image = new TemporaryImage();
        image.Write(0, [1]);
        ulong hidden = (ulong)(BlkFeatures.VIRTIO_BLK_F_DISCARD | BlkFeatures.VIRTIO_BLK_F_WRITE_ZEROES);
        using var rig = new DeviceRig(image.Open(), new BlkDeviceOptions { Features = new FeatureChoices(0, hidden) });
        rig.Queue.Start();
        foreach (BlkRequestType type in new[] { BlkRequestType.VIRTIO_BLK_T_DISCARD, BlkRequestType.VIRTIO_BLK_T_WRITE_ZEROES })
        {
            RequestArea area = rig.Queue.TakeArea();
            area.WriteSegments(new BlkSegment { SectorCount = 8 });
            rig.Queue.AddChain(area, area.Chain(type, 0, BlkSegment.SizeBytes));
            rig.Queue.Publish();
            Assert.Equal((byte)BlkStatus.VIRTIO_BLK_S_UNSUPP, rig.Queue.Take().Status);
        }

        Assert.Equal(1, image.Read(0, 1)[0]);
        rig.Queue.Stop();
    }

    [Fact]
    public void Without_MQ_there_is_one_queue()
    {
        var options = new BlkDeviceOptions { QueueCount = 4, Features = new FeatureChoices(0, (ulong)BlkFeatures.VIRTIO_BLK_F_MQ) };
        using var device = new BlkDevice(new HeldDisk(), options, NullLogger.Instance);
        Assert.Equal(1, device.QueueCount);
    }

    [Fact]
    public void Limits_that_were_chosen_are_in_the_configuration_space()
    {
        var options = new BlkDeviceOptions
        {
            SegMax = 30,
            SizeMax = 1 << 20,
            Discard = new SegmentLimits(4096, 256),
            WriteZeroes = new SegmentLimits(8192, 1),
        };
        using var device = new BlkDevice(new HeldDisk { Properties = s_disk }, options, NullLogger.Instance);
        byte[] space = new byte[60];
        device.ReadConfig(0, space);
        Assert.Equal((1u << 20, 30u), (U32(8), U32(12)));
        Assert.Equal((4096u, 256u), (U32(36), U32(40)));
        Assert.Equal((8192u, 1u), (U32(48), U32(52)));
        Assert.NotEqual(0ul, device.OfferedFeatures & (ulong)BlkFeatures.VIRTIO_BLK_F_SIZE_MAX);

        uint U32(int offset) => BinaryPrimitives.ReadUInt32LittleEndian(space.AsSpan(offset));
    }

    [Theory]
    [InlineData(1 << 20, 2, 16)]
    [InlineData(1UL << 40, 16383, 16)]
    [InlineData(512, 1, 16)]
    public void The_geometry_comes_from_the_capacity(ulong capacityBytes, int cylinders, int heads)
    {
        using var device = new BlkDevice(new HeldDisk { Properties = new DiskProperties { CapacityBytes = capacityBytes } }, new BlkDeviceOptions(), NullLogger.Instance);
        byte[] space = new byte[20];
        device.ReadConfig(0, space);
        Assert.Equal((cylinders, heads, 63), (BinaryPrimitives.ReadUInt16LittleEndian(space.AsSpan(16)), space[18], space[19]));
    }

    [Fact]
    public void Limits_that_do_not_fit_the_blocks_are_refused()
    {
        var options = new BlkDeviceOptions { Discard = new SegmentLimits(9, 1) };
        Assert.Throws<OfferException>(() => Offer(s_disk with { LogicalBlockBytes = 4096 }, options));
        Assert.Throws<ArgumentOutOfRangeException>(() => Offer(s_disk, new BlkDeviceOptions { Discard = new SegmentLimits(8, 257) }));
        Assert.Throws<ArgumentOutOfRangeException>(() => Offer(s_disk, new BlkDeviceOptions { SegMax = 0 }));
        Assert.Throws<ArgumentOutOfRangeException>(() => Offer(s_disk, new BlkDeviceOptions { SizeMax = 4095 }));
    }

    [Fact]
    public void No_choice_offers_a_feature_without_what_it_needs_or_one_that_is_not_for_us()
    {
        ulong known = FeatureChoices.Names.Aggregate(0ul, (bits, name) => FeatureChoices.TryGetBit(name, out ulong bit) ? bits | bit : bits);
        for (ulong off = 0; off < 1 << 18; off += 7)
        {
            foreach (bool readOnly in new[] { false, true })
            {
                ulong hidden = readOnly ? off & ~(ulong)BlkFeatures.VIRTIO_BLK_F_RO : off;
                ulong offered = Offer(s_disk with { ReadOnly = readOnly }, new BlkDeviceOptions { Features = new FeatureChoices(0, hidden) });
                Assert.Equal(0ul, offered & (hidden | ~known));
                Assert.True(
                    (offered & (ulong)BlkFeatures.VIRTIO_BLK_F_CONFIG_WCE) == 0 || (offered & (ulong)BlkFeatures.VIRTIO_BLK_F_FLUSH) != 0);
            }
        }
    }

    private static ulong Offer(DiskProperties disk, BlkDeviceOptions options)
    {
        using var device = new BlkDevice(new HeldDisk { Properties = disk }, options, NullLogger.Instance);
        return device.OfferedFeatures;
    }

    private static string Refusal(DiskProperties disk, string name, bool on)
    {
        Assert.True(FeatureChoices.TryGetBit(name, out ulong bit));
        return Assert.Throws<OfferException>(() => Offer(disk, new BlkDeviceOptions { Features = default(FeatureChoices).With(bit, on) })).Message;
    }
}
