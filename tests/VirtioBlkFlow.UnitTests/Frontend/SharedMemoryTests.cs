using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Virtio;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Frontend;

public sealed class SharedMemoryTests
{
    private const ulong Page = 4096;

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_region_starts_at_its_offset_in_its_file(bool isSealed)
    {
        using var memory = new SharedMemory(new SharedRegionOptions(0x10_0000, 4 * Page) { MmapOffset = 2 * Page, Sealed = isSealed });
        memory.Span(0x10_0000, 3).Fill(0xab);
        memory.Span(0x10_0000 + (4 * Page) - 1, 1)[0] = 0xcd;
        Assert.Equal((long)(6 * Page), RandomAccess.GetLength(memory.Regions[0].Handle));
        byte[] file = new byte[6 * Page];
        Assert.Equal(file.Length, RandomAccess.Read(memory.Regions[0].Handle, file, 0));
        Assert.Equal([0, 0xab, 0xab, 0xab, 0], file.AsSpan((int)(2 * Page) - 1, 5).ToArray());
        Assert.Equal(0xcd, file[^1]);
    }

    [Fact]
    public void A_sealed_file_cannot_be_cut_short()
    {
        using var memory = new SharedMemory(new SharedRegionOptions(0, Page) { Sealed = true }, new SharedRegionOptions(Page, Page));
        Assert.ThrowsAny<Exception>(() => RandomAccess.SetLength(memory.Regions[0].Handle, 0));
        RandomAccess.SetLength(memory.Regions[1].Handle, (long)(2 * Page));
    }

    [Fact]
    public unsafe void Guest_user_and_host_addresses_are_three_different_things()
    {
        using var memory = new SharedMemory(
            new SharedRegionOptions(0x10_0000, Page) { UserAddress = 0x7000_0000 }, new SharedRegionOptions(0x20_0000, Page));
        Assert.Equal(0x7000_0010u, memory.UserAddressOf(0x10_0010));
        Assert.Equal((ulong)memory.Host(0x20_0010, 1), memory.UserAddressOf(0x20_0010));
        GuestMemory guest = memory.ToGuestMemory();
        Assert.Equal((nint)memory.Host(0x10_0010, 1), (nint)guest.TranslateWithinRegion(0x10_0010, 1));
        Assert.Throws<ArgumentOutOfRangeException>(() => memory.UserAddressOf(0x10_0000 + Page));
        Assert.Throws<ArgumentOutOfRangeException>(() => memory.Span(0x10_0000, (int)Page + 1).Length);
    }

    [Fact]
    public void Allocations_are_aligned_do_not_overlap_and_go_on_in_the_next_region()
    {
        using var memory = new SharedMemory(new SharedRegionOptions(Page, Page), new SharedRegionOptions(4 * Page, 2 * Page));
        ulong first = memory.Allocate(1, 1);
        ulong second = memory.Allocate(100, 64);
        ulong third = memory.Allocate(Page, 16);
        Assert.Equal((Page, Page + 64, 4 * Page), (first, second, third));
        Assert.Throws<InvalidOperationException>(() => memory.Allocate(Page, Page));
        memory.AddRegion(new SharedRegionOptions(16 * Page, 4 * Page));
        Assert.Equal(16 * Page, memory.Allocate(2 * Page, Page));
    }
}
