using System.Buffers.Binary;
using VirtioBlkFlow.ConformanceTests.Machinery;
using VirtioBlkFlow.ConformanceTests.Rig;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.Virtio.Blk;
using static VirtioBlkFlow.Virtio.Blk.BlkStatus;
using static VirtioBlkFlow.Virtio.Blk.BlkZoneState;

namespace VirtioBlkFlow.ConformanceTests.Blk;

/// <summary>A host-managed disk: what it says of its zones, and what may be done to them.</summary>
public class ZonedTests
{
    private const ulong Zone = ZonedBench.ZoneSectors;

    [Fact, Conformance("BLK-08")]
    public void A_driver_that_does_not_accept_zones_is_refused()
    {
        using ServedDevice device = new(new ServedOptions { Zones = ZonedBench.Usual });
        NegotiationOptions negotiation = new();
        negotiation = negotiation with { BlkFeatures = negotiation.BlkFeatures & ~BlkFeatures.VIRTIO_BLK_F_ZONED };
        Assert.Throws<BackendRefusedException>(() => device.Open(new FrontendOptions { Negotiation = negotiation }));
    }

    [Fact, Conformance("BLK-09", "BLK-10", "BLK-16")]
    public void The_configuration_space_says_what_the_zones_are()
    {
        using ZonedBench zoned = new();
        byte[] config = zoned.Session.Frontend.GetConfig(0, 96)!;
        Assert.Equal((byte)BlkZoneModel.VIRTIO_BLK_Z_HM, config[92]);
        Assert.Equal(new byte[3], config[93..]);
        ulong capacity = BinaryPrimitives.ReadUInt64LittleEndian(config);
        Assert.Equal(Zone, BinaryPrimitives.ReadUInt32LittleEndian(config.AsSpan(72)));
        BlkZoneDescriptor[] zones = zoned.Report();
        // Five whole zones and a half one.
        Assert.Equal(6, zones.Length);
        Assert.All(zones.Index(), zone => Assert.Equal((ulong)zone.Index * Zone, zone.Item.StartSector));
        Assert.Equal(capacity, zones[^1].StartSector + (Zone / 2));
        Assert.Equal(Zone / 2, zones[^1].CapacitySectors);
        using ServedDevice plain = new();
        using FrontendSession session = plain.Open();
        Assert.Equal((byte)BlkZoneModel.VIRTIO_BLK_Z_NONE, session.Frontend.GetConfig(92, 1)![0]);
    }

    [Fact, Conformance("BLK-11", "BLK-42", "BLK-43")]
    public void As_many_zones_as_the_limit_says_are_open_and_not_one_more()
    {
        using ZonedBench zoned = new();
        for (ulong zone = 1; zone <= 2; zone++)
        {
            Assert.Equal(VIRTIO_BLK_S_OK, zoned.Driver.ZoneOpen(zone * Zone));
            Assert.Equal(VIRTIO_BLK_ZS_EOPEN, zoned.StateOf(zone));
        }

        Assert.Equal(2u, BinaryPrimitives.ReadUInt32LittleEndian(zoned.Session.Frontend.GetConfig(76, 4)));
        Assert.Equal(VIRTIO_BLK_S_ZONE_OPEN_RESOURCE, zoned.Driver.ZoneOpen(3 * Zone));
        Assert.Equal(VIRTIO_BLK_ZS_EMPTY, zoned.StateOf(3));
        // A full zone is not opened.
        Assert.Equal(VIRTIO_BLK_S_OK, zoned.Driver.ZoneFinish(1 * Zone));
        Assert.Equal(VIRTIO_BLK_S_ZONE_INVALID_CMD, zoned.Driver.ZoneOpen(1 * Zone));
        Assert.Equal(VIRTIO_BLK_ZS_FULL, zoned.StateOf(1));
    }

    [Fact, Conformance("BLK-12", "BLK-43", "BLK-48")]
    public void As_many_zones_as_the_limit_says_are_active_and_not_one_more()
    {
        using ZonedBench zoned = new();
        for (ulong zone = 1; zone <= 3; zone++)
        {
            Assert.Equal(VIRTIO_BLK_S_OK, zoned.Write(zone * Zone));
            Assert.Equal(VIRTIO_BLK_S_OK, zoned.Driver.ZoneClose(zone * Zone));
            Assert.Equal(VIRTIO_BLK_ZS_CLOSED, zoned.StateOf(zone));
        }

        Assert.Equal(3u, BinaryPrimitives.ReadUInt32LittleEndian(zoned.Session.Frontend.GetConfig(80, 4)));
        Assert.Equal(VIRTIO_BLK_S_ZONE_ACTIVE_RESOURCE, zoned.Driver.ZoneOpen(4 * Zone));
        Assert.Equal(VIRTIO_BLK_S_ZONE_ACTIVE_RESOURCE, zoned.Write(4 * Zone));
        Assert.Equal(VIRTIO_BLK_S_ZONE_ACTIVE_RESOURCE, zoned.Append(4 * Zone, 512, out _));
        Assert.Equal(VIRTIO_BLK_ZS_EMPTY, zoned.StateOf(4));
    }

    [Fact, Conformance("BLK-48")]
    public void A_write_that_would_open_one_zone_too_many_says_so()
    {
        using ZonedBench zoned = new();
        Assert.Equal(VIRTIO_BLK_S_OK, zoned.Driver.ZoneOpen(1 * Zone));
        Assert.Equal(VIRTIO_BLK_S_OK, zoned.Driver.ZoneOpen(2 * Zone));
        Assert.Equal(VIRTIO_BLK_S_ZONE_OPEN_RESOURCE, zoned.Write(3 * Zone));
        Assert.Equal(VIRTIO_BLK_S_ZONE_OPEN_RESOURCE, zoned.Append(3 * Zone, 512, out _));
        Assert.Equal(VIRTIO_BLK_ZS_EMPTY, zoned.StateOf(3));
    }

    [Fact, Conformance("BLK-49")]
    public void With_both_limits_reached_it_is_the_active_one()
    {
        using ZonedBench zoned = new(ZonedBench.Usual with { MaxOpen = 2, MaxActive = 2 });
        Assert.Equal(VIRTIO_BLK_S_OK, zoned.Driver.ZoneOpen(1 * Zone));
        Assert.Equal(VIRTIO_BLK_S_OK, zoned.Driver.ZoneOpen(2 * Zone));
        Assert.Equal(VIRTIO_BLK_S_ZONE_ACTIVE_RESOURCE, zoned.Driver.ZoneOpen(3 * Zone));
        Assert.Equal(VIRTIO_BLK_S_ZONE_ACTIVE_RESOURCE, zoned.Write(3 * Zone));
    }

    [Fact, Conformance("BLK-58")]
    public void A_zone_that_a_write_opened_is_closed_to_make_room()
    {
        using ZonedBench zoned = new();
        for (ulong zone = 1; zone <= 3; zone++)
        {
            Assert.Equal(VIRTIO_BLK_S_OK, zoned.Write(zone * Zone));
            Assert.Equal(VIRTIO_BLK_ZS_IOPEN, zoned.StateOf(zone));
        }

        Assert.Equal(VIRTIO_BLK_ZS_CLOSED, zoned.StateOf(1));
    }

    [Fact, Conformance("BLK-13", "BLK-52", "BLK-53")]
    public void An_append_of_the_limit_works_and_says_where_and_a_longer_one_does_not()
    {
        using ZonedBench zoned = new();
        uint limit = BinaryPrimitives.ReadUInt32LittleEndian(zoned.Session.Frontend.GetConfig(84, 4));
        Assert.Equal(8u, limit);
        Assert.Equal(VIRTIO_BLK_S_OK, zoned.Append(2 * Zone, 8 * 512, out ulong first));
        Assert.Equal(2 * Zone, first);
        Assert.Equal(VIRTIO_BLK_S_OK, zoned.Append(2 * Zone, 512, out ulong second));
        Assert.Equal((2 * Zone) + 8, second);
        Assert.Equal(VIRTIO_BLK_S_ZONE_INVALID_CMD, zoned.Append(2 * Zone, 9 * 512, out _));
        Assert.Equal((2 * Zone) + 9, zoned.Report()[2].WritePointerSector);
    }

    [Fact, Conformance("BLK-13")]
    public void The_longest_append_is_no_longer_than_a_request_can_be()
    {
        using ZonedBench zoned = new(ZonedBench.Usual with { MaxAppendBytes = 8192 }, new BlkDeviceOptions { SegMax = 2, SizeMax = 4096 });
        BlkConfig config = zoned.Session.Negotiation.Config;
        Assert.Equal((2u, 4096u), (config.SegMax, config.SizeMax));
        Assert.Equal(16u, BinaryPrimitives.ReadUInt32LittleEndian(zoned.Session.Frontend.GetConfig(84, 4)));
        Assert.Equal(VIRTIO_BLK_S_OK, zoned.Append(1 * Zone, 8192, out _));
    }

    [Fact, Conformance("BLK-14", "BLK-53")]
    public void With_a_limit_of_0_no_append_is_supported()
    {
        using ZonedBench zoned = new(ZonedBench.Usual with { MaxAppendBytes = 0 });
        Assert.Equal(0u, BinaryPrimitives.ReadUInt32LittleEndian(zoned.Session.Frontend.GetConfig(84, 4)));
        Assert.Equal(VIRTIO_BLK_S_UNSUPP, zoned.Append(1 * Zone, 512, out _));
    }

    [Fact, Conformance("BLK-15", "BLK-55")]
    public void A_write_is_at_the_write_pointer_and_a_multiple_of_the_granularity()
    {
        using ZonedBench zoned = new(ZonedBench.Usual with { WriteGranularityBytes = 4096 });
        Assert.Equal(4096u, BinaryPrimitives.ReadUInt32LittleEndian(zoned.Session.Frontend.GetConfig(88, 4)));
        Assert.Equal(VIRTIO_BLK_S_OK, zoned.Write(1 * Zone, 4096));
        Assert.Equal(VIRTIO_BLK_S_ZONE_UNALIGNED_WP, zoned.Write((1 * Zone) + 8, 2048));
        Assert.Equal(VIRTIO_BLK_S_ZONE_UNALIGNED_WP, zoned.Write((1 * Zone) + 16, 4096));
        Assert.Equal(VIRTIO_BLK_S_ZONE_UNALIGNED_WP, zoned.Write(1 * Zone, 4096));
        Assert.Equal(VIRTIO_BLK_S_OK, zoned.Write((1 * Zone) + 8, 8192));
    }

    [Fact, Conformance("BLK-40", "BLK-41")]
    public void A_conventional_zone_knows_neither_states_nor_appends()
    {
        using ZonedBench zoned = new();
        Assert.Equal((BlkZoneType.VIRTIO_BLK_ZT_CONV, VIRTIO_BLK_ZS_NOT_WP), (zoned.Report()[0].Type, zoned.StateOf(0)));
        Assert.Equal(VIRTIO_BLK_S_ZONE_INVALID_CMD, zoned.Driver.ZoneOpen(0));
        Assert.Equal(VIRTIO_BLK_S_ZONE_INVALID_CMD, zoned.Driver.ZoneClose(0));
        Assert.Equal(VIRTIO_BLK_S_ZONE_INVALID_CMD, zoned.Driver.ZoneFinish(0));
        Assert.Equal(VIRTIO_BLK_S_ZONE_INVALID_CMD, zoned.Driver.ZoneReset(0));
        Assert.Equal(VIRTIO_BLK_S_ZONE_INVALID_CMD, zoned.Append(0, 512, out _));
        Assert.Equal(VIRTIO_BLK_S_OK, zoned.Write(77, 512));
        Assert.Equal(VIRTIO_BLK_S_OK, zoned.Write(3, 512));
    }

    [Fact, Conformance("BLK-44", "BLK-45", "BLK-46")]
    public void CLOSE_FINISH_and_RESET_lead_where_they_must()
    {
        using ZonedBench zoned = new();
        Assert.Equal(VIRTIO_BLK_S_OK, zoned.Write(1 * Zone));
        Assert.Equal(VIRTIO_BLK_S_OK, zoned.Driver.ZoneClose(1 * Zone));
        Assert.Equal(VIRTIO_BLK_ZS_CLOSED, zoned.StateOf(1));
        Assert.Equal(VIRTIO_BLK_S_OK, zoned.Driver.ZoneOpen(1 * Zone));
        Assert.Equal(VIRTIO_BLK_S_OK, zoned.Driver.ZoneClose(1 * Zone));
        Assert.Equal(VIRTIO_BLK_ZS_CLOSED, zoned.StateOf(1));
        Assert.Equal(VIRTIO_BLK_S_OK, zoned.Driver.ZoneFinish(1 * Zone));
        Assert.Equal(VIRTIO_BLK_ZS_FULL, zoned.StateOf(1));
        Assert.Equal(VIRTIO_BLK_S_ZONE_INVALID_CMD, zoned.Driver.ZoneClose(1 * Zone));
        Assert.Equal(VIRTIO_BLK_ZS_FULL, zoned.StateOf(1));
        Assert.Equal(VIRTIO_BLK_S_OK, zoned.Driver.ZoneReset(1 * Zone));
        Assert.Equal((VIRTIO_BLK_ZS_EMPTY, 1 * Zone), (zoned.StateOf(1), zoned.Report()[1].WritePointerSector));
        Assert.Equal(VIRTIO_BLK_S_OK, zoned.Write(2 * Zone));
        Assert.Equal(VIRTIO_BLK_S_OK, zoned.Driver.ZoneFinish(2 * Zone));
        Assert.Equal(VIRTIO_BLK_ZS_FULL, zoned.StateOf(2));
        // Not the beginning of a zone: no zone at all.
        Assert.Equal(VIRTIO_BLK_S_ZONE_INVALID_CMD, zoned.Driver.ZoneReset((2 * Zone) + 8));
        Assert.Equal(VIRTIO_BLK_ZS_FULL, zoned.StateOf(2));
    }

    [Fact, Conformance("BLK-47")]
    public void RESET_ALL_empties_every_zone_that_is_not_empty()
    {
        using ZonedBench zoned = new();
        Assert.Equal(VIRTIO_BLK_S_OK, zoned.Write(1 * Zone));
        Assert.Equal(VIRTIO_BLK_S_OK, zoned.Driver.ZoneFinish(1 * Zone));
        Assert.Equal(VIRTIO_BLK_S_OK, zoned.Write(2 * Zone));
        Assert.Equal(VIRTIO_BLK_S_OK, zoned.Driver.ZoneClose(2 * Zone));
        Assert.Equal(VIRTIO_BLK_S_OK, zoned.Driver.ZoneOpen(3 * Zone));
        Assert.Equal(VIRTIO_BLK_S_OK, zoned.Write(4 * Zone));
        Assert.Equal(VIRTIO_BLK_S_OK, zoned.Write(0));
        Assert.Equal(
            [VIRTIO_BLK_ZS_NOT_WP, VIRTIO_BLK_ZS_FULL, VIRTIO_BLK_ZS_CLOSED, VIRTIO_BLK_ZS_EOPEN, VIRTIO_BLK_ZS_IOPEN, VIRTIO_BLK_ZS_EMPTY],
            zoned.Report().Select(zone => zone.State));
        Assert.Equal(VIRTIO_BLK_S_OK, zoned.Driver.ZoneResetAll());
        Assert.All(zoned.Report()[1..], zone => Assert.Equal((VIRTIO_BLK_ZS_EMPTY, zone.StartSector), (zone.State, zone.WritePointerSector)));
        Assert.Equal(ZonedBench.Pattern, zoned.Device.Image.Read(0, 1)[0]);
    }

    [Fact, Conformance("BLK-50", "BLK-51", "BLK-54")]
    public void What_does_not_fit_into_its_zone_is_invalid()
    {
        using ZonedBench zoned = new(ZonedBench.Usual with { ZoneCapacityBytes = (Zone - 16) * 512 });
        Assert.Equal(Zone - 16, zoned.Report()[1].CapacitySectors);
        Assert.Equal(VIRTIO_BLK_S_ZONE_INVALID_CMD, zoned.Append((1 * Zone) + 8, 512, out _));
        // Four sectors are left of the capacity.
        Assert.Equal(VIRTIO_BLK_S_OK, zoned.Write(1 * Zone, (int)(Zone - 20) * 512));
        ulong pointer = (2 * Zone) - 20;
        Assert.Equal(VIRTIO_BLK_S_ZONE_INVALID_CMD, zoned.Write(pointer, 5 * 512));
        Assert.Equal(VIRTIO_BLK_S_ZONE_INVALID_CMD, zoned.Append(1 * Zone, 5 * 512, out _));
        Assert.Equal(VIRTIO_BLK_S_ZONE_INVALID_CMD, zoned.Write(pointer, 40 * 512));
        Assert.Equal((VIRTIO_BLK_ZS_IOPEN, pointer), (zoned.StateOf(1), zoned.Report()[1].WritePointerSector));
        Assert.Equal(VIRTIO_BLK_S_OK, zoned.Write(pointer, 4 * 512));
        Assert.Equal(VIRTIO_BLK_ZS_FULL, zoned.StateOf(1));
        byte[] data = new byte[1024];
        Assert.Equal(VIRTIO_BLK_S_ZONE_INVALID_CMD, zoned.Driver.Read((2 * Zone) - 1, data));
        Assert.Equal(VIRTIO_BLK_S_ZONE_INVALID_CMD, zoned.Driver.Read((1 * Zone) - 1, data));
        Assert.Equal(VIRTIO_BLK_S_OK, zoned.Driver.Read((2 * Zone) - 2, data));
    }

    [Theory, Conformance("BLK-45", "BLK-46", "BLK-56")]
    [InlineData(VIRTIO_BLK_ZS_RDONLY)]
    [InlineData(VIRTIO_BLK_ZS_OFFLINE)]
    public void A_zone_that_is_lost_stays_as_it_is(BlkZoneState state)
    {
        using ZonedBench zoned = ZonedBench.WithZone(1, state);
        Assert.Equal(state, zoned.StateOf(1));
        ulong pointer = zoned.Report()[1].WritePointerSector;
        (string Name, Func<BlkStatus> Ask)[] requests =
        [
            ("write", () => zoned.Write(pointer)),
            ("append", () => zoned.Append(1 * Zone, 512, out _)),
            ("open", () => zoned.Driver.ZoneOpen(1 * Zone)),
            ("close", () => zoned.Driver.ZoneClose(1 * Zone)),
            ("finish", () => zoned.Driver.ZoneFinish(1 * Zone)),
            ("reset", () => zoned.Driver.ZoneReset(1 * Zone)),
        ];
        foreach ((string name, Func<BlkStatus> ask) in requests)
        {
            Assert.Equal((name, VIRTIO_BLK_S_ZONE_INVALID_CMD), (name, ask()));
            Assert.Equal((state, pointer), (zoned.StateOf(1), zoned.Report()[1].WritePointerSector));
        }
    }

    [Fact, Conformance("BLK-57")]
    public void An_offline_zone_is_not_read_either()
    {
        byte[] data = new byte[512];
        using (ZonedBench readOnly = ZonedBench.WithZone(1, VIRTIO_BLK_ZS_RDONLY))
        {
            Assert.Equal(VIRTIO_BLK_S_OK, readOnly.Driver.Read(1 * Zone, data));
            Assert.Equal(ZonedBench.Pattern, data[0]);
        }

        using ZonedBench offline = ZonedBench.WithZone(1, VIRTIO_BLK_ZS_OFFLINE);
        Assert.Equal(VIRTIO_BLK_S_ZONE_INVALID_CMD, offline.Driver.Read(1 * Zone, data));
        Assert.Equal(VIRTIO_BLK_S_ZONE_INVALID_CMD, offline.Driver.Read((1 * Zone) + 40, data));
        Assert.Equal(VIRTIO_BLK_S_OK, offline.Driver.Read(2 * Zone, data));
    }

    [Fact, Conformance("BLK-59")]
    public void Above_the_write_pointer_nothing_of_the_past_is_seen()
    {
        using ZonedBench zoned = new();
        Assert.Equal(VIRTIO_BLK_S_OK, zoned.Write(1 * Zone, 64 * 512));
        Assert.Equal(VIRTIO_BLK_S_OK, zoned.Driver.ZoneReset(1 * Zone));
        Assert.Equal(VIRTIO_BLK_S_OK, zoned.Write(1 * Zone, 512));
        byte[] data = new byte[64 * 512];
        Assert.Equal(VIRTIO_BLK_S_OK, zoned.Driver.Read(1 * Zone, data));
        Assert.Equal(-1, data.AsSpan(0, 512).IndexOfAnyExcept(ZonedBench.Pattern));
        Assert.Equal(-1, data.AsSpan(512).IndexOfAnyExcept((byte)0));
    }

    [Fact, Conformance("BLK-63")]
    public void A_report_counts_whole_descriptors_from_the_zone_that_holds_the_sector()
    {
        using ZonedBench zoned = new();
        Assert.Equal(VIRTIO_BLK_S_OK, zoned.Driver.ZoneReport((1 * Zone) + 77, out BlkZoneDescriptor[] zones, 64 + (64 * 2) + 32));
        Assert.Equal([1 * Zone, 2 * Zone], zones.Select(zone => zone.StartSector));
        Assert.Equal(VIRTIO_BLK_S_OK, zoned.Driver.ZoneReport((6 * Zone) - (Zone / 2) - 1, out zones, 4096));
        Assert.Equal([5 * Zone], zones.Select(zone => zone.StartSector));
        Assert.Equal(VIRTIO_BLK_S_OK, zoned.Driver.ZoneReport(0, out zones, 64));
        Assert.Empty(zones);
    }
}
