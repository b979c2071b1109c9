using VirtioBlkFlow.Virtio;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Virtio;

/// <summary>Translation of guest addresses. The host addresses are made up: nothing here touches them.</summary>
public sealed unsafe class GuestMemoryTests
{
    // 0x1000-0x2fff in two regions that touch, 0x8000-0x8fff apart, and the last page but one of the address space.
    private static readonly GuestMemoryRegion[] s_regions =
    [
        new(0x8000, 0x1000, 0x30000),
        new(0x1000, 0x1000, 0x10000),
        new(0x2000, 0x1000, 0x20000),
        new(0xffff_ffff_ffff_e000, 0x1000, 0x40000),
    ];

    public static TheoryData<int> RegionCounts() => new() { 0, 10 };

    [Theory]
    [MemberData(nameof(RegionCounts))]
    public void Agrees_with_a_byte_by_byte_look_up(int moreRegions)
    {
        // More regions than the walk takes, so that the binary search is used as well.
        GuestMemoryRegion[] regions =
        [
            .. s_regions,
            .. Enumerable.Range(0, moreRegions).Select(i => new GuestMemoryRegion(0x100000 + ((ulong)i * 0x2000), 0x1000, 0x50000 + (i * 0x1000))),
        ];
        var memory = new GuestMemory(regions);
        ulong[] starts = [0, 0xfff, 0x1000, 0x1001, 0x1fff, 0x2000, 0x2fff, 0x3000, 0x7fff, 0x8000, 0x8ffe, 0x9000, 0x100000, 0x101fff, 0x102000, 0x112fff, 0xffff_ffff_ffff_dfff, 0xffff_ffff_ffff_e000, 0xffff_ffff_ffff_efff, ulong.MaxValue];
        uint[] lengths = [1, 2, 3, 0xfff, 0x1000, 0x1001, 0x2000, 0x2001, uint.MaxValue];
        Iovec* pieces = stackalloc Iovec[4];
        foreach (ulong start in starts)
        {
            foreach (uint length in lengths)
            {
                var expected = Expected(regions, start, length);
                bool found = memory.TryTranslate(start, length, pieces, 4, out int count);
                Assert.Equal(expected is not null, found);
                byte* whole = memory.TranslateWithinRegion(start, length);
                Assert.Equal(expected is [var only] ? only.Host : 0, (nint)whole);
                if (expected is not null)
                {
                    Assert.Equal(expected.Count, count);
                    for (int i = 0; i < count; i++)
                    {
                        Assert.Equal(expected[i], ((nint)pieces[i].Base, (ulong)pieces[i].LengthBytes));
                    }
                }
            }
        }
    }

    [Fact]
    public void Does_not_write_more_pieces_than_fit()
    {
        var memory = new GuestMemory(s_regions);
        Iovec* pieces = stackalloc Iovec[2];
        pieces[1].LengthBytes = 77;
        Assert.False(memory.TryTranslate(0x1fff, 2, pieces, 1, out int count));
        Assert.Equal(1, count);
        Assert.Equal((nuint)77, pieces[1].LengthBytes);
    }

    [Fact]
    public void Finds_the_way_back_from_every_byte_but_not_over_the_end_of_a_region()
    {
        // The first two touch for the guest and not here; the last two touch here and not for the guest.
        GuestMemoryRegion[] regions = [.. s_regions, new(0x10_0000, 0x1000, 0x40000 + 0x1000)];
        var memory = new GuestMemory(regions);
        foreach (GuestMemoryRegion region in regions)
        {
            foreach (int offset in new[] { 0, 1, 0xffe, 0xfff })
            {
                foreach (ulong length in new ulong[] { 0, 1, 2, 0x1000, 0x1001, ulong.MaxValue })
                {
                    bool inside = length <= 0x1000 - (ulong)offset;
                    Assert.Equal(inside, memory.TryToGuest(region.HostAddress + offset, length, out ulong guestAddress));
                    Assert.Equal(inside ? region.GuestAddress + (ulong)offset : 0, guestAddress);
                }
            }
        }

        Assert.All(
            new nint[] { 0, 0xffff, 0x11000, 0x1ffff, 0x42000, -1 },
            host => Assert.False(memory.TryToGuest(host, 1, out _)));
        Assert.False(new GuestMemory([]).TryToGuest(0x10000, 1, out _));
    }

    [Fact]
    public void Sorts_its_regions() =>
        Assert.Equal([0x1000UL, 0x2000UL, 0x8000UL, 0xffff_ffff_ffff_e000UL], new GuestMemory(s_regions).Regions.ToArray().Select(region => region.GuestAddress));

    [Theory]
    [InlineData(0x1000, 0)]
    [InlineData(0x1000, ulong.MaxValue)]
    [InlineData(0xffff_ffff_ffff_f000, 0x1001)]
    [InlineData(0x1fff, 1)]
    [InlineData(0x2fff, 2)]
    [InlineData(0, 0x1001)]
    public void Refuses_a_region_that_is_empty_or_overflows_or_overlaps(ulong address, ulong lengthBytes) =>
        Assert.Throws<ArgumentException>(() => new GuestMemory([.. s_regions, new GuestMemoryRegion(address, lengthBytes, 0x1000)]));

    // Region by region, in 128 bits, where nothing overflows.
    private static List<(nint Host, ulong Length)>? Expected(GuestMemoryRegion[] regions, ulong start, uint length)
    {
        var pieces = new List<(nint, ulong)>();
        UInt128 at = start;
        UInt128 end = at + length;
        while (at < end)
        {
            int index = Array.FindIndex(regions, region => at >= region.GuestAddress && at < (UInt128)region.GuestAddress + region.LengthBytes);
            if (index < 0)
            {
                return null;
            }

            UInt128 pieceEnd = UInt128.Min(end, (UInt128)regions[index].GuestAddress + regions[index].LengthBytes);
            pieces.Add(((nint)((ulong)regions[index].HostAddress + (ulong)(at - regions[index].GuestAddress)), (ulong)(pieceEnd - at)));
            at = pieceEnd;
        }

        return pieces;
    }
}
