using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Null;
using VirtioBlkFlow.Disks.Wrapping;
using VirtioBlkFlow.Disks.Zoned;
using VirtioBlkFlow.UnitTests.Virtio;
using Xunit;
using Xunit.Abstractions;
using static VirtioBlkFlow.Disks.DiskOutcome;

namespace VirtioBlkFlow.UnitTests.Disks.Wrapping;

public sealed class RangeDiskTests(ITestOutputHelper output)
{
    private static readonly DiskOperation[] s_operations =
        [DiskOperation.Read, DiskOperation.Write, DiskOperation.Discard, DiskOperation.WriteZeroes, DiskOperation.SecureErase];

    [Fact]
    public void Nothing_outside_is_ever_touched_and_everything_inside_arrives_moved()
    {
        var random = new Random(TestSeed.Take(output));
        for (int round = 0; round < 200; round++)
        {
            ulong wholeSectors = (ulong)random.Next(1, 5000);
            ulong start = (ulong)random.NextInt64((long)wholeSectors);
            ulong sectors = (ulong)random.NextInt64(1, (long)(wholeSectors - start) + 1);
            var inner = new AnsweringDisk { Properties = new DiskProperties { CapacityBytes = wholeSectors * 512 } };
            using RangeDisk disk = RangeDisk.Open(inner, new RangeDiskOptions(start, sectors));
            using var bench = new WrappingBench(disk);
            for (int i = 0; i < 20; i++)
            {
                inner.Requests.Clear();
                DiskOperation operation = s_operations[random.Next(s_operations.Length)];
                // Around the end, beyond it, and where a sum would wrap.
                ulong offset = random.Next(8) == 0
                    ? (ulong.MaxValue - (ulong)random.Next(0, 9000)) & ~511ul
                    : 512 * (ulong)random.NextInt64((long)sectors + 4);
                uint length = 512 * (uint)random.Next(0, 64);
                bool isInside = offset <= sectors * 512 && length <= (sectors * 512) - offset;
                bench.Submit(0, operation, offset, length);
                (int, DiskOutcome) ended = Assert.Single(bench.Take());
                Assert.Equal((0, isInside ? Done : Failed), ended);
                if (!isInside)
                {
                    Assert.Empty(inner.Requests);
                    continue;
                }

                Got got = Assert.Single(inner.Requests);
                foreach ((ulong first, ulong bytes) in ExtentsOf(got))
                {
                    Assert.InRange(first, start * 512, (start + sectors) * 512);
                    Assert.InRange(first + bytes, start * 512, (start + sectors) * 512);
                }

                Assert.Equal(offset + (start * 512), ExtentsOf(got)[0].Offset);
                Assert.Equal((ulong)length, ExtentsOf(got).Aggregate(0ul, (sum, extent) => sum + extent.Length));
            }
        }
    }

    [Fact]
    public void One_range_beyond_the_end_keeps_all_of_a_request_out()
    {
        var inner = new AnsweringDisk();
        using RangeDisk disk = RangeDisk.Open(inner, new RangeDiskOptions(8, 16));
        using var bench = new WrappingBench(disk);
        // Two ranges of 512 bytes, of which only the second is outside.
        bench.Submit(0, DiskOperation.Discard, (16 * 512) - 512, 1024);
        Assert.Equal((0, Failed), Assert.Single(bench.Ended));
        Assert.Empty(inner.Requests);
    }

    [Theory]
    [InlineData(8192, 0, "not inside the disk, which has 8192 sectors")]
    [InlineData(9000, null, "not inside the disk")]
    [InlineData(8191, 2, "not inside the disk")]
    [InlineData(1, ulong.MaxValue, "not inside the disk")]
    [InlineData(ulong.MaxValue, null, "not inside the disk")]
    [InlineData(0, 0, "0 sectors")]
    public void A_range_that_is_not_there_is_refused_with_a_remedy(ulong start, object? count, string message)
    {
        var inner = new AnsweringDisk();
        ulong? sectors = count == null ? null : Convert.ToUInt64(count, null);
        if (start == 8192)
        {
            sectors = 1;
        }

        DiskOpenException exception = Assert.Throws<DiskOpenException>(() => RangeDisk.Open(inner, new RangeDiskOptions(start, sectors)));
        Assert.Contains(message, exception.Message, StringComparison.Ordinal);
        Assert.Equal(1, inner.DisposeCount);
    }

    [Theory]
    [InlineData(1, 8)]
    [InlineData(8, 9)]
    [InlineData(12, 8)]
    public void A_range_that_cuts_blocks_of_the_disk_is_refused(ulong start, ulong count)
    {
        var inner = new AnsweringDisk { Properties = new DiskProperties { CapacityBytes = 1 << 20, LogicalBlockBytes = 4096, PhysicalBlockBytes = 4096 } };
        DiskOpenException exception = Assert.Throws<DiskOpenException>(() => RangeDisk.Open(inner, new RangeDiskOptions(start, count)));
        Assert.Contains("multiples of 8 sectors", exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_disk_with_zones_has_no_range()
    {
        var inner = new AnsweringDisk();
        inner.Properties = inner.Properties with { Zones = new ZoneGeometry { ZoneBytes = 1 << 20 } };
        Assert.Throws<DiskOpenException>(() => RangeDisk.Open(inner, new RangeDiskOptions(0)));
    }

    [Theory]
    [InlineData(0, 4096)]
    [InlineData(8, 4096)]
    [InlineData(2048, 4096)]
    [InlineData(1, 512)]
    [InlineData(63, 512)]
    [InlineData(66, 1024)]
    [InlineData(4, 2048)]
    public void A_start_inside_a_physical_block_makes_smaller_physical_blocks(ulong start, uint physicalBytes)
    {
        var inner = new AnsweringDisk { Properties = new DiskProperties { CapacityBytes = 4 << 20, PhysicalBlockBytes = 4096, CanDiscard = true, ReadOnly = true } };
        using RangeDisk disk = RangeDisk.Open(inner, new RangeDiskOptions(start, 100));
        Assert.Equal(inner.Properties with { CapacityBytes = 51200, PhysicalBlockBytes = physicalBytes }, disk.Properties);
    }

    [Fact]
    public void A_range_of_fixed_length_shrinks_with_the_disk_and_grows_back_but_not_beyond()
    {
        var inner = new AnsweringDisk();
        using RangeDisk disk = RangeDisk.Open(inner, new RangeDiskOptions(2048, 4096));
        using var bench = new WrappingBench(disk);
        inner.NewCapacityBytes = 2 << 20;
        Assert.Equal(new DiskResize(2 << 20, 1 << 20, 0), disk.Refresh());
        bench.Submit(0, DiskOperation.Write, 1 << 20, 512);
        Assert.Equal((0, Failed), Assert.Single(bench.Take()));
        inner.NewCapacityBytes = 512;
        Assert.Equal(new DiskResize(1 << 20, 0, 0), disk.Refresh());
        bench.Submit(0, DiskOperation.Read, 0, 512);
        Assert.Equal((0, Failed), Assert.Single(bench.Take()));
        Assert.Empty(inner.Requests);
        inner.NewCapacityBytes = 8 << 20;
        Assert.Equal(new DiskResize(0, 2 << 20, 0), disk.Refresh());
    }

    [Fact]
    public void A_range_to_the_end_follows_it()
    {
        var inner = new AnsweringDisk();
        using RangeDisk disk = RangeDisk.Open(inner, new RangeDiskOptions(2048));
        Assert.Equal(3ul << 20, disk.Properties.CapacityBytes);
        inner.NewCapacityBytes = 8 << 20;
        Assert.Equal(new DiskResize(3 << 20, 7 << 20, 0), disk.Refresh());
    }

    [Fact]
    public void A_flush_goes_through_and_what_zones_have_does_not()
    {
        var inner = new AnsweringDisk();
        using RangeDisk disk = RangeDisk.Open(inner, new RangeDiskOptions(8, 8));
        using var bench = new WrappingBench(disk);
        bench.Submit(0, DiskOperation.Flush);
        bench.Submit(1, DiskOperation.ZoneResetAll);
        bench.Submit(2, DiskOperation.Append);
        Assert.Equal([(0, Done), (1, Unsupported), (2, Unsupported)], bench.Take());
        Assert.Equal(DiskOperation.Flush, Assert.Single(inner.Requests).Operation);
    }

    [Fact]
    public void A_range_of_a_range_is_the_sum_of_both()
    {
        using RangeDisk disk = RangeDisk.Open(
            RangeDisk.Open(NullDisk.Open(new NullDiskOptions(1 << 20)), new RangeDiskOptions(100, 200)), new RangeDiskOptions(50, 150));
        Assert.Equal(150ul * 512, disk.Properties.CapacityBytes);
    }

    private static (ulong Offset, ulong Length)[] ExtentsOf(Got got) => got.Ranges.Length > 0
        ? [.. got.Ranges.Select(range => (range.OffsetBytes, range.LengthBytes))]
        : [(got.OffsetBytes, got.LengthBytes)];
}
