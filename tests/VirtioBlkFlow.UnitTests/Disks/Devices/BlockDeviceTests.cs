using Microsoft.Win32.SafeHandles;
using Mono.Unix.Native;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.File;
using VirtioBlkFlow.Disks.Presented;
using VirtioBlkFlow.Disks.Wrapping;
using VirtioBlkFlow.UnitTests.Abi;
using VirtioBlkFlow.UnitTests.Device;
using VirtioBlkFlow.UnitTests.Disks.Health;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Disks.Devices;

/// <summary>What a block device has beyond a file: limits that are read from it, discards of its own, and an end while it is in use.</summary>
public sealed class BlockDeviceTests
{
    private const int SizeBytes = 4 << 20;

    // The first Linux with BLOCK_URING_CMD_DISCARD.
    private static readonly Version s_firstWithDiscardCommand = new(6, 12);

    public static TheoryData<IoEngineKind> Engines => [.. Enum.GetValues<IoEngineKind>()];

    [Theory]
    [InlineData(512, false)]
    [InlineData(512, true)]
    [InlineData(4096, false)]
    [InlineData(4096, true)]
    public void What_a_device_is_like_is_read_from_it(int sectorBytes, bool direct)
    {
        using var loop = new LoopDevice(SizeBytes, sectorBytes, direct: true);
        using FileDisk disk = FileDisk.Open(new FileDiskOptions(loop.Path, Direct: direct));
        DiskProperties properties = disk.Properties;
        Assert.Equal((ulong)SizeBytes, properties.CapacityBytes);
        Assert.Equal(sectorBytes, (int)properties.LogicalBlockBytes);
        Assert.Equal(loop.Limit("logical_block_size"), properties.LogicalBlockBytes);
        Assert.Equal(loop.Limit("physical_block_size"), properties.PhysicalBlockBytes);
        Assert.Equal(loop.Limit("discard_granularity"), properties.DiscardGranularityBytes);
        Assert.True(properties is { CanDiscard: true, CanWriteZeroes: true, CanSecureErase: false });
    }

    [Theory]
    [InlineData(4096, 16384, true, true)]
    [InlineData(0, 0, false, true)]
    [InlineData(1000, 4096, true, true)]
    [InlineData(4096, 0, true, false)]
    public void What_sysfs_says_of_the_queue_counts_for_the_device_and_its_partitions(int granularity, int zeroesMax, bool discards, bool partition)
    {
        using var image = new TemporaryImage();
        using var sysfs = new SysfsTree();
        sysfs.SetQueue(granularity, discards ? 1 << 20 : 0, zeroesMax);
        var device = new DeviceNumber(8, partition ? 1u : 0u);
        var host = new BlockDeviceHost { SysfsRoot = sysfs.Root, NumberOf = _ => device, CanSecureErase = static _ => false };
        using FileDisk disk = FileDisk.Open(new FileDiskOptions(image.Path), host);
        Assert.Equal(discards, disk.Properties.CanDiscard);
        Assert.True(disk.Properties.CanWriteZeroes);
        Assert.Equal(granularity == 4096 ? 4096u : 0, disk.Properties.DiscardGranularityBytes);
        Assert.Equal(zeroesMax == 0, disk.ZeroesAreWritten);
    }

    [Fact]
    public void A_part_and_other_blocks_keep_the_granularity_only_where_it_still_fits()
    {
        DiskProperties properties = new() { CapacityBytes = SizeBytes, CanDiscard = true, DiscardGranularityBytes = 8192 };
        Assert.Equal(8192u, Range(16).DiscardGranularityBytes);
        Assert.Equal(0u, Range(8).DiscardGranularityBytes);
        Assert.Equal(8192u, Shown(4096).DiscardGranularityBytes);
        Assert.Equal(0u, Shown(16384).DiscardGranularityBytes);

        DiskProperties Range(ulong start) => RangeDisk.Open(new HeldDisk { Properties = properties }, new RangeDiskOptions(start)).Properties;
        DiskProperties Shown(uint bytes) => PresentedDisk.Open(new HeldDisk { Properties = properties }, new BlockSizes(bytes, bytes)).Properties;
    }

    [Fact]
    public void A_device_without_a_command_for_zeros_is_asked_to_write_them()
    {
        using var image = new TemporaryImage();
        using var sysfs = new SysfsTree();
        sysfs.SetQueue(4096, 1 << 20, 0);
        var host = new BlockDeviceHost { SysfsRoot = sysfs.Root, NumberOf = static _ => new DeviceNumber(8, 0), CanSecureErase = static _ => false };
        using FileDisk disk = FileDisk.Open(new FileDiskOptions(image.Path), host);
        using var bench = new DiskBench(disk, IoEngineKind.Threads);
        image.Write(0, [1, 2, 3]);
        Assert.Equal(DiskOutcome.Done, bench.Ranges(DiskOperation.WriteZeroes, durable: true, new DiskRange(0, 4096, MayDeallocate: true)));
        Assert.Equal([0, 0, 0], image.Read(0, 3));
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void Discards_reach_what_is_behind_the_device(IoEngineKind engine)
    {
        using var loop = new LoopDevice(SizeBytes, 512);
        using FileDisk disk = FileDisk.Open(new FileDiskOptions(loop.Path, Direct: true));
        using var bench = new DiskBench(disk, engine);
        bench.Memory.Fill(0x5a);
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Write, 0, 0, 4, SizeBytes / 4, durable: true));
        long before = BlocksOf(loop.FilePath);
        Assert.Equal(DiskOutcome.Done, bench.Ranges(
            DiskOperation.Discard, durable: true, new DiskRange(0, 1 << 20, false), new DiskRange(0, 0, false), new DiskRange(2 << 20, 1 << 20, false)));
        Assert.Equal(before - (4 << 10), BlocksOf(loop.FilePath));
        // Where the ring was asked and the kernel is too old, it is not asked again.
        bool isTooOld = engine == IoEngineKind.IoUring && Environment.OSVersion.Version < s_firstWithDiscardCommand;
        Assert.Equal(!isTooOld, disk.CanDiscardByCommand);
    }

    [Fact]
    public void A_command_that_the_kernel_does_not_know_gives_way_to_the_ioctl_once_and_for_all()
    {
        using var disk = new ScriptedDisk(direct: true, canErase: true);
        disk.Engine.HasDiscardCommand = true;
        DiskRange[] ranges = [new(4096, 8192, false), new(65536, 512, false)];
        disk.Ranges(0, DiskOperation.Discard, durable: false, ranges);
        Assert.Equal((FakeCall.Discard, 4096ul, 8192ul), Place(disk.End(-ScriptedDisk.EOPNOTSUPP)));
        Assert.Equal((FakeCall.Ioctl, 4096ul, 8192ul), Place(disk.End(0)));
        FakeOperation second = disk.End(0);
        Assert.Equal((FakeCall.Ioctl, 65536ul, 512ul), Place(second));
        Assert.Equal(CProgram.Evaluate(["sys/ioctl.h", "linux/fs.h"], ["BLKDISCARD"])["BLKDISCARD"], second.Mode);
        Assert.Equal(DiskOutcome.Done, disk.OutcomeOf(0));
    }

    [Fact]
    public void The_command_to_discard_has_the_number_of_the_header()
    {
        // <linux/blkdev.h> came with Linux 6.12; before, there is only how its numbers are made.
        const string Header = "linux/blkdev.h";
        string[] headers = ["sys/ioctl.h", .. File.Exists($"/usr/include/{Header}") ? [Header] : Array.Empty<string>()];
        IReadOnlyDictionary<string, long> values = CProgram.Evaluate(headers, ["_IO(0x12, 0)"], [nameof(LibC.BLOCK_URING_CMD_DISCARD)]);
        Assert.All(values.Values, static value => Assert.Equal(LibC.BLOCK_URING_CMD_DISCARD, value));
    }

    [Fact]
    public void With_the_page_cache_in_use_the_command_is_not_for_us()
    {
        using var disk = new ScriptedDisk(canErase: true);
        disk.Engine.HasDiscardCommand = true;
        disk.Ranges(0, DiskOperation.Discard, durable: false, new DiskRange(4096, 8192, false));
        Assert.Equal((FakeCall.Ioctl, 4096ul, 8192ul), Place(disk.End(0)));
        Assert.Equal(DiskOutcome.Done, disk.OutcomeOf(0));
    }

    [Theory]
    [InlineData(ScriptedDisk.EOPNOTSUPP, DiskOutcome.Done)]
    [InlineData(ScriptedDisk.EIO, DiskOutcome.Failed)]
    public void A_device_that_does_not_discard_has_heard_the_hint_and_errors_are_errors(int errno, DiskOutcome expected)
    {
        using var disk = new ScriptedDisk(canErase: true);
        disk.Ranges(0, DiskOperation.Discard, durable: false, new DiskRange(4096, 8192, false));
        Assert.Equal(FakeCall.Ioctl, disk.End(-ScriptedDisk.EINTR).Call);
        Assert.Equal(FakeCall.Ioctl, disk.End(-errno).Call);
        Assert.Equal(expected, disk.OutcomeOf(0));
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void A_device_that_is_taken_away_in_flight_ends_every_request(IoEngineKind engine)
    {
        const int Requests = 200;
        using var loop = new LoopDevice(SizeBytes, 512);
        using FileDisk disk = FileDisk.Open(new FileDiskOptions(loop.Path, Direct: true));
        using var bench = new DiskBench(disk, engine);
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Write, 0, 0, 1, 4096));
        for (int i = 0; i < Requests; i++)
        {
            bench.Start(i, i % 2 == 0 ? DiskOperation.Write : DiskOperation.Read, (ulong)(i * 16384), i * 4096, 1, 4096);
            if (i == Requests / 2)
            {
                loop.Resize(0);
            }
        }

        Dictionary<int, DiskOutcome> outcomes = bench.Finish(Requests);
        Assert.All(outcomes.Values, static outcome => Assert.True(outcome is DiskOutcome.Done or DiskOutcome.Failed, $"It ended as {outcome}."));
        // What began after that, and lies behind all that was under way, has failed, and not for want of space: nobody can make some.
        Assert.All(outcomes.Where(static one => one.Key > Requests / 2), static one => Assert.Equal(DiskOutcome.Failed, one.Value));
        // Writes that were under way have made the file behind it longer, and given the device some bytes.
        loop.Resize(0);
        Assert.Equal(DiskOutcome.Failed, bench.Transfer(DiskOperation.Write, 0, 0, 1, 4096));
        Assert.Equal(DiskOutcome.Failed, bench.Transfer(DiskOperation.Read, 0, 0, 1, 4096));
        Assert.Equal(DiskOutcome.Failed, bench.Ranges(DiskOperation.WriteZeroes, durable: false, new DiskRange(0, 4096, false)));
        Assert.Equal(DiskOutcome.Failed, bench.Ranges(DiskOperation.Discard, durable: false, new DiskRange(0, 4096, false)));
        // Its size is still what it was: a driver that asked would take an empty disk for a fact.
        Assert.Equal(new DiskResize(SizeBytes, SizeBytes, 0), disk.Refresh());
    }

    [Theory]
    [InlineData(IoEngineKind.IoUring, false)]
    [InlineData(IoEngineKind.IoUring, true)]
    [InlineData(IoEngineKind.Threads, false)]
    [InlineData(IoEngineKind.Threads, true)]
    public void What_is_full_says_so_and_goes_on_when_there_is_space_again(IoEngineKind engine, bool throughLoop)
    {
        const int SpaceBytes = 1 << 20;
        using var small = new SmallFileSystem(SpaceBytes);
        using LoopDevice? loop = throughLoop ? new LoopDevice(SizeBytes, 512, small.Root) : null;
        string image = Path.Combine(small.Root, "disk.img");
        using (SafeFileHandle file = File.OpenHandle(image, FileMode.Create, FileAccess.Write))
        {
            RandomAccess.SetLength(file, throughLoop ? 0 : SizeBytes);
        }

        using FileDisk disk = FileDisk.Open(new FileDiskOptions(loop?.Path ?? image, Direct: throughLoop));
        using var bench = new DiskBench(disk, engine);
        bench.Memory.Fill(0x5a);
        DiskOutcome[] outcomes = [.. Enumerable.Range(0, 8).Select(i => bench.Transfer(DiskOperation.Write, (ulong)i * (SpaceBytes / 4), 0, 1, SpaceBytes / 4))];
        Assert.Equal(DiskOutcome.Done, outcomes[0]);
        Assert.Equal(DiskOutcome.NoSpace, outcomes[^1]);
        Assert.All(outcomes, static outcome => Assert.True(outcome is DiskOutcome.Done or DiskOutcome.NoSpace, $"It ended as {outcome}."));
        Assert.Equal(DiskOutcome.Done, bench.Ranges(DiskOperation.Discard, durable: false, new DiskRange(0, SizeBytes, false)));
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Write, 7 * (SpaceBytes / 4), 0, 1, SpaceBytes / 4));
    }

    private static (FakeCall Call, ulong Offset, ulong Length) Place(FakeOperation operation) => (operation.Call, operation.OffsetBytes, operation.LengthBytes);

    // Of 512 bytes.
    private static long BlocksOf(string path)
    {
        Assert.Equal(0, Syscall.stat(path, out Stat stat));
        return stat.st_blocks;
    }
}
