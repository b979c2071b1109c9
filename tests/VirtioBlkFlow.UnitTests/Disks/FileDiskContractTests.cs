using Mono.Unix.Native;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.File;
using VirtioBlkFlow.UnitTests.Device;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Disks;

/// <summary>What every file disk does, whatever engine it has and whether the page cache is in between.</summary>
public sealed class FileDiskContractTests : IDisposable
{
    private const int Half = DiskBench.MemoryBytes / 2;
    private readonly TemporaryImage _image = new(4 << 20);

    public void Dispose() => _image.Dispose();

    public static TheoryData<IoEngineKind, bool> Ways
    {
        get
        {
            var ways = new TheoryData<IoEngineKind, bool>();
            foreach (IoEngineKind engine in Enum.GetValues<IoEngineKind>())
            {
                ways.Add(engine, false);
                ways.Add(engine, true);
            }

            return ways;
        }
    }

    [Theory]
    [MemberData(nameof(Ways))]
    public void What_was_written_is_read_again_in_any_number_of_pieces(IoEngineKind engine, bool direct)
    {
        using FileDisk disk = _image.Open(direct: direct);
        using var bench = new DiskBench(disk, engine);
        var random = new Random(1);
        foreach (int pieces in new[] { 1, 2, 3, 126, 128, 1000, 1024, 1032, 2000 })
        {
            // Even with blocks of 4096 the whole is a multiple of one.
            int pieceBytes = pieces % 8 == 0 ? 512 : pieces < 200 ? 4096 : 1024;
            int length = pieces * pieceBytes;
            random.NextBytes(bench.Memory[..length]);
            byte[] written = bench.Memory[..length].ToArray();
            Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Write, 8192, 0, pieces, pieceBytes, durable: pieces == 3));
            Assert.Equal(written, _image.Read(8192, length));
            bench.Memory.Slice(Half, length).Clear();
            Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Read, 8192, Half, pieces, pieceBytes));
            Assert.True(bench.Memory.Slice(Half, length).SequenceEqual(written), $"{pieces} pieces of {pieceBytes} bytes are read as written.");
        }

        Assert.Equal(DiskOutcome.Done, bench.Flush());
        Assert.Equal(DiskOutcome.Done, disk.Flush());
    }

    [Theory]
    [MemberData(nameof(Ways))]
    public void Memory_at_odd_addresses_works_and_nothing_beside_it_is_touched(IoEngineKind engine, bool direct)
    {
        using FileDisk disk = _image.Open(direct: direct);
        using var bench = new DiskBench(disk, engine);
        foreach ((int shift, int pieces, int pieceBytes) in new[] { (1, 1, 4096), (7, 4096, 1), (513, 4, 1024), (3, 96, 4096) })
        {
            int length = pieces * pieceBytes;
            new Random(shift).NextBytes(bench.Memory.Slice(shift, length));
            byte[] written = bench.Memory.Slice(shift, length).ToArray();
            Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Write, 0, shift, pieces, pieceBytes));
            Assert.Equal(written, _image.Read(0, length));
            bench.Memory.Slice(Half, length + 1024).Fill(0xee);
            Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Read, 0, Half + shift, pieces, pieceBytes));
            Assert.True(bench.Memory.Slice(Half + shift, length).SequenceEqual(written));
            Assert.Equal(0xee, bench.Memory[Half + shift - 1]);
            Assert.Equal(0xee, bench.Memory[Half + shift + length]);
        }
    }

    [Theory]
    [MemberData(nameof(Ways))]
    public void Many_requests_at_once_all_end(IoEngineKind engine, bool direct)
    {
        const int Requests = 500;
        using FileDisk disk = _image.Open(direct: direct);
        using var bench = new DiskBench(disk, engine);
        for (int i = 0; i < Requests; i++)
        {
            bench.Memory.Slice(i * 4096, 4096).Fill((byte)i);
            bench.Start(i, DiskOperation.Write, (ulong)i * 4096, i * 4096, 1, 4096);
        }

        Assert.All(bench.Finish(Requests), one => Assert.Equal(DiskOutcome.Done, one.Value));
        byte[] contents = _image.Read(0, Requests * 4096);
        for (int i = 0; i < Requests; i++)
        {
            Assert.Equal(-1, contents.AsSpan(i * 4096, 4096).IndexOfAnyExcept((byte)i));
        }
    }

    [Theory]
    [MemberData(nameof(Ways))]
    public void A_discard_gives_space_back(IoEngineKind engine, bool direct)
    {
        using FileDisk disk = _image.Open(direct: direct);
        using var bench = new DiskBench(disk, engine);
        FillImage(bench);
        long before = BlocksOf(_image.Path);
        Assert.Equal(DiskOutcome.Done, bench.Ranges(DiskOperation.Discard, durable: true, new DiskRange(0, 1 << 20, false), new DiskRange(2 << 20, 1 << 20, false)));
        Assert.InRange(before - BlocksOf(_image.Path), 2 << 11, 1 << 20);
        Assert.Equal(4 << 20, new FileInfo(_image.Path).Length);
        Assert.Equal(-1, _image.Read(1 << 20, 1 << 20).AsSpan().IndexOfAnyExcept((byte)0x5a));
        Assert.Equal(-1, _image.Read(3 << 20, 1 << 20).AsSpan().IndexOfAnyExcept((byte)0x5a));
    }

    [Theory]
    [MemberData(nameof(Ways))]
    public void Zeroed_ranges_read_as_zeros_and_keep_their_space_unless_told(IoEngineKind engine, bool direct)
    {
        using FileDisk disk = _image.Open(direct: direct);
        using var bench = new DiskBench(disk, engine);
        FillImage(bench);
        long before = BlocksOf(_image.Path);
        Assert.Equal(DiskOutcome.Done, bench.Ranges(DiskOperation.WriteZeroes, durable: false, new DiskRange(1 << 20, 1 << 20, MayDeallocate: false)));
        Assert.InRange(BlocksOf(_image.Path), before, before + 64);
        Assert.Equal(DiskOutcome.Done, bench.Ranges(DiskOperation.WriteZeroes, durable: true, new DiskRange(2 << 20, 1 << 20, MayDeallocate: true)));
        Assert.InRange(before - BlocksOf(_image.Path), 1 << 11, 1 << 20);
        bench.Memory[Half..].Fill(0xff);
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Read, 1 << 20, Half, 1, 2 << 20));
        Assert.Equal(-1, bench.Memory.Slice(Half, 2 << 20).IndexOfAnyExcept((byte)0));
        Assert.Equal(0x5a, _image.Read((1 << 20) - 1, 1)[0]);
        Assert.Equal(0x5a, _image.Read(3 << 20, 1)[0]);
    }

    [Theory]
    [MemberData(nameof(Ways))]
    public void A_file_that_was_cut_short_fails_where_it_is_gone(IoEngineKind engine, bool direct)
    {
        using FileDisk disk = _image.Open(direct: direct);
        using var bench = new DiskBench(disk, engine);
        Assert.Equal(0, Syscall.truncate(_image.Path, 8192));
        Assert.Equal(DiskOutcome.Failed, bench.Transfer(DiskOperation.Read, 8192, 0, 1, 4096));
        Assert.Equal(DiskOutcome.Failed, bench.Transfer(DiskOperation.Read, 4096, 0, 1, 8192));
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Read, 4096, 0, 1, 4096));
    }

    [Theory]
    [InlineData(IoEngineKind.IoUring)]
    [InlineData(IoEngineKind.Threads)]
    public void A_read_only_image_refuses_writes_by_itself(IoEngineKind engine)
    {
        using FileDisk disk = _image.Open(readOnly: true);
        using var bench = new DiskBench(disk, engine);
        Assert.Equal(DiskOutcome.Failed, bench.Transfer(DiskOperation.Write, 0, 0, 1, 512));
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Read, 0, 0, 1, 512));
        Assert.Equal(DiskOutcome.Done, bench.Flush());
    }

    [Theory]
    [InlineData(IoEngineKind.IoUring)]
    [InlineData(IoEngineKind.Threads)]
    public void Where_the_file_system_cannot_zero_a_range_zeros_are_written(IoEngineKind engine)
    {
        // tmpfs has no FALLOC_FL_ZERO_RANGE; on another file system this tests once more what others test.
        string folder = Directory.Exists("/dev/shm") ? "/dev/shm" : Path.GetTempPath();
        using var image = new TemporaryImage(4 << 20, folder);
        using FileDisk disk = image.Open();
        using var bench = new DiskBench(disk, engine);
        FillImage(bench);
        Assert.Equal(DiskOutcome.Done, bench.Ranges(
            DiskOperation.WriteZeroes, durable: true, new DiskRange(512, (2 << 20) + 512, false), new DiskRange(3 << 20, 512, true)));
        byte[] contents = image.Read(0, 4 << 20);
        Assert.Equal(0x5a, contents[511]);
        Assert.Equal(-1, contents.AsSpan(512, (2 << 20) + 512).IndexOfAnyExcept((byte)0));
        Assert.Equal(0x5a, contents[(2 << 20) + 1024]);
        Assert.Equal(-1, contents.AsSpan(3 << 20, 512).IndexOfAnyExcept((byte)0));
        Assert.Equal(0x5a, contents[(3 << 20) + 512]);
    }

    private static void FillImage(DiskBench bench)
    {
        bench.Memory.Fill(0x5a);
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Write, 0, 0, 1, 4 << 20, durable: true));
    }

    // In units of 512 bytes, as stat(2) has it.
    private static long BlocksOf(string path)
    {
        Assert.Equal(0, Syscall.stat(path, out Stat stat));
        return stat.st_blocks;
    }
}
