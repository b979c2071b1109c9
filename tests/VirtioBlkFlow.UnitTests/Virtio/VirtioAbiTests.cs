using System.Runtime.CompilerServices;
using VirtioBlkFlow.UnitTests.Abi;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;
using VirtioBlkFlow.Virtio.Ring;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Virtio;

/// <summary>Layouts and numbers against the kernel's own headers, by way of the C compiler.</summary>
public sealed class VirtioAbiTests
{
    private static readonly string[] s_headers = ["linux/virtio_config.h", "linux/virtio_ring.h", "linux/virtio_blk.h", "sys/uio.h"];

    [Fact]
    public void Descriptors_are_as_in_virtio_ring_h() => AssertLayout<Descriptor>(
        "struct vring_desc",
        At("addr", (ref Descriptor value) => ref value.Address),
        At("len", (ref Descriptor value) => ref value.LengthBytes),
        At("flags", (ref Descriptor value) => ref value.Flags),
        At("next", (ref Descriptor value) => ref value.Next));

    [Fact]
    public void The_configuration_space_is_as_in_virtio_blk_h() => AssertLayout<BlkConfig>(
        "struct virtio_blk_config",
        At("capacity", (ref BlkConfig value) => ref value.Capacity),
        At("size_max", (ref BlkConfig value) => ref value.SizeMax),
        At("seg_max", (ref BlkConfig value) => ref value.SegMax),
        At("geometry.cylinders", (ref BlkConfig value) => ref value.Cylinders),
        At("geometry.heads", (ref BlkConfig value) => ref value.Heads),
        At("geometry.sectors", (ref BlkConfig value) => ref value.SectorsPerTrack),
        At("blk_size", (ref BlkConfig value) => ref value.BlkSize),
        At("physical_block_exp", (ref BlkConfig value) => ref value.PhysicalBlockExp),
        At("alignment_offset", (ref BlkConfig value) => ref value.AlignmentOffset),
        At("min_io_size", (ref BlkConfig value) => ref value.MinIoSize),
        At("opt_io_size", (ref BlkConfig value) => ref value.OptIoSize),
        At("wce", (ref BlkConfig value) => ref value.Writeback),
        At("num_queues", (ref BlkConfig value) => ref value.NumQueues),
        At("max_discard_sectors", (ref BlkConfig value) => ref value.MaxDiscardSectors),
        At("max_discard_seg", (ref BlkConfig value) => ref value.MaxDiscardSeg),
        At("discard_sector_alignment", (ref BlkConfig value) => ref value.DiscardSectorAlignment),
        At("max_write_zeroes_sectors", (ref BlkConfig value) => ref value.MaxWriteZeroesSectors),
        At("max_write_zeroes_seg", (ref BlkConfig value) => ref value.MaxWriteZeroesSeg),
        At("write_zeroes_may_unmap", (ref BlkConfig value) => ref value.WriteZeroesMayUnmap),
        At("max_secure_erase_sectors", (ref BlkConfig value) => ref value.MaxSecureEraseSectors),
        At("max_secure_erase_seg", (ref BlkConfig value) => ref value.MaxSecureEraseSeg),
        At("secure_erase_sector_alignment", (ref BlkConfig value) => ref value.SecureEraseSectorAlignment));

    [Fact]
    public void Zones_are_as_in_virtio_blk_h()
    {
        Place[] places =
        [
            At("zoned.zone_sectors", (ref BlkConfig value) => ref value.ZoneSectors),
            At("zoned.max_open_zones", (ref BlkConfig value) => ref value.MaxOpenZones),
            At("zoned.max_active_zones", (ref BlkConfig value) => ref value.MaxActiveZones),
            At("zoned.max_append_sectors", (ref BlkConfig value) => ref value.MaxAppendSectors),
            At("zoned.write_granularity", (ref BlkConfig value) => ref value.WriteGranularity),
            At("zoned.model", (ref BlkConfig value) => ref value.ZoneModel),
        ];
        if (!HeadersKnowZones)
        {
            // What the specification says, for want of a header: VIRTIO 1.4, "Block Device", "Device configuration layout".
            Assert.Equal([72, 76, 80, 84, 88, 92], places.Select(place => place.Offset));
            Assert.Equal((64, 64), (Unsafe.SizeOf<BlkZoneReportHeader>(), Unsafe.SizeOf<BlkZoneDescriptor>()));
            return;
        }

        AssertLayout<BlkConfig>("struct virtio_blk_config", places);
        AssertLayout<BlkZoneReportHeader>("struct virtio_blk_zone_report", At("nr_zones", (ref BlkZoneReportHeader value) => ref value.ZoneCount));
        AssertLayout<BlkZoneDescriptor>(
            "struct virtio_blk_zone_descriptor",
            At("z_cap", (ref BlkZoneDescriptor value) => ref value.CapacitySectors),
            At("z_start", (ref BlkZoneDescriptor value) => ref value.StartSector),
            At("z_wp", (ref BlkZoneDescriptor value) => ref value.WritePointerSector),
            At("z_type", (ref BlkZoneDescriptor value) => ref value.Type),
            At("z_state", (ref BlkZoneDescriptor value) => ref value.State));
    }

    [Fact]
    public void The_lifetime_is_as_in_the_specification() => Assert.Equal(BlkLifetime.SizeBytes, Unsafe.SizeOf<BlkLifetime>());

    [Fact]
    public void Segments_are_as_in_virtio_blk_h() => AssertLayout<BlkSegment>(
        "struct virtio_blk_discard_write_zeroes",
        At("sector", (ref BlkSegment value) => ref value.Sector),
        At("num_sectors", (ref BlkSegment value) => ref value.SectorCount),
        At("flags", (ref BlkSegment value) => ref value.Flags));

    [Fact]
    public void Iovecs_are_as_in_uio_h() => AssertLayout<Iovec>(
        "struct iovec", At("iov_len", (ref Iovec value) => ref value.LengthBytes));

    [Theory]
    [InlineData(1)]
    [InlineData(256)]
    [InlineData(32768)]
    public void The_ring_is_laid_out_as_in_virtio_ring_h(int queueSize)
    {
        // vring_init with an alignment of 4 puts the used ring right behind the available one, rounded up.
        IReadOnlyDictionary<string, long> c = CProgram.Run(
            $$"""
            #include <stddef.h>
            #include <stdint.h>
            #include <stdio.h>
            #include <linux/virtio_ring.h>
            int main(void)
            {
                struct vring v;
                char *base = (char *)0x10000;
                vring_init(&v, {{queueSize}}, base, 4);
                printf("table=%ld\n", (long)((char *)v.avail - base));
                printf("flags=%zu\n", offsetof(vring_avail_t, flags));
                printf("idx=%zu\n", offsetof(vring_avail_t, idx));
                printf("ring=%zu\n", offsetof(vring_avail_t, ring));
                printf("used_flags=%zu\n", offsetof(vring_used_t, flags));
                printf("used_idx=%zu\n", offsetof(vring_used_t, idx));
                printf("used_ring=%zu\n", offsetof(vring_used_t, ring));
                printf("used_event=%ld\n", (long)((char *)&vring_used_event(&v) - (char *)v.avail));
                printf("avail_event=%ld\n", (long)((char *)&vring_avail_event(&v) - (char *)v.used));
                printf("element=%zu\n", sizeof(vring_used_elem_t));
                printf("size=%u\n", vring_size({{queueSize}}, 4));
                return 0;
            }
            """);
        Assert.Equal(c["table"], SplitRingLayout.DescriptorTableBytes(queueSize));
        Assert.Equal((c["flags"], c["idx"], c["ring"]), (SplitRingLayout.FlagsOffset, SplitRingLayout.IndexOffset, SplitRingLayout.RingOffset));
        Assert.Equal((c["used_flags"], c["used_idx"], c["used_ring"]), (SplitRingLayout.FlagsOffset, SplitRingLayout.IndexOffset, SplitRingLayout.RingOffset));
        Assert.Equal(c["used_event"], SplitRingLayout.UsedEventOffset(queueSize));
        Assert.Equal(c["avail_event"], SplitRingLayout.AvailableEventOffset(queueSize));
        Assert.Equal(SplitRingLayout.UsedElementBytes, c["element"]);
        int upToUsed = (SplitRingLayout.DescriptorTableBytes(queueSize) + SplitRingLayout.AvailableRingBytes(queueSize) + 3) & ~3;
        Assert.Equal(c["size"], upToUsed + SplitRingLayout.UsedRingBytes(queueSize));
    }

    [Fact]
    public void Numbers_are_as_in_the_headers()
    {
        var ours = new Dictionary<string, long>
        {
            ["VRING_DESC_F_NEXT"] = (long)DescriptorFlags.VIRTQ_DESC_F_NEXT,
            ["VRING_DESC_F_WRITE"] = (long)DescriptorFlags.VIRTQ_DESC_F_WRITE,
            ["VRING_DESC_F_INDIRECT"] = (long)DescriptorFlags.VIRTQ_DESC_F_INDIRECT,
            ["VRING_AVAIL_F_NO_INTERRUPT"] = SplitRingLayout.VIRTQ_AVAIL_F_NO_INTERRUPT,
            ["VRING_USED_F_NO_NOTIFY"] = SplitRingLayout.VIRTQ_USED_F_NO_NOTIFY,
            ["VRING_DESC_ALIGN_SIZE"] = SplitRingLayout.DescriptorTableAlignment,
            ["VRING_AVAIL_ALIGN_SIZE"] = SplitRingLayout.AvailableRingAlignment,
            ["VRING_USED_ALIGN_SIZE"] = SplitRingLayout.UsedRingAlignment,
            ["VIRTIO_BLK_T_IN"] = (long)BlkRequestType.VIRTIO_BLK_T_IN,
            ["VIRTIO_BLK_T_OUT"] = (long)BlkRequestType.VIRTIO_BLK_T_OUT,
            ["VIRTIO_BLK_T_FLUSH"] = (long)BlkRequestType.VIRTIO_BLK_T_FLUSH,
            ["VIRTIO_BLK_T_GET_ID"] = (long)BlkRequestType.VIRTIO_BLK_T_GET_ID,
            ["VIRTIO_BLK_T_DISCARD"] = (long)BlkRequestType.VIRTIO_BLK_T_DISCARD,
            ["VIRTIO_BLK_T_WRITE_ZEROES"] = (long)BlkRequestType.VIRTIO_BLK_T_WRITE_ZEROES,
            ["VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP"] = BlkSegment.UnmapFlag,
            ["VIRTIO_BLK_S_OK"] = (long)BlkStatus.VIRTIO_BLK_S_OK,
            ["VIRTIO_BLK_S_IOERR"] = (long)BlkStatus.VIRTIO_BLK_S_IOERR,
            ["VIRTIO_BLK_S_UNSUPP"] = (long)BlkStatus.VIRTIO_BLK_S_UNSUPP,
            ["sizeof(struct virtio_blk_outhdr)"] = BlkRequest.HeaderBytes,
            ["offsetof(struct virtio_blk_config, wce)"] = BlkConfig.WritebackOffset,
        };
        AddFeatures<BlkFeatures>(ours);
        AddFeatures<VirtioFeatures>(ours);
        Dictionary<string, long> newer = new()
        {
            ["VIRTIO_BLK_T_GET_LIFETIME"] = (long)BlkRequestType.VIRTIO_BLK_T_GET_LIFETIME,
            ["VIRTIO_BLK_T_SECURE_ERASE"] = (long)BlkRequestType.VIRTIO_BLK_T_SECURE_ERASE,
            ["VIRTIO_BLK_T_ZONE_APPEND"] = (long)BlkRequestType.VIRTIO_BLK_T_ZONE_APPEND,
            ["VIRTIO_BLK_T_ZONE_REPORT"] = (long)BlkRequestType.VIRTIO_BLK_T_ZONE_REPORT,
            ["VIRTIO_BLK_T_ZONE_OPEN"] = (long)BlkRequestType.VIRTIO_BLK_T_ZONE_OPEN,
            ["VIRTIO_BLK_T_ZONE_CLOSE"] = (long)BlkRequestType.VIRTIO_BLK_T_ZONE_CLOSE,
            ["VIRTIO_BLK_T_ZONE_FINISH"] = (long)BlkRequestType.VIRTIO_BLK_T_ZONE_FINISH,
            ["VIRTIO_BLK_T_ZONE_RESET"] = (long)BlkRequestType.VIRTIO_BLK_T_ZONE_RESET,
            ["VIRTIO_BLK_T_ZONE_RESET_ALL"] = (long)BlkRequestType.VIRTIO_BLK_T_ZONE_RESET_ALL,
            ["VIRTIO_BLK_S_ZONE_INVALID_CMD"] = (long)BlkStatus.VIRTIO_BLK_S_ZONE_INVALID_CMD,
            ["VIRTIO_BLK_S_ZONE_UNALIGNED_WP"] = (long)BlkStatus.VIRTIO_BLK_S_ZONE_UNALIGNED_WP,
            ["VIRTIO_BLK_S_ZONE_OPEN_RESOURCE"] = (long)BlkStatus.VIRTIO_BLK_S_ZONE_OPEN_RESOURCE,
            ["VIRTIO_BLK_S_ZONE_ACTIVE_RESOURCE"] = (long)BlkStatus.VIRTIO_BLK_S_ZONE_ACTIVE_RESOURCE,
        };
        foreach (string name in new[] { "VIRTIO_BLK_F_LIFETIME", "VIRTIO_BLK_F_SECURE_ERASE", "VIRTIO_BLK_F_ZONED", "VIRTIO_F_IN_ORDER" })
        {
            Assert.True(ours.Remove(name, out long value));
            newer[name] = value;
        }

        AddValues<BlkZoneModel>(newer);
        AddValues<BlkZoneType>(newer);
        AddValues<BlkZoneState>(newer);
        IReadOnlyDictionary<string, long> c = CProgram.Evaluate(s_headers, ours.Keys, newer.Keys);
        foreach ((string name, long value) in ours.Concat(newer.Where(pair => c.ContainsKey(pair.Key))))
        {
            Assert.True(c[name] == value, $"{name} is {c[name]} in C and {value} here.");
        }
    }

    // Headers before Linux 6.3 know nothing of zones.
    private static bool HeadersKnowZones =>
        CProgram.Evaluate(s_headers, ["VIRTIO_BLK_F_SIZE_MAX"], ["VIRTIO_BLK_F_ZONED"]).ContainsKey("VIRTIO_BLK_F_ZONED");

    private static void AddValues<T>(Dictionary<string, long> ours)
        where T : struct, Enum
    {
        foreach (T value in Enum.GetValues<T>())
        {
            ours[value.ToString()] = Convert.ToInt64(value, System.Globalization.CultureInfo.InvariantCulture);
        }
    }

    // The headers have bit numbers, we have masks.
    private static void AddFeatures<T>(Dictionary<string, long> ours)
        where T : struct, Enum
    {
        foreach (T feature in Enum.GetValues<T>())
        {
            ulong mask = Convert.ToUInt64(feature, System.Globalization.CultureInfo.InvariantCulture);
            if (mask != 0)
            {
                ours[feature.ToString()] = long.Log2((long)mask);
            }
        }
    }

    private delegate ref TField FieldOf<T, TField>(ref T value);

    // Where a field really is, whatever an attribute says.
    private static Place At<T, TField>(string cName, FieldOf<T, TField> field)
        where T : unmanaged
        where TField : unmanaged
    {
        T value = default;
        nint offset = Unsafe.ByteOffset(ref Unsafe.As<T, byte>(ref value), ref Unsafe.As<TField, byte>(ref field(ref value)));
        return new Place(cName, offset, Unsafe.SizeOf<TField>());
    }

    private static void AssertLayout<T>(string cType, params Place[] places)
        where T : unmanaged
    {
        IReadOnlyDictionary<string, long> c = CProgram.Evaluate(
            s_headers, [$"sizeof({cType})", .. places.Select(place => Offset(place)), .. places.Select(place => Size(place))], ["VIRTIO_BLK_F_ZONED"]);
        // Headers before Linux 6.3 know nothing of zoned devices, whose 24 bytes end the structure.
        bool endsEarly = typeof(T) == typeof(BlkConfig) && !c.ContainsKey("VIRTIO_BLK_F_ZONED");
        Assert.Equal(c[$"sizeof({cType})"] + (endsEarly ? 24 : 0), Unsafe.SizeOf<T>());
        Assert.All(places, place => Assert.Equal((place.CName, c[Offset(place)], c[Size(place)]), (place.CName, place.Offset, place.Bytes)));

        string Offset(Place place) => $"offsetof({cType}, {place.CName})";

        string Size(Place place) => $"sizeof((({cType} *)0)->{place.CName})";
    }

    private readonly record struct Place(string CName, long Offset, long Bytes);
}
