using VirtioBlkFlow.Virtio.Blk;
using Xunit;
using static VirtioBlkFlow.Virtio.Blk.BlkRequestType;
using static VirtioBlkFlow.Virtio.Blk.BlkStatus;

namespace VirtioBlkFlow.UnitTests.Virtio;

/// <summary>Range and segment checks (VIRTIO 1.4, "Block Device", "Device Operation").</summary>
public sealed class BlkLimitsTests
{
    private const ulong Capacity = 1000;

    private static readonly BlkLimits s_disk = new(Capacity, LogicalBlockBytes: 512, ReadOnly: false)
    {
        Discard = new SegmentLimits(100, 2),
        WriteZeroes = new SegmentLimits(50, 3),
        SecureErase = new SegmentLimits(40, 1),
    };

    [Theory]
    [InlineData(0, 512, VIRTIO_BLK_S_OK)]
    [InlineData(0, Capacity * 512, VIRTIO_BLK_S_OK)]
    [InlineData(0, (Capacity + 1) * 512, VIRTIO_BLK_S_IOERR)]
    [InlineData(999, 512, VIRTIO_BLK_S_OK)]
    [InlineData(999, 1024, VIRTIO_BLK_S_IOERR)]
    [InlineData(1000, 0, VIRTIO_BLK_S_OK)]
    [InlineData(1000, 512, VIRTIO_BLK_S_IOERR)]
    [InlineData(1001, 0, VIRTIO_BLK_S_IOERR)]
    [InlineData(0, 1, VIRTIO_BLK_S_IOERR)]
    [InlineData(0, 511, VIRTIO_BLK_S_IOERR)]
    [InlineData(0, 513, VIRTIO_BLK_S_IOERR)]
    [InlineData(ulong.MaxValue, 0, VIRTIO_BLK_S_IOERR)]
    [InlineData(ulong.MaxValue, 512, VIRTIO_BLK_S_IOERR)]
    [InlineData(ulong.MaxValue, 1024, VIRTIO_BLK_S_IOERR)]
    [InlineData(ulong.MaxValue - 999, 512 * 1000, VIRTIO_BLK_S_IOERR)]
    [InlineData(1UL << 55, 512, VIRTIO_BLK_S_IOERR)]
    [InlineData(0, uint.MaxValue, VIRTIO_BLK_S_IOERR)]
    [InlineData(0, uint.MaxValue - 511, VIRTIO_BLK_S_IOERR)]
    public void Checks_a_transfer(ulong sector, ulong lengthBytes, BlkStatus expected) =>
        Assert.Equal(expected, s_disk.CheckTransfer(sector, (uint)lengthBytes));

    [Fact]
    public void A_disk_of_the_largest_capacity_takes_a_transfer_at_its_end()
    {
        BlkLimits disk = new(ulong.MaxValue, 512, false);
        Assert.Equal(VIRTIO_BLK_S_OK, disk.CheckTransfer(ulong.MaxValue - 1, 512));
        Assert.Equal(VIRTIO_BLK_S_IOERR, disk.CheckTransfer(ulong.MaxValue - 1, 1024));
        Assert.Equal(VIRTIO_BLK_S_IOERR, disk.CheckTransfer(ulong.MaxValue, 512));
    }

    [Theory]
    [InlineData(0, 4096, VIRTIO_BLK_S_OK)]
    [InlineData(8, 4096, VIRTIO_BLK_S_OK)]
    [InlineData(8, 0, VIRTIO_BLK_S_OK)]
    [InlineData(4, 4096, VIRTIO_BLK_S_IOERR)]
    [InlineData(8, 512, VIRTIO_BLK_S_IOERR)]
    [InlineData(1, 512, VIRTIO_BLK_S_IOERR)]
    [InlineData(996, 4096, VIRTIO_BLK_S_IOERR)]
    public void A_transfer_is_a_multiple_of_the_logical_block_and_aligned_to_it(ulong sector, uint lengthBytes, BlkStatus expected) =>
        Assert.Equal(expected, new BlkLimits(Capacity, 4096, false).CheckTransfer(sector, lengthBytes));

    [Fact]
    public void A_copy_with_another_logical_block_checks_against_the_other()
    {
        BlkLimits copy = s_disk with { LogicalBlockBytes = 4096 };
        Assert.Equal(VIRTIO_BLK_S_IOERR, copy.CheckTransfer(1, 512));
        Assert.Equal(s_disk.Discard, copy.Discard);
    }

    // Each row breaks several rules; the status is that of the rule that counts first.
    public static TheoryData<string, BlkLimits, BlkRequestType, uint, BlkSegment[], BlkStatus> Lists()
    {
        BlkLimits readOnly = s_disk with { ReadOnly = true };
        BlkLimits none = new(Capacity, 512, false);
        BlkSegment good = Segment(0, 10);
        BlkSegment beyond = Segment(ulong.MaxValue, uint.MaxValue);
        BlkSegment reserved = Segment(ulong.MaxValue, uint.MaxValue, flags: 2);
        return new()
        {
            { "discard", s_disk, VIRTIO_BLK_T_DISCARD, 16, [good], VIRTIO_BLK_S_OK },
            { "write zeroes", s_disk, VIRTIO_BLK_T_WRITE_ZEROES, 16, [good], VIRTIO_BLK_S_OK },
            { "write zeroes with unmap", s_disk, VIRTIO_BLK_T_WRITE_ZEROES, 16, [Segment(0, 10, 1)], VIRTIO_BLK_S_OK },
            { "read-only, before not offered", none with { ReadOnly = true }, VIRTIO_BLK_T_DISCARD, 16, [good], VIRTIO_BLK_S_IOERR },
            { "discard not offered", none, VIRTIO_BLK_T_DISCARD, 15, [], VIRTIO_BLK_S_UNSUPP },
            { "secure erase not offered", none, VIRTIO_BLK_T_SECURE_ERASE, 16, [good], VIRTIO_BLK_S_UNSUPP },
            { "secure erase", s_disk, VIRTIO_BLK_T_SECURE_ERASE, 16, [good], VIRTIO_BLK_S_OK },
            { "secure erase with unmap", s_disk, VIRTIO_BLK_T_SECURE_ERASE, 16, [Segment(0, 10, 1)], VIRTIO_BLK_S_UNSUPP },
            { "too many to erase", s_disk, VIRTIO_BLK_T_SECURE_ERASE, 32, [good, good], VIRTIO_BLK_S_IOERR },
            { "too much to erase", s_disk, VIRTIO_BLK_T_SECURE_ERASE, 16, [Segment(0, 41)], VIRTIO_BLK_S_IOERR },
            { "flags far beyond the count", s_disk, VIRTIO_BLK_T_DISCARD, 16 * 256, [.. Enumerable.Repeat(good, 255), reserved], VIRTIO_BLK_S_UNSUPP },
            { "write zeroes not offered", none, VIRTIO_BLK_T_WRITE_ZEROES, 16, [good], VIRTIO_BLK_S_UNSUPP },
            { "read-only, before flags", readOnly, VIRTIO_BLK_T_DISCARD, 16, [reserved], VIRTIO_BLK_S_IOERR },
            { "empty list", s_disk, VIRTIO_BLK_T_DISCARD, 0, [], VIRTIO_BLK_S_IOERR },
            { "15 bytes", s_disk, VIRTIO_BLK_T_DISCARD, 15, [], VIRTIO_BLK_S_IOERR },
            { "17 bytes, before flags", s_disk, VIRTIO_BLK_T_DISCARD, 17, [reserved], VIRTIO_BLK_S_IOERR },
            { "flag 2", s_disk, VIRTIO_BLK_T_DISCARD, 16, [Segment(0, 10, 2)], VIRTIO_BLK_S_UNSUPP },
            { "flag 3", s_disk, VIRTIO_BLK_T_WRITE_ZEROES, 16, [Segment(0, 10, 3)], VIRTIO_BLK_S_UNSUPP },
            { "flag 0x80000000", s_disk, VIRTIO_BLK_T_WRITE_ZEROES, 16, [Segment(0, 10, 0x8000_0000)], VIRTIO_BLK_S_UNSUPP },
            { "flag 0xfffffffe", s_disk, VIRTIO_BLK_T_DISCARD, 16, [Segment(0, 10, 0xffff_fffe)], VIRTIO_BLK_S_UNSUPP },
            { "discard with unmap", s_disk, VIRTIO_BLK_T_DISCARD, 16, [Segment(0, 10, 1)], VIRTIO_BLK_S_UNSUPP },
            { "flags before the range", s_disk, VIRTIO_BLK_T_DISCARD, 16, [reserved], VIRTIO_BLK_S_UNSUPP },
            { "flags of the second before the range of the first", s_disk, VIRTIO_BLK_T_DISCARD, 32, [beyond, Segment(0, 1, 2)], VIRTIO_BLK_S_UNSUPP },
            { "flags before the count", s_disk, VIRTIO_BLK_T_DISCARD, 48, [good, good, reserved], VIRTIO_BLK_S_UNSUPP },
            { "too many to discard", s_disk, VIRTIO_BLK_T_DISCARD, 48, [good, good, good], VIRTIO_BLK_S_IOERR },
            { "as many as may be zeroed", s_disk, VIRTIO_BLK_T_WRITE_ZEROES, 48, [good, good, good], VIRTIO_BLK_S_OK },
            { "a list longer than what was copied", s_disk, VIRTIO_BLK_T_DISCARD, 16 * 33, [.. Enumerable.Repeat(good, 32)], VIRTIO_BLK_S_IOERR },
            { "as large as may be discarded", s_disk, VIRTIO_BLK_T_DISCARD, 16, [Segment(0, 100)], VIRTIO_BLK_S_OK },
            { "too large to discard", s_disk, VIRTIO_BLK_T_DISCARD, 16, [Segment(0, 101)], VIRTIO_BLK_S_IOERR },
            { "too large to zero", s_disk, VIRTIO_BLK_T_WRITE_ZEROES, 16, [Segment(0, 51)], VIRTIO_BLK_S_IOERR },
            { "up to the end", s_disk, VIRTIO_BLK_T_DISCARD, 16, [Segment(990, 10)], VIRTIO_BLK_S_OK },
            { "beyond the end", s_disk, VIRTIO_BLK_T_DISCARD, 16, [Segment(990, 11)], VIRTIO_BLK_S_IOERR },
            { "the second beyond the end", s_disk, VIRTIO_BLK_T_DISCARD, 32, [good, Segment(1000, 1)], VIRTIO_BLK_S_IOERR },
            { "nothing at the end", s_disk, VIRTIO_BLK_T_DISCARD, 16, [Segment(1000, 0)], VIRTIO_BLK_S_OK },
            { "near 2^64", s_disk, VIRTIO_BLK_T_DISCARD, 16, [Segment(ulong.MaxValue, 1)], VIRTIO_BLK_S_IOERR },
            { "sum wraps to 0", s_disk, VIRTIO_BLK_T_DISCARD, 16, [Segment(ulong.MaxValue - 9, 10)], VIRTIO_BLK_S_IOERR },
            { "0xffffffff sectors", s_disk with { Discard = new SegmentLimits(uint.MaxValue, 2) }, VIRTIO_BLK_T_DISCARD, 16, [Segment(0, uint.MaxValue)], VIRTIO_BLK_S_IOERR },
        };
    }

    [Theory]
    [MemberData(nameof(Lists))]
    public void Checks_a_list_of_segments(string what, BlkLimits disk, BlkRequestType type, uint listBytes, BlkSegment[] segments, BlkStatus expected)
    {
        BlkStatus status = disk.CheckSegments(type, listBytes, segments);
        Assert.True(expected == status, $"{what}: expected {expected}, got {status}.");
    }

    [Theory]
    [InlineData(8, 8, VIRTIO_BLK_S_OK)]
    [InlineData(4, 8, VIRTIO_BLK_S_IOERR)]
    [InlineData(8, 4, VIRTIO_BLK_S_IOERR)]
    public void A_segment_is_aligned_to_the_logical_block(ulong sector, uint sectors, BlkStatus expected) =>
        Assert.Equal(
            expected,
            (s_disk with { LogicalBlockBytes = 4096 }).CheckSegments(VIRTIO_BLK_T_DISCARD, 16, [Segment(sector, sectors)]));

    private static BlkSegment Segment(ulong sector, uint sectors, uint flags = 0) => new() { Sector = sector, SectorCount = sectors, Flags = flags };
}
