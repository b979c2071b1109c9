using Mono.Unix.Native;
using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Protocol;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Frontend;

public sealed class DirtyLogTests
{
    private const int Page = DirtyLog.PageBytes;

    [Theory]
    [InlineData(0ul)]
    [InlineData(4096ul)]
    public void Pages_are_marked_by_another_mapping_and_taken_once(ulong offset)
    {
        using var log = new DirtyLog(1000 * Page, offset);
        Assert.Equal(new LogArea(128, offset), log.Area);
        using var other = new Mapping(log);
        // byte = page / 8, bit = page % 8 (vhost-user.rst, "Migration").
        other.Mark(0);
        other.Mark(9);
        other.Mark(999);
        Assert.Equal([0ul, 9, 999], log.FetchAndClear());
        Assert.Empty(log.FetchAndClear());
    }

    [Fact]
    public void No_mark_is_lost_while_it_is_taken()
    {
        const int Pages = 64 * 4;
        const int Rounds = 20_000;
        using var log = new DirtyLog(Pages * (ulong)Page);
        using var other = new Mapping(log);
        long marked = 0;
        var marker = new Thread(() =>
        {
            var random = new Random(1);
            for (int i = 0; i < Rounds; i++)
            {
                marked += other.Mark(random.Next(Pages)) ? 1 : 0;
            }
        });
        marker.Start();
        long taken = 0;
        while (marker.IsAlive)
        {
            taken += log.FetchAndClear().Count;
        }

        marker.Join();
        Assert.Equal(marked, taken + log.FetchAndClear().Count);
    }

    [Fact]
    public void It_reaches_to_the_end_of_the_highest_region()
    {
        using var memory = new SharedMemory(new SharedRegionOptions(0, Page), new SharedRegionOptions(640 * Page, 64 * Page));
        using var log = DirtyLog.For(memory);
        Assert.Equal(704ul / 8, log.Area.LengthBytes);
    }

    [Fact]
    public void A_range_lies_in_the_pages_it_touches()
    {
        Assert.Equal([0ul, 1], DirtyLog.PagesOf(Page - 1, 2));
        Assert.Equal([3ul], DirtyLog.PagesOf(3 * Page, Page));
        Assert.Empty(DirtyLog.PagesOf(3 * Page, 0));
    }

    // As a back-end has it.
    private sealed unsafe class Mapping : IDisposable
    {
        private readonly nint _place;
        private readonly ulong _lengthBytes;

        public Mapping(DirtyLog log)
        {
            _lengthBytes = log.Area.LengthBytes;
            _place = Syscall.mmap(
                0, _lengthBytes, MmapProts.PROT_READ | MmapProts.PROT_WRITE, MmapFlags.MAP_SHARED, (int)log.Handle.DangerousGetHandle(), (long)log.Area.Offset);
            Assert.NotEqual(Syscall.MAP_FAILED, _place);
        }

        /// <returns>Whether it was clear.</returns>
        public bool Mark(int page)
        {
            uint bit = 1u << (page % 32);
            return (Interlocked.Or(ref ((uint*)_place)[page / 32], bit) & bit) == 0;
        }

        public void Dispose() => _ = Syscall.munmap(_place, _lengthBytes);
    }
}
