using System.Diagnostics;
using Mono.Unix.Native;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.Exchange;
using VirtioBlkFlow.Disks.File;
using VirtioBlkFlow.UnitTests.Device;
using Xunit;
using static VirtioBlkFlow.Disks.DiskOutcome;

namespace VirtioBlkFlow.UnitTests.Disks.Exchange;

public sealed class ExchangeDiskTests
{
    private const int Status = 24;

    public static TheoryData<IoEngineKind> Engines => [.. Enum.GetValues<IoEngineKind>()];

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(511)]
    [InlineData(512)]
    [InlineData(513)]
    [InlineData(4096)]
    [InlineData(70_001)]
    public void The_guest_reads_the_input_and_behind_it_zeros(int length)
    {
        byte[] input = new byte[length];
        new Random(length).NextBytes(input);
        using var folder = new ExchangeFolder(input);
        foreach (IoEngineKind engine in Enum.GetValues<IoEngineKind>())
        {
            using ExchangeDisk disk = ExchangeDisk.Open(folder.Options with { InputSectors = 160 });
            using var bench = new DiskBench(disk, engine);
            bench.Memory.Fill(0xee);
            // In pieces of odd lengths, so that the end of the input is inside of one.
            bench.StartSplit(0, DiskOperation.Read, 0, 0, [1, 4000, 95, 512, 60_000, (160 * 512) - 64_608]);
            Assert.Equal(Done, Assert.Single(bench.Finish(1)).Value);
            Assert.True(bench.Memory[..length].SequenceEqual(input));
            Assert.Equal(-1, bench.Memory[length..(160 * 512)].IndexOfAnyExcept((byte)0));
            Assert.Equal(0xee, bench.Memory[160 * 512]);
        }
    }

    [Fact]
    public void The_input_cannot_be_written()
    {
        using var folder = new ExchangeFolder([1, 2, 3]);
        using ExchangeDisk disk = Open(folder);
        using var bench = new DiskBench(disk, IoEngineKind.Threads);
        Assert.False(disk.Properties.ReadOnly);
        Assert.Equal(Failed, bench.Transfer(DiskOperation.Write, 0, 0, 1, 512));
        Assert.Equal(Failed, bench.Transfer(DiskOperation.Write, 7 * 512, 0, 1, 1024));
        Assert.Equal(Failed, bench.Ranges(DiskOperation.Discard, false, new DiskRange(0, 8192, false)));
        Assert.Equal(Done, bench.Transfer(DiskOperation.Read, 8 * 512, 4096, 1, 512));
        Assert.Equal(-1, bench.Memory[4096..4608].IndexOfAnyExcept((byte)0));
        Assert.Equal([1, 2, 3], File.ReadAllBytes(folder.InputPath));
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void The_output_has_the_length_of_the_mark_and_is_there_when_it_is_saved(IoEngineKind engine)
    {
        using var folder = new ExchangeFolder([1, 2, 3]);
        File.WriteAllText(folder.OutputPath, "as it was");
        const FilePermissions Mode = FilePermissions.S_IRUSR | FilePermissions.S_IWUSR | FilePermissions.S_IRGRP;
        Assert.Equal(0, Syscall.chmod(folder.OutputPath, Mode));
        byte[] output = new byte[5000];
        new Random(1).NextBytes(output);
        using (ExchangeDisk disk = Open(folder))
        {
            using (var bench = new DiskBench(disk, engine))
            {
                output.CopyTo(bench.Memory);
                Assert.Equal(Done, bench.Transfer(DiskOperation.Write, 8 * 512, 0, 2, 2560));
                Assert.False(disk.Marked.IsCompleted);
                Assert.Equal(Done, WriteStatus(bench, ExchangeLayoutTests.Mark(1, 5000, 0)));
                Eventually.Ends(disk.Marked, "the mark");
                Assert.Equal("as it was", File.ReadAllText(folder.OutputPath));
                // It is closed: what comes later is not part of it.
                Assert.Equal(Failed, WriteStatus(bench, ExchangeLayoutTests.Mark(2, 0, 0)));
                Assert.False(disk.IsSpoiled);
                Assert.Equal(Done, bench.Transfer(DiskOperation.Read, 8 * 512, 16384, 1, 512));
                Assert.Equal(Done, bench.Flush());
            }

            disk.SaveOutput();
        }

        Assert.Equal(output, File.ReadAllBytes(folder.OutputPath));
        Assert.Equal(0, Syscall.stat(folder.OutputPath, out Stat stat));
        Assert.Equal(Mode, stat.st_mode & FilePermissions.ALLPERMS);
        folder.AssertHolds("input", "output");
        Assert.Empty(folder.Refusals);
    }

    [Theory]
    [InlineData(DiskOperation.Write)]
    [InlineData(DiskOperation.Discard)]
    [InlineData(DiskOperation.WriteZeroes)]
    public void Who_changes_the_output_after_the_mark_had_not_flushed_it(DiskOperation operation)
    {
        using var folder = new ExchangeFolder([1, 2, 3]);
        using ExchangeDisk disk = Open(folder);
        using (var bench = new DiskBench(disk, IoEngineKind.Threads))
        {
            Assert.Equal(Done, WriteStatus(bench, ExchangeLayoutTests.Mark(1, 100, 0)));
            Assert.Equal(Failed, operation == DiskOperation.Write
                ? bench.Transfer(DiskOperation.Write, 23 * 512, 8192, 1, 512)
                : bench.Ranges(operation, false, new DiskRange(0, 512, false), new DiskRange(23 * 512, 512, false)));
        }

        Assert.True(disk.IsSpoiled);
        Assert.Throws<InvalidOperationException>(disk.SaveOutput);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(512)]
    [InlineData(8192)]
    public void Output_that_was_not_written_is_zeros(int length)
    {
        using var folder = new ExchangeFolder([]);
        using (ExchangeDisk disk = Open(folder))
        {
            Assert.Equal(0ul, disk.Layout.OutputSector);
            using (var bench = new DiskBench(disk, IoEngineKind.Threads))
            {
                ExchangeLayoutTests.Mark(1, (ulong)length, 0).CopyTo(bench.Memory);
                Assert.Equal(Done, bench.Transfer(DiskOperation.Write, 16 * 512, 0, 1, 512));
            }

            disk.SaveOutput();
        }

        Assert.Equal(new byte[length], File.ReadAllBytes(folder.OutputPath));
    }

    [Fact]
    public void Without_a_mark_nothing_becomes_of_the_output()
    {
        using var folder = new ExchangeFolder([1]);
        File.WriteAllText(folder.OutputPath, "as it was");
        using (ExchangeDisk disk = Open(folder))
        {
            using var bench = new DiskBench(disk, IoEngineKind.Threads);
            Assert.Equal(Done, bench.Transfer(DiskOperation.Write, 8 * 512, 0, 1, 512));
            Assert.Throws<InvalidOperationException>(disk.SaveOutput);
        }

        Assert.Equal("as it was", File.ReadAllText(folder.OutputPath));
        folder.AssertHolds("input", "output");
    }

    [Fact]
    public void A_guest_that_fails_leaves_no_output()
    {
        using var folder = new ExchangeFolder([1]);
        using (ExchangeDisk disk = Open(folder))
        {
            using var bench = new DiskBench(disk, IoEngineKind.Threads);
            Assert.Equal(Done, WriteStatus(bench, ExchangeLayoutTests.Mark(2, 100, 7, "disk full")));
            Assert.Equal(new ExchangeMark(false, 100, 7, "disk full"), Eventually.Result(disk.Marked, "the mark"));
            Assert.Throws<InvalidOperationException>(disk.SaveOutput);
        }

        folder.AssertHolds("input");
    }

    [Fact]
    public void Only_a_mark_and_the_header_as_it_is_can_be_written_to_the_status_sector()
    {
        using var folder = new ExchangeFolder([1]);
        using ExchangeDisk disk = Open(folder);
        using var bench = new DiskBench(disk, IoEngineKind.Threads);
        byte[] header = new byte[512];
        disk.Layout.WriteHeader(header);
        Assert.Equal(Failed, WriteStatus(bench, new byte[512]));
        Assert.Equal(Failed, WriteStatus(bench, ExchangeLayoutTests.Mark(1, 8193, 0)));
        Assert.Equal(Failed, bench.Ranges(DiskOperation.Discard, false, new DiskRange(8 * 512, 17 * 512, false)));
        Assert.Equal(Failed, bench.Ranges(DiskOperation.WriteZeroes, false, new DiskRange(8 * 512, 512, false), new DiskRange(Status * 512, 512, false)));
        Assert.Equal(4, folder.Refusals.Count);
        // A page of the guest's cache, of which it has changed the rest.
        header.CopyTo(bench.Memory);
        bench.Memory[512..4096].Fill(0x5a);
        Assert.Equal(Done, bench.Transfer(DiskOperation.Write, Status * 512, 0, 1, 4096));
        Assert.Equal(Done, bench.Transfer(DiskOperation.Read, Status * 512, 8192, 1, 512));
        Assert.True(bench.Memory.Slice(8192, 512).SequenceEqual(header));
        Assert.False(disk.Marked.IsCompleted);
        // Neither has any of it kept the real one from counting, from the middle of a request in small pieces.
        bench.Memory[..512].Clear();
        ExchangeLayoutTests.Mark(1, 8192, 0).CopyTo(bench.Memory[512..]);
        bench.StartSplit(0, DiskOperation.Write, (Status - 1) * 512, 0, [500, 20, 3, 501, 512]);
        Assert.Equal(Done, Assert.Single(bench.Finish(1)).Value);
        Assert.Equal(8192ul, Eventually.Result(disk.Marked, "the mark").OutputBytes);
    }

    [Fact]
    public void A_mark_beside_writes_in_flight_does_not_count()
    {
        using var folder = new ExchangeFolder([1]);
        using ExchangeDisk disk = Open(folder);
        using var engine = new FakeEngine();
        var ended = new Dictionary<int, DiskOutcome>();
        using IDiskQueue queue = disk.OpenQueue(engine, new Recorder(ended), 4);
        Write(queue, 0, 8 * 512, new byte[512]);
        Write(queue, 1, Status * 512, ExchangeLayoutTests.Mark(1, 512, 0));
        Assert.Equal((1, Failed), (Assert.Single(ended).Key, ended[1]));
        Assert.Contains("in flight", Assert.Single(folder.Refusals), StringComparison.Ordinal);
        // The same the other way round: a write that begins while the mark is on its way.
        queue.OnIoCompleted(0, 512);
        Write(queue, 1, Status * 512, ExchangeLayoutTests.Mark(1, 512, 0));
        Write(queue, 0, 8 * 512, new byte[512]);
        ended.Clear();
        queue.OnIoCompleted(1, 512);
        Assert.Empty(ended);
        queue.OnIoCompleted(1, 0);
        Assert.Equal(Failed, ended[1]);
        queue.OnIoCompleted(0, 512);
        Assert.False(disk.Marked.IsCompleted);
        // And alone: written, flushed, and then it counts.
        ended.Clear();
        Write(queue, 1, Status * 512, ExchangeLayoutTests.Mark(1, 512, 0));
        queue.OnIoCompleted(1, 512);
        Assert.Empty(ended);
        Assert.False(disk.Marked.IsCompleted);
        queue.OnIoCompleted(1, 0);
        Assert.Equal(Done, ended[1]);
        Assert.True(disk.Marked.IsCompletedSuccessfully);
    }

    [Fact]
    public void A_mark_whose_output_cannot_be_made_durable_fails_and_ends_the_exchange()
    {
        const int EIO = 5;
        using var folder = new ExchangeFolder([1]);
        using ExchangeDisk disk = Open(folder);
        using var engine = new FakeEngine();
        var ended = new Dictionary<int, DiskOutcome>();
        using IDiskQueue queue = disk.OpenQueue(engine, new Recorder(ended), 4);
        Write(queue, 1, Status * 512, ExchangeLayoutTests.Mark(1, 512, 0));
        queue.OnIoCompleted(1, 512);
        queue.OnIoCompleted(1, -EIO);
        Assert.Equal(Failed, ended[1]);
        Assert.Throws<IOException>(() => Eventually.Ends(disk.Marked, "the mark"));
        Assert.Throws<InvalidOperationException>(disk.SaveOutput);
    }

    [Fact]
    public void An_input_cut_short_meanwhile_is_an_error_and_not_zeros()
    {
        using var folder = new ExchangeFolder(new byte[8192]);
        using ExchangeDisk disk = ExchangeDisk.Open(folder.Options);
        using var bench = new DiskBench(disk, IoEngineKind.Threads);
        using (FileStream input = File.Open(folder.InputPath, FileMode.Open, FileAccess.Write, FileShare.ReadWrite))
        {
            input.SetLength(4096);
        }

        Assert.Equal(Done, bench.Transfer(DiskOperation.Read, 0, 0, 1, 4096));
        Assert.Equal(Failed, bench.Transfer(DiskOperation.Read, 0, 0, 1, 8192));
    }

    [Fact]
    public void An_input_that_grows_meanwhile_ends_where_it_ended()
    {
        using var folder = new ExchangeFolder([1, 2, 3]);
        using ExchangeDisk disk = ExchangeDisk.Open(folder.Options);
        using var bench = new DiskBench(disk, IoEngineKind.Threads);
        File.AppendAllText(folder.InputPath, "more");
        Assert.Equal(Done, bench.Transfer(DiskOperation.Read, 0, 0, 1, 512));
        Assert.Equal([1, 2, 3, 0, 0], bench.Memory[..5].ToArray());
    }

    [Fact]
    public void A_pipe_and_a_file_of_the_kernel_are_read_to_their_end_first()
    {
        using var folder = new ExchangeFolder([]);
        using (Process.Start("mkfifo", folder["pipe"])!)
        {
        }

        Eventually.Holds(() => File.Exists(folder["pipe"]), "the pipe");
        byte[] data = new byte[100_000];
        new Random(3).NextBytes(data);
        Task writing = Task.Run(() =>
        {
            using FileStream pipe = File.OpenWrite(folder["pipe"]);
            pipe.Write(data);
        });
        using (ExchangeDisk disk = Eventually.Returns(() => ExchangeDisk.Open(new ExchangeOptions(folder["pipe"], folder.OutputPath)), "a pipe that ends"))
        {
            Assert.Equal(100_000ul, disk.Layout.InputBytes);
            using var bench = new DiskBench(disk, IoEngineKind.Threads);
            Assert.Equal(Done, bench.Transfer(DiskOperation.Read, 0, 0, 1, 100_352));
            Assert.True(bench.Memory[..100_000].SequenceEqual(data));
        }

        Eventually.Ends(writing, "the writer of the pipe");
        using (ExchangeDisk kernel = ExchangeDisk.Open(new ExchangeOptions("/proc/version", folder.OutputPath)))
        {
            Assert.Equal((ulong)File.ReadAllBytes("/proc/version").Length, kernel.Layout.InputBytes);
        }

        folder.AssertHolds("input", "pipe");
    }

    [Fact]
    public void The_output_may_be_the_input_or_behind_a_link()
    {
        using var folder = new ExchangeFolder([1, 2, 3]);
        File.CreateSymbolicLink(folder.OutputPath, folder.InputPath);
        using (ExchangeDisk disk = Open(folder))
        {
            using (var bench = new DiskBench(disk, IoEngineKind.Threads))
            {
                bench.Memory[0] = 9;
                Assert.Equal(Done, bench.Transfer(DiskOperation.Write, 8 * 512, 0, 1, 512));
                Assert.Equal(Done, WriteStatus(bench, ExchangeLayoutTests.Mark(1, 1, 0)));
            }

            disk.SaveOutput();
        }

        Assert.Equal([9], File.ReadAllBytes(folder.InputPath));
        Assert.NotNull(new FileInfo(folder.OutputPath).LinkTarget);
    }

    [Theory]
    [InlineData("missing", "output", "'", "Check the path")]
    [InlineData(".", "output", "'", "Check the path")]
    [InlineData("input", "missing/output", "missing/output", "folder")]
    [InlineData("input", ".", "no regular file", "Name a file")]
    [InlineData("input", "/dev/null", "no regular file", "Name a file")]
    public void What_cannot_be_opened_is_said_and_leaves_nothing(string input, string output, string words, string remedy)
    {
        using var folder = new ExchangeFolder([1]);
        DiskOpenException refusal = Assert.Throws<DiskOpenException>(() => ExchangeDisk.Open(new ExchangeOptions(folder[input], folder[output])));
        Assert.Contains(words, refusal.Message, StringComparison.Ordinal);
        Assert.Contains(remedy, refusal.Message, StringComparison.Ordinal);
        folder.AssertHolds("input");
    }

    [Fact]
    public void What_replaces_a_file_is_never_for_more_than_may_read_that()
    {
        using var folder = new ExchangeFolder([1]);
        File.WriteAllBytes(folder.OutputPath, [7]);
        Assert.Equal(0, Syscall.chmod(folder.OutputPath, FilePermissions.S_IRUSR));
        using ExchangeDisk disk = Open(folder);
        string part = Assert.Single(Directory.EnumerateFiles(Path.GetDirectoryName(folder.OutputPath)!, ".output.*.part"));
        Assert.Equal(FilePermissions.S_IRUSR | FilePermissions.S_IWUSR, ModeOf(part));
        using (var bench = new DiskBench(disk, IoEngineKind.Threads))
        {
            Assert.Equal(Done, WriteStatus(bench, ExchangeLayoutTests.Mark(1, 1, 0)));
        }

        disk.SaveOutput();
        Assert.Equal(FilePermissions.S_IRUSR, ModeOf(folder.OutputPath));
    }

    [Fact]
    public void An_input_that_somebody_writes_is_refused_unless_that_is_meant()
    {
        using var folder = new ExchangeFolder(new byte[512]);
        using FileDisk writer = FileDisk.Open(new FileDiskOptions(folder.InputPath));
        Assert.Contains("in use", Assert.Throws<DiskOpenException>(() => ExchangeDisk.Open(folder.Options)).Message, StringComparison.Ordinal);
        folder.AssertHolds("input");
        ExchangeDisk.Open(folder.Options with { Lock = false }).Dispose();
    }

    [Fact]
    public void A_layout_that_does_not_fit_the_input_leaves_nothing()
    {
        using var folder = new ExchangeFolder(new byte[1000]);
        Assert.Throws<DiskOpenException>(() => ExchangeDisk.Open(folder.Options with { InputSectors = 1 }));
        folder.AssertHolds("input");
    }

    private static FilePermissions ModeOf(string path)
    {
        Assert.Equal(0, Syscall.stat(path, out Stat stat));
        return stat.st_mode & FilePermissions.ALLPERMS;
    }

    // 8 sectors of input, 16 of output, the status page.
    private static ExchangeDisk Open(ExchangeFolder folder) => ExchangeDisk.Open(folder.Options with { OutputBytes = 8192 });

    private static DiskOutcome WriteStatus(DiskBench bench, byte[] sector)
    {
        sector.CopyTo(bench.Memory[(1 << 20)..]);
        return bench.Transfer(DiskOperation.Write, Status * 512, 1 << 20, 1, 512);
    }

    // Into memory that stays where it is for as long as the test process lives: it is small, and the request may be in flight.
    private static unsafe void Write(IDiskQueue queue, int slot, ulong offsetBytes, byte[] data)
    {
        byte* memory = (byte*)System.Runtime.InteropServices.NativeMemory.Alloc((nuint)data.Length + 16);
        var piece = (VirtioBlkFlow.Virtio.Iovec*)memory;
        *piece = new VirtioBlkFlow.Virtio.Iovec(memory + 16, (nuint)data.Length);
        data.CopyTo(new Span<byte>(memory + 16, data.Length));
        queue.Submit(slot, new DiskRequest
        {
            Operation = DiskOperation.Write,
            OffsetBytes = offsetBytes,
            LengthBytes = (uint)data.Length,
            Pieces = piece,
            PieceCount = 1,
        });
    }

    private sealed class Recorder(Dictionary<int, DiskOutcome> ended) : IDiskCompletions
    {
        public void OnCompleted(int slot, DiskOutcome outcome) => ended[slot] = outcome;
    }
}
