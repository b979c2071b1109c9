using System.IO.MemoryMappedFiles;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Mono.Unix.Native;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.Memory;
using Xunit;
using Iovec = VirtioBlkFlow.Virtio.Iovec;

namespace VirtioBlkFlow.UnitTests.Disks.Memory;

public sealed unsafe class MemoryDiskTests : IDisposable
{
    private const int SizeBytes = 8 << 20;
    private readonly string _name = $"virtioblkflow-test-{Guid.NewGuid():n}";

    private string SharedPath => $"/dev/shm/{_name}";

    public void Dispose() => File.Delete(SharedPath);

    [Fact]
    public void Memory_that_is_discarded_or_zeroed_goes_back_to_the_host()
    {
        using PrivateMemory memory = PrivateMemory.Map(SizeBytes, HugePages.None);
        Assert.Equal(0, ResidentPages(memory.First));
        Fill(memory, 0x5a);
        int pages = SizeBytes / Environment.SystemPageSize;
        Assert.Equal(pages, ResidentPages(memory.First));
        Assert.Equal(DiskOutcome.Done, memory.Clear(512, SizeBytes / 2, deallocate: true));
        // All but the first and the last page of it, of which a part stays.
        Assert.Equal(pages - (pages / 2) + 1, ResidentPages(memory.First));
        var contents = new ReadOnlySpan<byte>(memory.First, SizeBytes);
        Assert.Equal(-1, contents[..512].IndexOfAnyExcept((byte)0x5a));
        Assert.Equal(-1, contents.Slice(512, SizeBytes / 2).IndexOfAnyExcept((byte)0));
        Assert.Equal(-1, contents[(512 + (SizeBytes / 2))..].IndexOfAnyExcept((byte)0x5a));
    }

    [Fact]
    public void Memory_of_a_descriptor_is_the_disk_byte_for_byte_and_stays_whoevers_it_was()
    {
        using SafeFileHandle file = MemoryFile.Create(SizeBytes);
        RandomAccess.Write(file, [1, 2, 3], 4096);
        byte[] found = new byte[3];
        using (MemoryDisk disk = MemoryDisk.Open(new MemoryDiskOptions(SizeBytes, Descriptor: (int)file.DangerousGetHandle())))
        using (var bench = new DiskBench(disk, IoEngineKind.Threads))
        {
            Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Read, 4096, 0, 1, 512));
            Assert.Equal([1, 2, 3], bench.Memory[..3].ToArray());
            bench.Memory[..512].Fill(0x5a);
            Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Write, 0, 0, 1, 512));
        }

        Assert.Equal(3, RandomAccess.Read(file, found, 509));
        Assert.Equal([0x5a, 0x5a, 0x5a], found);
    }

    [Fact]
    public void A_descriptor_of_anything_else_is_refused_and_the_message_says_of_what()
    {
        using SafeFileHandle file = MemoryFile.Create(SizeBytes);
        int descriptor = (int)file.DangerousGetHandle();
        Assert.Contains($"{SizeBytes} bytes", Refusal(new MemoryDiskOptions(SizeBytes / 2, Descriptor: descriptor)), StringComparison.Ordinal);
        Assert.Contains("not both", Refusal(new MemoryDiskOptions(SizeBytes, _name, Descriptor: descriptor)), StringComparison.Ordinal);
        Assert.Contains("open", Refusal(new MemoryDiskOptions(SizeBytes, Descriptor: 1 << 20)), StringComparison.Ordinal);
        using (SafeFileHandle other = File.OpenHandle("/dev/null"))
        {
            Assert.Contains("no shared memory", Refusal(new MemoryDiskOptions(SizeBytes, Descriptor: (int)other.DangerousGetHandle())), StringComparison.Ordinal);
        }

        using (SafeFileHandle reader = File.OpenHandle($"/proc/self/fd/{descriptor}", FileMode.Open, FileAccess.Read, FileShare.ReadWrite))
        {
            Assert.Contains("cannot be written", Refusal(new MemoryDiskOptions(SizeBytes, Descriptor: (int)reader.DangerousGetHandle())), StringComparison.Ordinal);
        }

        const int F_ADD_SEALS = 1033;
        Assert.Equal(0, LibC.fcntl(descriptor, F_ADD_SEALS, LibC.F_SEAL_FUTURE_WRITE));
        Assert.Contains("sealed", Refusal(new MemoryDiskOptions(SizeBytes, Descriptor: descriptor)), StringComparison.Ordinal);
    }

    [Fact]
    public void A_range_within_one_page_is_cleared_and_nothing_beside_it()
    {
        using PrivateMemory memory = PrivateMemory.Map(SizeBytes, HugePages.None);
        Fill(memory, 0x5a);
        Assert.Equal(DiskOutcome.Done, memory.Clear(1024, 512, deallocate: true));
        var contents = new ReadOnlySpan<byte>(memory.First, 4096);
        Assert.Equal(1024, contents.IndexOfAnyExcept((byte)0x5a));
        Assert.Equal(1535, contents.LastIndexOfAnyExcept((byte)0x5a));
        Assert.Equal(-1, contents.Slice(1024, 512).IndexOfAnyExcept((byte)0));
    }

    [Fact]
    public void Transparent_huge_pages_hold_the_same_data()
    {
        using MemoryDisk disk = MemoryDisk.Open(new MemoryDiskOptions(SizeBytes, HugePages: HugePages.Transparent));
        using var bench = new DiskBench(disk, IoEngineKind.Threads);
        bench.Memory.Fill(0x77);
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Write, 512, 0, 3, 1 << 20));
        bench.Memory.Clear();
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Read, 512, 0, 3, 1 << 20));
        Assert.Equal(-1, bench.Memory[..(3 << 20)].IndexOfAnyExcept((byte)0x77));
    }

    [Fact]
    public void Huge_pages_of_the_reserve_are_there_or_refused_at_once_with_a_remedy()
    {
        const string Free = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
        if (File.Exists(Free) && int.Parse(File.ReadAllText(Free), null) >= SizeBytes >> 21)
        {
            using PrivateMemory memory = PrivateMemory.Map(SizeBytes - 512, HugePages.TwoMegabytes);
            Fill(memory, 0x11);
            Assert.Equal(DiskOutcome.Done, memory.Clear(0, 4 << 20, deallocate: true));
            Assert.Equal(-1, new ReadOnlySpan<byte>(memory.First, 4 << 20).IndexOfAnyExcept((byte)0));
        }
        else
        {
            DiskOpenException exception = Assert.Throws<DiskOpenException>(() => MemoryDisk.Open(new MemoryDiskOptions(SizeBytes, HugePages: HugePages.TwoMegabytes)));
            Assert.Contains("vm.nr_hugepages", exception.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Another_process_that_maps_the_object_sees_the_disk_and_changes_it()
    {
        using MemoryDisk disk = MemoryDisk.Open(new MemoryDiskOptions(SizeBytes, "/" + _name));
        using var bench = new DiskBench(disk, IoEngineKind.Threads);
        using var mapped = MemoryMappedFile.CreateFromFile(SharedPath, FileMode.Open, null, SizeBytes);
        using MemoryMappedViewAccessor view = mapped.CreateViewAccessor();
        bench.Memory[..4096].Fill(0x31);
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Write, 8192, 0, 8, 512));
        Assert.Equal(0x31, view.ReadByte(8192));
        Assert.Equal(0x31, view.ReadByte(8192 + 4095));
        Assert.Equal(0, view.ReadByte(8192 + 4096));
        view.Write(9000, (byte)0x99);
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Read, 8192, 8192, 1, 4096));
        Assert.Equal(0x99, bench.Memory[9000]);
        // Nobody else may look into a guest's disk.
        Assert.Equal(0, Syscall.stat(SharedPath, out Stat stat));
        Assert.Equal(FilePermissions.S_IRUSR | FilePermissions.S_IWUSR, stat.st_mode & FilePermissions.ACCESSPERMS);
    }

    [Fact]
    public void Shared_memory_that_is_discarded_is_freed_and_zeroed_memory_only_if_that_is_allowed()
    {
        using MemoryDisk disk = MemoryDisk.Open(new MemoryDiskOptions(4 << 20, _name));
        using var bench = new DiskBench(disk, IoEngineKind.Threads);
        bench.Memory.Fill(0x5a);
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Write, 0, 0, 1, 4 << 20));
        Assert.Equal(4 << 11, BlocksOfShared());
        Assert.Equal(DiskOutcome.Done, bench.Ranges(DiskOperation.WriteZeroes, false, new DiskRange(0, 1 << 20, MayDeallocate: false)));
        Assert.Equal(4 << 11, BlocksOfShared());
        Assert.Equal(DiskOutcome.Done, bench.Ranges(DiskOperation.WriteZeroes, false, new DiskRange(1 << 20, 1 << 20, MayDeallocate: true)));
        Assert.Equal(3 << 11, BlocksOfShared());
        Assert.Equal(DiskOutcome.Done, bench.Ranges(DiskOperation.Discard, false, new DiskRange(2 << 20, 1 << 20, MayDeallocate: false)));
        Assert.Equal(2 << 11, BlocksOfShared());
        byte[] contents = File.ReadAllBytes(SharedPath);
        Assert.Equal(-1, contents.AsSpan(0, 3 << 20).IndexOfAnyExcept((byte)0));
        Assert.Equal(-1, contents.AsSpan(3 << 20).IndexOfAnyExcept((byte)0x5a));
    }

    [Fact]
    public void An_object_made_here_goes_with_the_disk_and_one_that_was_there_stays()
    {
        using (MemoryDisk.Open(new MemoryDiskOptions(SizeBytes, _name)))
        {
            Assert.True(File.Exists(SharedPath));
        }

        Assert.False(File.Exists(SharedPath));
        File.WriteAllBytes(SharedPath, [.. Enumerable.Repeat((byte)0x42, SizeBytes)]);
        using (MemoryDisk disk = MemoryDisk.Open(new MemoryDiskOptions(SizeBytes, _name)))
        {
            using var bench = new DiskBench(disk, IoEngineKind.Threads);
            Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Read, 0, 0, 1, 4096));
            Assert.Equal(-1, bench.Memory[..4096].IndexOfAnyExcept((byte)0x42));
        }

        Assert.True(File.Exists(SharedPath));
    }

    [Fact]
    public void An_object_that_another_one_has_taken_the_name_of_is_all_that_goes()
    {
        using (MemoryDisk.Open(new MemoryDiskOptions(SizeBytes, _name)))
        {
            File.Delete(SharedPath);
            File.WriteAllText(SharedPath, "somebody else's");
        }

        Assert.Equal("somebody else's", File.ReadAllText(SharedPath));
    }

    [Fact]
    public void An_object_that_is_to_be_kept_is_kept()
    {
        MemoryDisk.Open(new MemoryDiskOptions(SizeBytes, _name, KeepShared: true)).Dispose();
        Assert.Equal(SizeBytes, new FileInfo(SharedPath).Length);
    }

    [Fact]
    public void A_second_disk_on_the_same_object_is_refused()
    {
        using MemoryDisk disk = MemoryDisk.Open(new MemoryDiskOptions(SizeBytes, _name));
        DiskOpenException exception = Assert.Throws<DiskOpenException>(() => MemoryDisk.Open(new MemoryDiskOptions(SizeBytes, _name)));
        Assert.Contains("in use", exception.Message, StringComparison.Ordinal);
        Assert.EndsWith("choose another name.", exception.Message, StringComparison.Ordinal);
        Assert.True(File.Exists(SharedPath));
    }

    [Fact]
    public void An_object_that_is_cut_short_fails_requests_and_nothing_else()
    {
        using MemoryDisk disk = MemoryDisk.Open(new MemoryDiskOptions(SizeBytes, _name));
        using var bench = new DiskBench(disk, IoEngineKind.Threads);
        Assert.Equal(0, Syscall.truncate(SharedPath, 8192));
        Assert.Equal(DiskOutcome.Failed, bench.Transfer(DiskOperation.Read, 4096, 0, 1, 8192));
        Assert.Equal(DiskOutcome.Failed, bench.Transfer(DiskOperation.Read, 8192, 0, 1, 4096));
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Read, 4096, 0, 1, 4096));
    }

    [Theory]
    [InlineData("")]
    [InlineData("/")]
    [InlineData("..")]
    [InlineData("a/b")]
    [InlineData("../etc")]
    public void A_name_that_leads_elsewhere_is_refused(string name)
    {
        DiskOpenException exception = Assert.Throws<DiskOpenException>(() => MemoryDisk.Open(new MemoryDiskOptions(SizeBytes, name)));
        Assert.Contains("cannot name shared memory", exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void An_object_that_is_not_what_it_should_be_is_refused_and_left_alone()
    {
        File.WriteAllBytes(SharedPath, new byte[4096]);
        DiskOpenException size = Assert.Throws<DiskOpenException>(() => MemoryDisk.Open(new MemoryDiskOptions(SizeBytes, _name)));
        Assert.Contains("4096", size.Message, StringComparison.Ordinal);
        Assert.Equal(4096, new FileInfo(SharedPath).Length);
        File.Delete(SharedPath);
        File.CreateSymbolicLink(SharedPath, "/dev/null");
        DiskOpenException link = Assert.Throws<DiskOpenException>(() => MemoryDisk.Open(new MemoryDiskOptions(SizeBytes, _name)));
        Assert.Contains("Cannot open shared memory", link.Message, StringComparison.Ordinal);
        Assert.True(File.Exists(SharedPath));
    }

    [Theory]
    [InlineData(0, "must not be 0")]
    [InlineData(1000, "Give it 1024 bytes")]
    [InlineData(ulong.MaxValue, "less than 8E")]
    [InlineData(1UL << 62, "smaller size")]
    public void A_size_no_disk_can_have_is_refused(ulong sizeBytes, string remedy)
    {
        DiskOpenException exception = Assert.Throws<DiskOpenException>(() => MemoryDisk.Open(new MemoryDiskOptions(sizeBytes)));
        Assert.Contains(remedy, exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Shared_memory_with_huge_pages_is_refused()
    {
        Assert.Throws<DiskOpenException>(() => MemoryDisk.Open(new MemoryDiskOptions(SizeBytes, _name, HugePages: HugePages.Transparent)));
        Assert.False(File.Exists(SharedPath));
    }

    private static string Refusal(MemoryDiskOptions options) => Assert.Throws<DiskOpenException>(() => MemoryDisk.Open(options)).Message;

    private static void Fill(PrivateMemory memory, byte value)
    {
        byte* bytes = (byte*)NativeMemory.Alloc(SizeBytes);
        new Span<byte>(bytes, SizeBytes).Fill(value);
        var piece = new Iovec(bytes, SizeBytes);
        Assert.Equal(DiskOutcome.Done, memory.Write(0, &piece, 1, SizeBytes - 512));
        Assert.Equal(DiskOutcome.Done, memory.Write(SizeBytes - 512, &piece, 1, 512));
        NativeMemory.Free(bytes);
    }

    private static int ResidentPages(byte* first)
    {
        byte[] pages = new byte[SizeBytes / Environment.SystemPageSize];
        Assert.Equal(0, Syscall.mincore((nint)first, SizeBytes, pages));
        return pages.Count(page => (page & 1) != 0);
    }

    // In units of 512 bytes, as stat(2) has it.
    private long BlocksOfShared()
    {
        Assert.Equal(0, Syscall.stat(SharedPath, out Stat stat));
        return stat.st_blocks;
    }
}
