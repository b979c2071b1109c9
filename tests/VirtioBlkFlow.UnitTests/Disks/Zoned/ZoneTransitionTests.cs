using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Zoned;
using VirtioBlkFlow.Virtio.Blk;
using Xunit;
using static VirtioBlkFlow.Disks.DiskOperation;
using static VirtioBlkFlow.Disks.DiskOutcome;
using static VirtioBlkFlow.Virtio.Blk.BlkZoneState;

namespace VirtioBlkFlow.UnitTests.Disks.Zoned;

/// <summary>Every transition of a zone (VIRTIO 1.4, "Block Device", "Device Operation", on zoned devices), and limits.</summary>
public sealed class ZoneTransitionTests : IDisposable
{
    private const int ZoneBytes = 64 << 10;
    private const int Capacity = 48 << 10;

    private ZonedBench _disk = new(Zones(), 5 * ZoneBytes);

    public void Dispose() => _disk.Dispose();

    // The table: a state, what is asked, how it ends, the state after.
    public static TheoryData<BlkZoneState, string, DiskOutcome, BlkZoneState> Transitions => new()
    {
        { VIRTIO_BLK_ZS_EMPTY, "write", Done, VIRTIO_BLK_ZS_IOPEN },
        { VIRTIO_BLK_ZS_EMPTY, "append", Done, VIRTIO_BLK_ZS_IOPEN },
        { VIRTIO_BLK_ZS_EMPTY, "fill", Done, VIRTIO_BLK_ZS_FULL },
        { VIRTIO_BLK_ZS_EMPTY, "open", Done, VIRTIO_BLK_ZS_EOPEN },
        { VIRTIO_BLK_ZS_EMPTY, "close", ZoneInvalidCommand, VIRTIO_BLK_ZS_EMPTY },
        { VIRTIO_BLK_ZS_EMPTY, "finish", Done, VIRTIO_BLK_ZS_FULL },
        { VIRTIO_BLK_ZS_EMPTY, "reset", Done, VIRTIO_BLK_ZS_EMPTY },
        { VIRTIO_BLK_ZS_IOPEN, "write", Done, VIRTIO_BLK_ZS_IOPEN },
        { VIRTIO_BLK_ZS_IOPEN, "append", Done, VIRTIO_BLK_ZS_IOPEN },
        { VIRTIO_BLK_ZS_IOPEN, "fill", Done, VIRTIO_BLK_ZS_FULL },
        { VIRTIO_BLK_ZS_IOPEN, "open", Done, VIRTIO_BLK_ZS_EOPEN },
        { VIRTIO_BLK_ZS_IOPEN, "close", Done, VIRTIO_BLK_ZS_CLOSED },
        { VIRTIO_BLK_ZS_IOPEN, "finish", Done, VIRTIO_BLK_ZS_FULL },
        { VIRTIO_BLK_ZS_IOPEN, "reset", Done, VIRTIO_BLK_ZS_EMPTY },
        { VIRTIO_BLK_ZS_EOPEN, "write", Done, VIRTIO_BLK_ZS_EOPEN },
        { VIRTIO_BLK_ZS_EOPEN, "append", Done, VIRTIO_BLK_ZS_EOPEN },
        { VIRTIO_BLK_ZS_EOPEN, "fill", Done, VIRTIO_BLK_ZS_FULL },
        { VIRTIO_BLK_ZS_EOPEN, "open", Done, VIRTIO_BLK_ZS_EOPEN },
        { VIRTIO_BLK_ZS_EOPEN, "close", Done, VIRTIO_BLK_ZS_CLOSED },
        { VIRTIO_BLK_ZS_EOPEN, "finish", Done, VIRTIO_BLK_ZS_FULL },
        { VIRTIO_BLK_ZS_EOPEN, "reset", Done, VIRTIO_BLK_ZS_EMPTY },
        { VIRTIO_BLK_ZS_CLOSED, "write", Done, VIRTIO_BLK_ZS_IOPEN },
        { VIRTIO_BLK_ZS_CLOSED, "append", Done, VIRTIO_BLK_ZS_IOPEN },
        { VIRTIO_BLK_ZS_CLOSED, "fill", Done, VIRTIO_BLK_ZS_FULL },
        { VIRTIO_BLK_ZS_CLOSED, "open", Done, VIRTIO_BLK_ZS_EOPEN },
        { VIRTIO_BLK_ZS_CLOSED, "close", Done, VIRTIO_BLK_ZS_CLOSED },
        { VIRTIO_BLK_ZS_CLOSED, "finish", Done, VIRTIO_BLK_ZS_FULL },
        { VIRTIO_BLK_ZS_CLOSED, "reset", Done, VIRTIO_BLK_ZS_EMPTY },
        { VIRTIO_BLK_ZS_FULL, "write", ZoneInvalidCommand, VIRTIO_BLK_ZS_FULL },
        { VIRTIO_BLK_ZS_FULL, "append", ZoneInvalidCommand, VIRTIO_BLK_ZS_FULL },
        { VIRTIO_BLK_ZS_FULL, "open", ZoneInvalidCommand, VIRTIO_BLK_ZS_FULL },
        { VIRTIO_BLK_ZS_FULL, "close", ZoneInvalidCommand, VIRTIO_BLK_ZS_FULL },
        { VIRTIO_BLK_ZS_FULL, "finish", Done, VIRTIO_BLK_ZS_FULL },
        { VIRTIO_BLK_ZS_FULL, "reset", Done, VIRTIO_BLK_ZS_EMPTY },
        { VIRTIO_BLK_ZS_FULL, "read", Done, VIRTIO_BLK_ZS_FULL },
        { VIRTIO_BLK_ZS_RDONLY, "read", Done, VIRTIO_BLK_ZS_RDONLY },
        { VIRTIO_BLK_ZS_RDONLY, "reset all", Done, VIRTIO_BLK_ZS_RDONLY },
        { VIRTIO_BLK_ZS_OFFLINE, "read", ZoneInvalidCommand, VIRTIO_BLK_ZS_OFFLINE },
        { VIRTIO_BLK_ZS_OFFLINE, "reset all", Done, VIRTIO_BLK_ZS_OFFLINE },
        { VIRTIO_BLK_ZS_FULL, "reset all", Done, VIRTIO_BLK_ZS_EMPTY },
        { VIRTIO_BLK_ZS_IOPEN, "reset all", Done, VIRTIO_BLK_ZS_EMPTY },
        { VIRTIO_BLK_ZS_EOPEN, "reset all", Done, VIRTIO_BLK_ZS_EMPTY },
        { VIRTIO_BLK_ZS_CLOSED, "reset all", Done, VIRTIO_BLK_ZS_EMPTY },
    };

    [Theory]
    [MemberData(nameof(Transitions))]
    public void A_zone_goes_where_the_table_says(BlkZoneState before, string request, DiskOutcome outcome, BlkZoneState after)
    {
        Bring(before);
        Assert.Equal(before, _disk.StateOf(1));
        Assert.Equal(outcome, Ask(request));
        Assert.Equal(after, _disk.StateOf(1));
    }

    [Theory]
    [InlineData(VIRTIO_BLK_ZS_RDONLY)]
    [InlineData(VIRTIO_BLK_ZS_OFFLINE)]
    public void A_zone_that_is_lost_refuses_every_change(BlkZoneState state)
    {
        Bring(state);
        foreach (string request in new[] { "write", "append", "open", "close", "finish", "reset" })
        {
            Assert.Equal((request, ZoneInvalidCommand), (request, Ask(request)));
            Assert.Equal(state, _disk.StateOf(1));
        }
    }

    [Fact]
    public void An_explicitly_opened_zone_without_data_is_empty_when_it_is_closed()
    {
        Assert.Equal(Done, _disk.Do(ZoneOpen, 1));
        Assert.Equal(Done, _disk.Do(ZoneClose, 1));
        Assert.Equal(VIRTIO_BLK_ZS_EMPTY, _disk.StateOf(1));
    }

    [Fact]
    public void A_conventional_zone_is_written_anywhere_and_has_no_state_to_change()
    {
        Assert.Equal(Done, _disk.Write(ZoneBytes - 512, 512));
        Assert.Equal(Done, _disk.Write(0, 512));
        foreach (DiskOperation operation in new[] { ZoneOpen, ZoneClose, ZoneFinish, ZoneReset })
        {
            Assert.Equal(ZoneInvalidCommand, _disk.Do(operation, 0));
        }

        Assert.Equal(ZoneInvalidCommand, _disk.Append(0, 512));
        Assert.Equal(Done, _disk.Do(ZoneResetAll, 0));
        Assert.Equal((BlkZoneType.VIRTIO_BLK_ZT_CONV, VIRTIO_BLK_ZS_NOT_WP), (_disk.Report()[0].Type, _disk.StateOf(0)));
        Assert.Equal(Done, _disk.Read(0, 512, out byte[] data));
        Assert.Equal(0x5a, data[0]);
    }

    [Fact]
    public void A_write_goes_to_the_write_pointer_in_whole_units_and_not_beyond_the_capacity()
    {
        Recreate(Zones() with { WriteGranularityBytes = 4096 });
        Assert.Equal(ZoneUnalignedWrite, _disk.Write(ZoneBytes + 4096, 4096));
        Assert.Equal(ZoneUnalignedWrite, _disk.Write(ZoneBytes, 2048));
        Assert.Equal(Done, _disk.Write(ZoneBytes, 4096));
        Assert.Equal(ZoneUnalignedWrite, _disk.Write(ZoneBytes, 4096));
        Assert.Equal(ZoneInvalidCommand, _disk.Write(ZoneBytes + 4096, Capacity));
        Assert.Equal(ZoneInvalidCommand, _disk.Append(1, Capacity));
        Assert.Equal(ZoneUnalignedWrite, _disk.Append(1, 512));
        Assert.Equal(ZoneInvalidCommand, _disk.Write(ZoneBytes + 4096, ZoneBytes));
        Assert.Equal(Done, _disk.Write(ZoneBytes + 4096, Capacity - 4096));
        Assert.Equal(VIRTIO_BLK_ZS_FULL, _disk.StateOf(1));
    }

    [Fact]
    public void Nothing_crosses_the_border_of_a_sequential_zone()
    {
        Assert.Equal(ZoneInvalidCommand, _disk.Read((2 * ZoneBytes) - 512, 1024, out _));
        Assert.Equal(ZoneInvalidCommand, _disk.Read(ZoneBytes - 512, 1024, out _));
        Assert.Equal(ZoneInvalidCommand, _disk.Write(ZoneBytes - 512, 1024));
        Assert.Equal(Done, _disk.Read((2 * ZoneBytes) - 512, 512, out _));
        Assert.Equal(ZoneInvalidCommand, _disk.Bench.Do(ZoneOpen, ZoneBytes + 512));
        Assert.Equal(ZoneInvalidCommand, _disk.Bench.Transfer(Append, ZoneBytes + 512, 0, 1, 512));
    }

    [Fact]
    public void An_append_says_where_it_went()
    {
        for (ulong i = 0; i < 3; i++)
        {
            Assert.Equal(Done, _disk.Append(2, 1024, (byte)(i + 1)));
            Assert.Equal((2 * ZoneBytes) + (i * 1024), _disk.Bench.Appended);
        }

        Assert.Equal(Done, _disk.Read(2 * ZoneBytes, 4096, out byte[] data));
        Assert.Equal([1, 2, 3, 0], new[] { data[0], data[1024], data[2048], data[3072] });
    }

    [Fact]
    public void Only_so_many_zones_are_open_and_the_oldest_a_write_opened_makes_room()
    {
        Recreate(Zones() with { MaxOpen = 2 });
        Assert.Equal(Done, _disk.Write(1 * ZoneBytes, 512));
        Assert.Equal(Done, _disk.Do(ZoneOpen, 2));
        Assert.Equal(Done, _disk.Do(ZoneOpen, 3));
        Assert.Equal(VIRTIO_BLK_ZS_CLOSED, _disk.StateOf(1));
        Assert.Equal(ZoneOpenResource, _disk.Do(ZoneOpen, 4));
        Assert.Equal(ZoneOpenResource, _disk.Write(4 * ZoneBytes, 512));
        Assert.Equal(ZoneOpenResource, _disk.Append(1, 512));
        Assert.Equal((VIRTIO_BLK_ZS_CLOSED, VIRTIO_BLK_ZS_EMPTY), (_disk.StateOf(1), _disk.StateOf(4)));
        Assert.Equal(Done, _disk.Do(ZoneFinish, 3));
        Assert.Equal(Done, _disk.Write(4 * ZoneBytes, 512));
    }

    [Fact]
    public void Only_so_many_zones_are_active_and_that_is_said_first()
    {
        Recreate(Zones() with { MaxOpen = 1, MaxActive = 2 });
        Assert.Equal(Done, _disk.Write(1 * ZoneBytes, 512));
        Assert.Equal(Done, _disk.Do(ZoneClose, 1));
        Assert.Equal(Done, _disk.Do(ZoneOpen, 2));
        Assert.Equal(ZoneActiveResource, _disk.Do(ZoneOpen, 3));
        Assert.Equal(ZoneActiveResource, _disk.Write(3 * ZoneBytes, 512));
        Assert.Equal(ZoneOpenResource, _disk.Do(ZoneOpen, 1));
        Assert.Equal(Done, _disk.Do(ZoneReset, 1));
        Assert.Equal(ZoneOpenResource, _disk.Do(ZoneOpen, 3));
    }

    [Fact]
    public void What_is_above_the_write_pointer_reads_as_zeros_after_a_reset_and_after_a_finish()
    {
        Assert.Equal(Done, _disk.Write(ZoneBytes, 8192));
        Assert.Equal(Done, _disk.Do(ZoneReset, 1));
        Assert.Equal(-1, _disk.Image.Read(ZoneBytes, 8192).AsSpan().IndexOfAnyExcept((byte)0));
        Assert.Equal(Done, _disk.Write(ZoneBytes, 512, 0x11));
        Assert.Equal(Done, _disk.Do(ZoneFinish, 1));
        Assert.Equal(Done, _disk.Read(ZoneBytes, 8192, out byte[] data));
        Assert.Equal(512, data.AsSpan().IndexOf((byte)0));
        Assert.Equal(-1, data.AsSpan(512).IndexOfAnyExcept((byte)0));
    }

    [Fact]
    public void Only_the_last_zone_is_shorter()
    {
        Recreate(Zones(), (4 * ZoneBytes) + 4096);
        BlkZoneDescriptor[] zones = _disk.Report();
        Assert.Equal(5, zones.Length);
        Assert.Equal([128UL, 96, 96, 96, 8], zones.Select(zone => zone.CapacitySectors));
        Assert.Equal([0UL, 128, 256, 384, 512], zones.Select(zone => zone.StartSector));
        Assert.Equal(Done, _disk.Write(4 * ZoneBytes, 4096));
        Assert.Equal(VIRTIO_BLK_ZS_FULL, _disk.StateOf(4));
    }

    private static ZoneGeometry Zones() => new() { ZoneBytes = ZoneBytes, ConventionalZones = 1, ZoneCapacityBytes = Capacity };

    private void Recreate(ZoneGeometry geometry, long bytes = 5 * ZoneBytes)
    {
        _disk.Dispose();
        _disk = new ZonedBench(geometry, bytes);
    }

    private void Bring(BlkZoneState state)
    {
        string[] steps = state switch
        {
            VIRTIO_BLK_ZS_EMPTY => [],
            VIRTIO_BLK_ZS_EOPEN => ["open", "write"],
            VIRTIO_BLK_ZS_CLOSED => ["write", "close"],
            VIRTIO_BLK_ZS_FULL => ["write", "finish"],
            _ => ["write"],
        };
        Assert.All(steps, step => Assert.Equal(Done, Ask(step)));
        if (state is VIRTIO_BLK_ZS_RDONLY or VIRTIO_BLK_ZS_OFFLINE)
        {
            _disk.Mark(1, state);
        }
    }

    private DiskOutcome Ask(string request)
    {
        BlkZoneDescriptor zone = _disk.Report()[1];
        ulong pointer = zone.WritePointerSector * 512;
        return request switch
        {
            "write" => _disk.Write(pointer, 512),
            "append" => _disk.Append(1, 512),
            "fill" => _disk.Write(pointer, (int)(ZoneBytes + (ulong)Capacity - pointer)),
            "read" => _disk.Read(ZoneBytes, 4096, out _),
            "open" => _disk.Do(ZoneOpen, 1),
            "close" => _disk.Do(ZoneClose, 1),
            "finish" => _disk.Do(ZoneFinish, 1),
            "reset" => _disk.Do(ZoneReset, 1),
            "reset all" => _disk.Do(ZoneResetAll, 0),
            _ => throw new ArgumentOutOfRangeException(nameof(request)),
        };
    }
}
