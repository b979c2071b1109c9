using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;
using VirtioBlkFlow.Virtio.Ring;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Virtio;

/// <summary>Chains of more pieces than a short list holds.</summary>
public sealed unsafe class LongListTests
{
    private const VirtioFeatures Indirect = VirtioFeatures.VIRTIO_RING_F_INDIRECT_DESC;

    [Theory]
    [InlineData(IovecArena.ShortListPieces - 1)]
    [InlineData(IovecArena.ShortListPieces)]
    [InlineData(IovecArena.ShortListPieces + 1)]
    [InlineData(512 + 17)]
    [InlineData(Virtqueue.MaxChainLength)]
    public void A_request_in_one_byte_pieces_is_taken_whole(int pieces)
    {
        using var pair = new RingPair(2, Indirect, Virtqueue.MaxChainLength);
        ulong buffer = pair.Allocate(2 * pieces);
        var chain = new DriverBuffer[pieces];
        for (int i = 0; i < pieces; i++)
        {
            // Two bytes apart, so that nothing can merge them by accident.
            chain[i] = new DriverBuffer(buffer + (ulong)(2 * i), 1, DeviceWritable: i >= 16);
        }

        pair.OfferIndirect(chain);
        DescriptorChain popped = pair.Pop();
        Assert.Equal(ChainFaults.None, popped.Faults);
        Assert.Equal(pieces, popped.ReadableCount + popped.WritableCount);
        for (int i = 0; i < pieces; i++)
        {
            Assert.Equal((nint)pair.Memory.Host(chain[i].GuestAddress, 1), (nint)popped.Pieces[i].Base);
            Assert.Equal((nuint)1, popped.Pieces[i].LengthBytes);
        }

        Assert.True(BlkRequest.TryParse(in popped, out BlkRequest request, out _));
        Assert.Equal((uint)pieces - 17, request.DataInBytes);
    }

    [Fact]
    public void A_piece_that_straddles_at_the_end_of_the_short_list_moves_to_the_long_one_whole()
    {
        using var pair = new RingPair(2, Indirect, 256);
        ulong buffer = pair.Allocate(4096);
        var chain = new DriverBuffer[IovecArena.ShortListPieces];
        for (int i = 0; i < chain.Length; i++)
        {
            chain[i] = DriverBuffer.Writable(buffer + (ulong)(2 * i), 1);
        }

        chain[^1] = DriverBuffer.Writable(RingPair.Border - 3, 10);
        pair.OfferIndirect(chain);
        DescriptorChain popped = pair.Pop();
        Assert.Equal(ChainFaults.None, popped.Faults);
        Assert.Equal(chain.Length + 1, popped.WritableCount);
        Assert.Equal((3u, 7u), ((uint)popped.Pieces[chain.Length - 1].LengthBytes, (uint)popped.Pieces[chain.Length].LengthBytes));
        Assert.Equal((nint)pair.Memory.Host(buffer, 1), (nint)popped.Pieces[0].Base);
    }

    [Fact]
    public void Every_descriptor_of_the_longest_chain_may_straddle()
    {
        using var pair = new RingPair(2, Indirect, Virtqueue.MaxChainLength);
        var chain = new DriverBuffer[Virtqueue.MaxChainLength];
        Array.Fill(chain, DriverBuffer.Writable(RingPair.Border - 1, 2));
        pair.OfferIndirect(chain);
        DescriptorChain popped = pair.Pop();
        Assert.Equal(ChainFaults.None, popped.Faults);
        Assert.Equal(IovecArena.LongListPieces, popped.WritableCount);
    }

    [Fact]
    public void When_all_long_lists_are_in_use_the_chain_waits_in_the_ring_and_short_ones_behind_it_too()
    {
        using var pair = new RingPair(512, Indirect, IovecArena.ShortListPieces + 1);
        ulong buffer = pair.Allocate(4096);
        var chain = new DriverBuffer[IovecArena.ShortListPieces + 1];
        for (int i = 0; i < chain.Length; i++)
        {
            chain[i] = DriverBuffer.Writable(buffer + (ulong)(2 * i), 1);
        }

        for (int i = 0; i <= IovecArena.MaxLongLists; i++)
        {
            pair.OfferIndirect(chain);
        }

        ushort shortOne = pair.Offer(DriverBuffer.Writable(buffer, 1));
        var heads = new Queue<ushort>();
        for (int i = 0; i < IovecArena.MaxLongLists; i++)
        {
            heads.Enqueue(pair.Pop().Slot);
        }

        for (int i = 0; i < 3; i++)
        {
            Assert.Equal(PopOutcome.Later, pair.Device.TryPop(out _));
        }

        Assert.Equal(IovecArena.MaxLongLists, pair.Device.InFlightCount);
        Assert.True(pair.Device.HasAvailable);
        pair.Complete(heads.Dequeue(), 1);
        heads.Enqueue(pair.Pop().Slot);
        Assert.Equal(shortOne, pair.Pop().Slot);
        pair.Complete(shortOne, 1);
        // And for ever on: no list is lost on the way.
        for (int i = 0; i < 1000; i++)
        {
            pair.OfferIndirect(chain);
            Assert.Equal(PopOutcome.Later, pair.Device.TryPop(out _));
            pair.Complete(heads.Dequeue(), 1);
            heads.Enqueue(pair.Pop().Slot);
        }
    }
}
