using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Virtio;

/// <summary>Used lengths, and the lists of pieces a request is worked on with.</summary>
public sealed unsafe class BlkRequestTests
{
    [Theory]
    [InlineData(1024, 1024, 1025)]
    [InlineData(1024, 1023, 1023)]
    [InlineData(1024, 20, 20)]
    [InlineData(1024, 0, 0)]
    [InlineData(0, 0, 1)]
    [InlineData(20, 20, 21)]
    public void The_status_counts_only_when_nothing_before_it_was_left_out(int dataBytes, uint written, uint usedBytes)
    {
        using var pair = new RingPair(4);
        ulong header = pair.Allocate(16);
        ulong buffer = pair.Allocate(4096);
        pair.Write(buffer + (ulong)dataBytes, [0xee]);
        pair.Offer(DriverBuffer.Readable(header, 16), DriverBuffer.Writable(buffer, (uint)dataBytes + 1));
        Assert.True(BlkRequest.TryParse(pair.Pop(), out BlkRequest request, out _));
        Assert.Equal((uint)dataBytes, request.DataInBytes);
        Assert.Equal(usedBytes, request.Reply.Finish(BlkStatus.VIRTIO_BLK_S_UNSUPP, written));
        Assert.Equal([(byte)BlkStatus.VIRTIO_BLK_S_UNSUPP], pair.Read(buffer + (ulong)dataBytes, 1));
    }

    [Theory]
    [InlineData(2u)]
    [InlineData(0x8000_0000u)]
    [InlineData(uint.MaxValue)]
    public void An_unknown_type_is_parsed_for_others_to_refuse(uint type)
    {
        using var pair = new RingPair(4);
        ulong header = pair.Allocate(32);
        pair.Write(header, BitConverter.GetBytes(type));
        pair.Offer(DriverBuffer.Readable(header, 16), DriverBuffer.Writable(header + 16, 1));
        Assert.True(BlkRequest.TryParse(pair.Pop(), out BlkRequest request, out _));
        Assert.Equal(type, (uint)request.Type);
    }

    [Theory]
    [InlineData(0, 3, 5)]
    [InlineData(4, 3, 1)]
    [InlineData(5, 2, 5)]
    [InlineData(12, 1, 3)]
    [InlineData(15, 0, 0)]
    [InlineData(99, 0, 0)]
    public void A_short_transfer_is_resumed_where_it_ended(int advanceBytes, int count, int firstBytes)
    {
        byte* memory = stackalloc byte[15];
        Iovec* pieces = stackalloc Iovec[3];
        for (int i = 0; i < 3; i++)
        {
            pieces[i] = new Iovec(memory + (5 * i), 5);
        }

        int left = 3;
        Iovec.Advance(ref pieces, ref left, (nuint)advanceBytes);
        Assert.Equal(count, left);
        if (left > 0)
        {
            Assert.Equal((nint)(memory + advanceBytes), (nint)pieces->Base);
            Assert.Equal((nuint)firstBytes, pieces->LengthBytes);
        }
    }

    [Fact]
    public void Gather_and_scatter_stop_at_the_shorter_side()
    {
        byte* memory = stackalloc byte[8];
        Iovec* pieces = stackalloc Iovec[2];
        pieces[0] = new Iovec(memory, 3);
        pieces[1] = new Iovec(memory + 4, 4);
        Assert.Equal(7, Iovec.Scatter([1, 2, 3, 4, 5, 6, 7, 8, 9], pieces, 2));
        Assert.Equal(2, Iovec.Scatter([11, 12], pieces, 2));
        byte[] all = new byte[9];
        Assert.Equal(7, Iovec.Gather(pieces, 2, all));
        Assert.Equal([11, 12, 3, 4, 5, 6, 7, 0, 0], all);
        Assert.Equal(4, Iovec.Gather(pieces, 2, all.AsSpan(0, 4)));
    }
}
