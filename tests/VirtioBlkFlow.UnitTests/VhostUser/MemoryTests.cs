using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.VhostUser.Memory;
using VirtioBlkFlow.VhostUser.Wire;
using Xunit;

namespace VirtioBlkFlow.UnitTests.VhostUser;

public sealed partial class MemoryTests : IDisposable
{
    private const ulong User = 0x7f00_0000_0000;
    private readonly TestFiles _a = new(0x10000);
    private readonly TestFiles _b = new(0x10000);
    private readonly RecordingBackend _backend = new();
    private readonly RawFrontend _frontend;

    public MemoryTests()
    {
        _frontend = new RawFrontend(_backend);
        _frontend.Negotiate();
    }

    [Fact]
    public void Maps_each_region_from_its_own_descriptor_and_offset()
    {
        RandomAccess.Write(_a.Handle, [0xaa], 0x3000);
        RandomAccess.Write(_b.Handle, [0xbb], 0x1800);
        Assert.Equal(0UL, SetTable(
            (new MemoryRegion(0x10_0000, 0x1000, User, 0x3000), _a),
            (new MemoryRegion(0, 0x1000, User + 0x5000, 0x1800), _b)));

        // By ascending guest address, whatever the order on the wire; an offset within a page is honoured.
        var regions = _backend.Memory.Regions;
        Assert.Equal([0UL, 0x10_0000UL], regions.Select(region => region.GuestAddress));
        Assert.Equal(0xbb, Marshal.ReadByte(regions[0].HostAddress));
        Assert.Equal(0xaa, Marshal.ReadByte(regions[1].HostAddress));
        Assert.Equal(1, _a.CountDescriptors());
        Assert.Equal(1, _a.CountMappings());
    }

    [Fact]
    public void A_new_table_unmaps_the_old_one()
    {
        Assert.Equal(0UL, SetTable((new MemoryRegion(0, 0x1000, User, 0), _a)));
        Assert.Equal(0UL, SetTable((new MemoryRegion(0, 0x1000, User, 0), _b)));
        Assert.Equal((0, 1), (_a.CountMappings(), _b.CountMappings()));
        Assert.Equal(0UL, SetTable());
        Assert.Equal((0, 0), (_a.CountMappings(), _b.CountMappings()));
        Assert.Empty(_backend.Memory.Regions);
    }

    [Fact]
    public void Adds_and_removes_regions_by_addresses_and_length()
    {
        Assert.Equal(0UL, Add(new MemoryRegion(0, 0x1000, User, 0), _a));
        Assert.Equal(0UL, Add(new MemoryRegion(0x1000, 0x1000, User + 0x1000, 0x1000), _b));
        Assert.Equal(2, _backend.Memory.Regions.Length);

        Assert.NotEqual(0UL, Remove(new MemoryRegion(0, 0x2000, User, 0)));
        Assert.NotEqual(0UL, Remove(new MemoryRegion(0, 0x1000, User + 1, 0)));
        Assert.Equal(0UL, Remove(new MemoryRegion(0, 0x1000, User, 0x7777_0000)));
        Assert.Equal((0, 1), (_a.CountMappings(), _b.CountMappings()));
        Assert.NotEqual(0UL, Remove(new MemoryRegion(0, 0x1000, User, 0)));
    }

    [Fact]
    public void Closes_the_descriptor_some_front_ends_send_with_a_removal()
    {
        Assert.Equal(0UL, Add(new MemoryRegion(0, 0x1000, User, 0), _a));
        Assert.Equal(0UL, _frontend.SendForAck(FrontendRequest.REM_MEM_REG, new SingleMemoryRegion(0, new MemoryRegion(0, 0x1000, User, 0)), _a.Handle));
        Assert.Equal((1, 0), (_a.CountDescriptors(), _a.CountMappings()));
    }

    [Theory]
    [InlineData(0x0000UL, 0UL, User, 0UL)] // no bytes
    [InlineData(0x4000UL, 0x10001UL, User, 0UL)] // beyond the end of the file
    [InlineData(0x4000UL, 0x1000UL, User, 0xf001UL)] // the same, by its offset
    [InlineData(0x4000UL, 0x1000UL, User, ulong.MaxValue)] // overflow of the file offset
    [InlineData(ulong.MaxValue - 0xffe, 0x1000UL, User, 0UL)] // overflow of guest addresses
    [InlineData(0x4000UL, 0x1000UL, ulong.MaxValue - 0xffe, 0UL)] // overflow of user addresses
    [InlineData(0x4000UL, ulong.MaxValue, 0UL, 0UL)] // overflow of everything
    [InlineData(0x0fffUL, 0x1000UL, User, 0UL)] // overlaps the end of the region that is there
    [InlineData(0x0000UL, 0x1000UL, User, 0UL)] // is the region that is there
    public void Refuses_a_region_that_cannot_be_and_keeps_the_table(ulong guest, ulong length, ulong user, ulong offset)
    {
        Assert.Equal(0UL, SetTable((new MemoryRegion(0, 0x1000, User, 0), _b)));
        var before = _backend.Memory;

        Assert.NotEqual(0UL, Add(new MemoryRegion(guest, length, user, offset), _a));
        Assert.Same(before, _backend.Memory);
        Assert.Equal((1, 0, 1), (_a.CountDescriptors(), _a.CountMappings(), _b.CountMappings()));
    }

    [Fact]
    public void Accepts_the_very_last_byte_of_both_address_spaces()
    {
        Assert.Equal(0UL, Add(new MemoryRegion(ulong.MaxValue - 0xfff, 0x1000, ulong.MaxValue - 0xfff, 0), _a));
        Assert.True(_backend.Memory.TryTranslateUser(ulong.MaxValue, 1, out _));
    }

    [Fact]
    public void Refuses_a_table_with_overlaps_and_keeps_the_old_one()
    {
        Assert.Equal(0UL, SetTable((new MemoryRegion(0, 0x1000, User, 0), _b)));
        var before = _backend.Memory;
        Assert.NotEqual(0UL, SetTable((new MemoryRegion(0, 0x2000, User, 0), _a), (new MemoryRegion(0x1000, 0x1000, User, 0), _a)));
        Assert.Same(before, _backend.Memory);
        Assert.Equal((0, 1), (_a.CountMappings(), _b.CountMappings()));
    }

    [Fact]
    public void Refuses_more_than_8_regions_in_one_table()
    {
        var regions = Enumerable.Range(0, 9).Select(i => (new MemoryRegion((ulong)i * 0x1000, 0x1000, User + ((ulong)i * 0x1000), 0), _a)).ToArray();
        Assert.NotEqual(0UL, SetTable(regions));
        Assert.Equal(0UL, SetTable(regions[..8]));
        Assert.Equal(8, _a.CountMappings());
    }

    [Fact]
    public void Holds_509_regions_and_refuses_the_next()
    {
        for (var i = 0UL; i < 509; i++)
        {
            Assert.Equal(0UL, Add(new MemoryRegion(i * 0x2000, 0x1000, User + (i * 0x2000), 0), _a));
        }

        Assert.NotEqual(0UL, Add(new MemoryRegion(509 * 0x2000, 0x1000, User, 0), _a));
        Assert.Equal(509, _backend.Memory.Regions.Length);
    }

    // As User Mode Linux sends it: room for two regions, one of them counted.
    [Fact]
    public void Takes_a_table_that_is_longer_than_its_count()
    {
        byte[] payload =
        [
            .. RawFrontend.Bytes(new MemoryTableHeader(1, 0)),
            .. RawFrontend.Bytes(new MemoryRegion(0, 0x1000, User, 0)),
            .. RawFrontend.Bytes(default(MemoryRegion)),
        ];
        Assert.Equal(0UL, _frontend.SendForAck(FrontendRequest.SET_MEM_TABLE, payload, _a.Handle));
        Assert.Equal(0x1000UL, Assert.Single(_backend.Memory.Regions).LengthBytes);
    }

    [Fact]
    public void Refuses_a_table_that_is_shorter_than_its_count()
    {
        byte[] payload = [.. RawFrontend.Bytes(new MemoryTableHeader(2, 0)), .. RawFrontend.Bytes(new MemoryRegion(0, 0x1000, User, 0))];
        _frontend.SendRaw(RawFrontend.Message(FrontendRequest.SET_MEM_TABLE, payload, RawFrontend.NeedReply), _a.Handle);
        _frontend.ExpectClosed();
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(3)]
    public void Refuses_a_table_whose_descriptors_do_not_match_its_regions(int descriptors)
    {
        byte[] payload =
        [
            .. RawFrontend.Bytes(new MemoryTableHeader(2, 0)),
            .. RawFrontend.Bytes(new MemoryRegion(0, 0x1000, User, 0)),
            .. RawFrontend.Bytes(new MemoryRegion(0x1000, 0x1000, User + 0x1000, 0)),
        ];
        Assert.NotEqual(0UL, _frontend.SendForAck(FrontendRequest.SET_MEM_TABLE, payload, [.. Enumerable.Repeat(_a.Handle, descriptors)]));
        Assert.Equal((1, 0), (_a.CountDescriptors(), _a.CountMappings()));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(2)]
    public void Refuses_an_addition_without_exactly_one_descriptor(int descriptors)
    {
        var sent = Enumerable.Repeat(_a.Handle, descriptors).ToArray();
        Assert.NotEqual(0UL, _frontend.SendForAck(FrontendRequest.ADD_MEM_REG, new SingleMemoryRegion(0, new MemoryRegion(0, 0x1000, User, 0)), sent));
        Assert.Equal(1, _a.CountDescriptors());
    }

    [Fact]
    public void Moves_running_queues_to_the_new_table_before_the_old_one_is_unmapped()
    {
        Assert.Equal(0UL, SetTable((new MemoryRegion(0, 0x4000, User, 0), _a)));
        _frontend.StartVring(2, TestFiles.VringAt(2, User + 0x1000));
        var mappedWhileMoving = (0, 0);
        _backend.WhileMoving = () => mappedWhileMoving = (_a.CountMappings(), _b.CountMappings());
        Assert.Equal(0UL, SetTable((new MemoryRegion(0, 0x4000, User + 0x1000, 0), _b)));

        Assert.Equal((1, 1), mappedWhileMoving);
        var moved = Assert.Single(_backend.MovedRings);
        Assert.Equal((2, _backend.Memory.Regions[0].HostAddress), (moved.QueueIndex, moved.DescriptorTable));
        Assert.DoesNotContain("Stop 2", _backend.Calls);
        Assert.Equal((0, 1), (_a.CountMappings(), _b.CountMappings()));
    }

    [Fact]
    public void Adds_memory_under_running_queues_without_stopping_them()
    {
        Assert.Equal(0UL, SetTable((new MemoryRegion(0, 0x4000, User, 0), _a)));
        _frontend.StartVring(0, TestFiles.VringAt(0, User));
        Assert.Equal(0UL, Add(new MemoryRegion(0x4000, 0x4000, User + 0x4000, 0), _b));
        Assert.Equal("Memory 2 regions, 1 queues", _backend.Calls[^1]);
        Assert.DoesNotContain("Stop 0", _backend.Calls);
    }

    [Fact]
    public void Stops_a_queue_whose_memory_goes_and_starts_it_again_when_memory_returns()
    {
        var region = new MemoryRegion(0, 0x4000, User, 0);
        Assert.Equal(0UL, Add(region, _a));
        _frontend.StartVring(0, TestFiles.VringAt(0, User));
        _backend.NextAvailable = 9;
        Assert.Equal(0UL, Remove(region));
        Assert.Equal(["Stop 0", "Memory 0 regions, 0 queues"], _backend.Calls[^2..]);
        Assert.Equal(0, _a.CountMappings());

        Assert.Equal(0UL, Add(region, _b));
        Assert.Equal(9, _backend.Running[0].NextAvailable);
    }

    [Fact]
    public void Does_not_start_a_queue_that_is_not_in_memory_in_full()
    {
        // 16 descriptors: the used ring takes 6 + 8 * 16 = 134 bytes from 0x800 on. One byte short is too short.
        Assert.Equal(0UL, SetTable((new MemoryRegion(0, 0x800 + 133, User, 0), _a)));
        _frontend.StartVring(0, TestFiles.VringAt(0, User));
        Assert.Empty(_backend.Running);
        Assert.Equal(0UL, SetTable((new MemoryRegion(0, 0x800 + 134, User, 0), _a)));
        Assert.Single(_backend.Running);
    }

    [Fact]
    public void Does_not_start_a_queue_that_an_odd_file_offset_has_misaligned()
    {
        Assert.Equal(0UL, SetTable((new MemoryRegion(0, 0x4000, User, 1), _a)));
        _frontend.Send(FrontendRequest.SET_VRING_NUM, new VringState(0, 16));
        _frontend.Send(FrontendRequest.SET_VRING_ADDR, TestFiles.VringAt(0, User));
        _frontend.Send(FrontendRequest.SET_VRING_KICK, 0x100UL);
        Assert.NotEqual(0UL, _frontend.SendForAck(FrontendRequest.SET_VRING_ENABLE, new VringState(0, 1)));
    }

    [Fact]
    public void Maps_huge_pages_in_whole_pages_and_unmaps_them()
    {
        // No huge page need be free: nothing is reserved, and nothing touched.
        const uint MFD_CLOEXEC_HUGETLB = 0x1 | 0x4;
        var number = memfd_create("vhost-user-test-huge", MFD_CLOEXEC_HUGETLB);
        if (number < 0)
        {
            return; // A kernel without hugetlbfs.
        }

        using var file = new SafeFileHandle(number, ownsHandle: true);
        RandomAccess.SetLength(file, 64 << 20);
        var name = "/memfd:vhost-user-test-huge";
        var region = new MemoryRegion(0, 0x3000, User, 0x1000);
        Assert.Equal(0UL, _frontend.SendForAck(FrontendRequest.ADD_MEM_REG, new SingleMemoryRegion(0, region), file));
        Assert.Equal(0x1000, _backend.Memory.Regions[0].HostAddress % 0x20_0000);
        Assert.Contains(File.ReadLines("/proc/self/maps"), line => line.Contains(name, StringComparison.Ordinal));
        Assert.Equal(0UL, Remove(region));
        Assert.DoesNotContain(File.ReadLines("/proc/self/maps"), line => line.Contains(name, StringComparison.Ordinal));
    }

    [LibraryImport("libc", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int memfd_create(string name, uint flags);

    [Fact]
    public void Translates_only_what_lies_within_one_region()
    {
        var table = new GuestMemoryTable([new GuestMemoryRegion(0, 0x1000, 0x5000, 0x100000), new GuestMemoryRegion(0x1000, 0x1000, 0x6000, 0x300000)]);
        Assert.True(table.TryTranslateUser(0x5fff, 1, out var host));
        Assert.Equal(0x100fff, host);
        Assert.True(table.TryTranslateUser(0x6000, 0x1000, out host));
        Assert.Equal(0x300000, host);
        Assert.False(table.TryTranslateUser(0x5fff, 2, out _));
        Assert.False(table.TryTranslateUser(0x4fff, 1, out _));
        Assert.False(table.TryTranslateUser(0x7000, 1, out _));
        Assert.False(table.TryTranslateUser(0x5001, ulong.MaxValue, out _));
    }

    public void Dispose()
    {
        _frontend.Dispose();
        _a.Dispose();
        _b.Dispose();
    }

    private ulong SetTable(params (MemoryRegion Region, TestFiles File)[] regions)
    {
        byte[] payload =
        [
            .. RawFrontend.Bytes(new MemoryTableHeader((uint)regions.Length, 0)),
            .. regions.SelectMany(region => RawFrontend.Bytes(region.Region)),
        ];
        return _frontend.SendForAck(FrontendRequest.SET_MEM_TABLE, payload, Array.ConvertAll(regions, region => region.File.Handle));
    }

    private ulong Add(MemoryRegion region, TestFiles file) =>
        _frontend.SendForAck(FrontendRequest.ADD_MEM_REG, new SingleMemoryRegion(0, region), file.Handle);

    private ulong Remove(MemoryRegion region) => _frontend.SendForAck(FrontendRequest.REM_MEM_REG, new SingleMemoryRegion(0, region));
}
