using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Migration;
using VirtioBlkFlow.Virtio.Ring;
using Xunit;
using Xunit.Abstractions;

namespace VirtioBlkFlow.UnitTests.Virtio.Migration;

/// <summary>Which pages a completed chain marks. Host addresses are numbers only: a tracker never follows them.</summary>
public sealed unsafe class DirtyTrackerTests(ITestOutputHelper output) : IDisposable
{
    private const int Pages = 512;
    private const nint FirstHost = 0x10_0000;
    private const nint SecondHost = 0x80_0000;

    // Two regions that touch for the guest and lie apart here, the upper one below.
    private readonly GuestMemory _memory = new(
    [
        new GuestMemoryRegion(0, Pages / 2 * 4096, SecondHost),
        new GuestMemoryRegion(Pages / 2 * 4096, Pages / 2 * 4096, FirstHost),
    ]);

    private readonly GuardedMemory _bitmap = new(Pages / 8);
    private readonly DirtyTracker _tracker = new(queueSize: 4);

    private DirtyLog Log => new(_bitmap.Address, (ulong)_bitmap.LengthBytes);

    public void Dispose()
    {
        _tracker.Dispose();
        _bitmap.Dispose();
    }

    [Fact]
    public void The_touched_prefix_and_the_status_byte_are_marked_and_nothing_between()
    {
        // A header to read on page 0, three data pages from 10 on, a status byte on page 300, in the upper region.
        Remember(1, readable: 1, (Host(0), 16), (Host(10), 3 * 4096), (Host(300) + 5, 1));
        Assert.Equal(DirtyOutcome.Marked, _tracker.MarkCompleted(1, 4097, _memory, Log));
        Assert.Equal([10, 11, 300], MarkedPages());
    }

    [Fact]
    public void What_becomes_of_the_chains_own_list_does_not_matter()
    {
        var pieces = stackalloc Iovec[2];
        pieces[0] = new Iovec((byte*)Host(20), 8192);
        pieces[1] = new Iovec((byte*)Host(30), 1);
        Assert.True(_tracker.TryRemember(0, new DescriptorChain { Pieces = pieces, WritableCount = 2 }));
        Iovec* advanced = pieces;
        int count = 2;
        Iovec.Advance(ref advanced, ref count, 8192);
        pieces[1].LengthBytes = 0;
        Assert.Equal(DirtyOutcome.Marked, _tracker.MarkCompleted(0, 8193, _memory, Log));
        Assert.Equal([20, 21, 30], MarkedPages());
    }

    [Fact]
    public void A_completed_chain_is_forgotten()
    {
        Remember(2, readable: 0, (Host(7), 4096));
        Assert.Equal(DirtyOutcome.Marked, _tracker.MarkCompleted(2, 0, _memory, Log));
        // The last byte, which is the status, in any case.
        Assert.Equal([7], MarkedPages());
        _bitmap.Bytes.Clear();
        Assert.Equal(DirtyOutcome.Marked, _tracker.MarkCompleted(2, 4096, _memory, Log));
        Assert.Empty(MarkedPages());
    }

    [Fact]
    public void A_piece_in_no_region_is_out_of_range()
    {
        Remember(0, readable: 0, (0x1000, 4096), (Host(9), 1));
        Assert.Equal(DirtyOutcome.OutOfRange, _tracker.MarkCompleted(0, 4097, _memory, Log));
        Assert.Equal([9], MarkedPages());
    }

    [Fact]
    public void Agrees_with_a_byte_by_byte_model_for_short_and_long_lists()
    {
        var random = new Random(TestSeed.Take(output));
        for (int i = 0; i < 60; i++)
        {
            _bitmap.Bytes.Clear();
            int count = random.Next(4) == 0 ? random.Next(IovecArena.ShortListPieces, IovecArena.LongListPieces + 1) : random.Next(1, 8);
            var pieces = new (nint Host, int Length)[count];
            var bytes = new List<int>();
            for (int piece = 0; piece < count; piece++)
            {
                int page = random.Next(Pages);
                int within = random.Next(4096);
                int length = random.Next(1, 4096 - within + 1);
                pieces[piece] = (Host(page) + within, length);
                bytes.AddRange(Enumerable.Repeat(page, length));
            }

            var slot = (ushort)random.Next(4);
            Remember(slot, readable: 0, pieces);
            int touched = random.Next(bytes.Count + 1);
            Assert.Equal(DirtyOutcome.Marked, _tracker.MarkCompleted(slot, (ulong)touched, _memory, Log));
            Assert.Equal(bytes.Take(touched).Append(bytes[^1]).Distinct().Order(), MarkedPages());
        }
    }

    [Fact]
    public void Nothing_is_allocated_for_a_request()
    {
        DirtyLog log = Log;
        var pieces = stackalloc Iovec[1];
        pieces[0] = new Iovec((byte*)Host(1), 4096);
        var chain = new DescriptorChain { Pieces = pieces, WritableCount = 1 };
        long allocated = Allocations.LeastOf(() =>
        {
            for (int i = 0; i < 1000; i++)
            {
                _tracker.TryRemember(3, in chain);
                _tracker.MarkCompleted(3, 4096, _memory, log);
            }
        });
        Assert.Equal(0, allocated);
    }

    private static nint Host(int page) => page < Pages / 2 ? SecondHost + (page * 4096) : FirstHost + ((page - (Pages / 2)) * 4096);

    private void Remember(ushort slot, int readable, params (nint Host, int Length)[] pieces)
    {
        var list = new Iovec[pieces.Length];
        for (int i = 0; i < pieces.Length; i++)
        {
            list[i] = new Iovec((byte*)pieces[i].Host, (nuint)pieces[i].Length);
        }

        fixed (Iovec* first = list)
        {
            Assert.True(_tracker.TryRemember(slot, new DescriptorChain { Pieces = first, ReadableCount = readable, WritableCount = pieces.Length - readable }));
        }
    }

    private int[] MarkedPages() => [.. Enumerable.Range(0, Pages).Where(page => (_bitmap.Bytes[page / 8] >> (page % 8) & 1) != 0)];
}
