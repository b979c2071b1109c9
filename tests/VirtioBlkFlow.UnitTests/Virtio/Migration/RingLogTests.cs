using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Migration;
using VirtioBlkFlow.Virtio.Ring;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Virtio.Migration;

/// <summary>Which pages writes to the rings mark.</summary>
public sealed class RingLogTests : IDisposable
{
    private const int Pages = 1024;

    private readonly GuardedMemory _bitmap = new(Pages / 8);

    private DirtyLog Log => new(_bitmap.Address, (ulong)_bitmap.LengthBytes);

    public void Dispose() => _bitmap.Dispose();

    [Fact]
    public void A_used_ring_is_marked_relative_to_the_log_address()
    {
        // 1024 elements of 8 bytes, from 4 on, in a ring that begins 4 bytes before the end of page 3.
        const ulong Address = (4 * 4096) - 4;
        var ring = new SplitRingLog(Log, Address, queueSize: 1024);
        Assert.Equal([3], PagesOf(ring.MarkFlags));
        Assert.Equal([3], PagesOf(ring.MarkIndex));
        Assert.Equal([4], PagesOf(() => ring.MarkElement(0)));
        Assert.Equal([4], PagesOf(() => ring.MarkElement(511)));
        Assert.Equal([5], PagesOf(() => ring.MarkElement(512)));
        Assert.Equal([5], PagesOf(() => ring.MarkElement(65535)));
        Assert.Equal([6], PagesOf(ring.MarkAvailableEvent));
        Assert.Equal(4 + 8192, SplitRingLayout.AvailableEventOffset(1024));
    }

    [Fact]
    public void A_used_element_over_a_page_border_marks_both_pages()
    {
        var ring = new SplitRingLog(Log, 4096 - 8, queueSize: 4);
        Assert.Equal([0, 1], PagesOf(() => ring.MarkElement(0)));
    }

    [Theory]
    [InlineData(Pages * 4096UL)]
    [InlineData(ulong.MaxValue - 1)]
    [InlineData(ulong.MaxValue)]
    public void A_log_address_beyond_the_log_is_an_outcome(ulong address)
    {
        DirtyLog log = Log;
        var split = new SplitRingLog(log, address, queueSize: 4);
        Assert.Equal(DirtyOutcome.OutOfRange, split.MarkElement(3));
        Assert.Equal(DirtyOutcome.OutOfRange, split.MarkAvailableEvent());
        Assert.Equal(2, log.OutOfRangeCount);
        Assert.Equal(-1, _bitmap.Bytes.IndexOfAnyExcept((byte)0));
        _bitmap.AssertGuardsUntouched();
    }

    [Fact]
    public void A_packed_ring_is_marked_where_it_is_and_its_event_area_at_the_log_address_too()
    {
        var memory = new GuestMemory([new GuestMemoryRegion(64 * 4096, 64 * 4096, 0x10_0000)]);
        var ring = new PackedRingLog(Log, logAddress: 900 * 4096, memory, descriptorRing: 0x10_0000 + 4096, deviceEventArea: 0x10_0000 + (8 * 4096), queueSize: 600);
        Assert.Equal([65], PagesOf(() => ring.MarkDescriptor(255)));
        Assert.Equal([66], PagesOf(() => ring.MarkDescriptor(256)));
        Assert.Equal([65, 66, 67], PagesOf(ring.MarkRing));
        Assert.Equal([72, 900], PagesOf(ring.MarkDeviceEvent));
    }

    [Fact]
    public void A_packed_ring_outside_guest_memory_is_an_outcome()
    {
        var memory = new GuestMemory([new GuestMemoryRegion(0, 4096, 0x10_0000)]);
        var ring = new PackedRingLog(Log, logAddress: 5 * 4096, memory, descriptorRing: 0x10_0000 + 4080, deviceEventArea: 0x20_0000, queueSize: 2);
        Assert.Equal(DirtyOutcome.OutOfRange, ring.MarkDescriptor(0));
        Assert.Equal(DirtyOutcome.OutOfRange, ring.MarkRing());
        Assert.Equal(DirtyOutcome.OutOfRange, ring.MarkDeviceEvent());
        Assert.Equal([5], MarkedPages());
    }

    private int[] PagesOf(Func<DirtyOutcome> mark)
    {
        _bitmap.Bytes.Clear();
        Assert.Equal(DirtyOutcome.Marked, mark());
        return MarkedPages();
    }

    private int[] MarkedPages() => [.. Enumerable.Range(0, Pages).Where(page => (_bitmap.Bytes[page / 8] >> (page % 8) & 1) != 0)];
}
