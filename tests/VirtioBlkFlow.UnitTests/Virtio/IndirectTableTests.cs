using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Ring;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Virtio;

/// <summary>VIRTIO 1.4, "Indirect Descriptors".</summary>
public sealed unsafe class IndirectTableTests : IDisposable
{
    private readonly RingPair _pair = new(8, VirtioFeatures.VIRTIO_RING_F_INDIRECT_DESC, indirectEntries: 128);
    private readonly ulong _buffer;

    public IndirectTableTests() => _buffer = _pair.Allocate(4096);

    public void Dispose() => _pair.Dispose();

    [Fact]
    public void Takes_a_chain_that_stands_in_a_table()
    {
        ushort head = _pair.OfferIndirect(DriverBuffer.Readable(_buffer, 16), DriverBuffer.Writable(_buffer + 512, 512), DriverBuffer.Writable(_buffer + 16, 1));
        DescriptorChain chain = _pair.Pop();
        Assert.Equal(head, chain.Slot);
        AssertPieces(chain, (_buffer, 16), (_buffer + 512, 512), (_buffer + 16, 1));
        Assert.Equal((1, 2), (chain.ReadableCount, chain.WritableCount));
        _pair.Complete(head, 513);
    }

    [Fact]
    public void A_table_may_be_longer_than_the_queue()
    {
        var buffers = new DriverBuffer[128];
        for (int i = 0; i < buffers.Length; i++)
        {
            buffers[i] = DriverBuffer.Readable(_buffer + (ulong)i, 1);
        }

        _pair.OfferIndirect(buffers);
        Assert.Equal(128, _pair.Pop().ReadableCount);
    }

    [Fact]
    public void Takes_normal_descriptors_followed_by_a_table()
    {
        Assert.True(_pair.Driver.TryAddMixed(
            [DriverBuffer.Readable(_buffer, 8), DriverBuffer.Readable(_buffer + 8, 8)],
            [DriverBuffer.Writable(_buffer + 512, 512), DriverBuffer.Writable(_buffer + 16, 1)],
            out ushort head));
        _pair.Driver.Publish();
        DescriptorChain chain = _pair.Pop();
        AssertPieces(chain, (_buffer, 8), (_buffer + 8, 8), (_buffer + 512, 512), (_buffer + 16, 1));
        Assert.Equal((2, 2), (chain.ReadableCount, chain.WritableCount));
        _pair.Complete(head, 513);
        Assert.Equal(8, _pair.Driver.FreeDescriptorCount);
    }

    [Fact]
    public void Follows_the_links_of_a_table_and_not_the_order_of_its_entries()
    {
        ulong table = _pair.Allocate(4 * 16);
        _pair.WriteTable(
            table,
            Link(_buffer, 16, 3),
            new Descriptor { Address = _buffer + 2048, LengthBytes = 1, Flags = DescriptorFlags.VIRTQ_DESC_F_WRITE },
            new Descriptor { Address = 1UL << 50, LengthBytes = 7 },
            Link(_buffer + 1024, 512, 1));
        _pair.OfferRaw(Refer(table, 64));
        AssertPieces(_pair.Pop(), (_buffer, 16), (_buffer + 1024, 512), (_buffer + 2048, 1));
    }

    [Fact]
    public void Ignores_the_write_flag_of_the_descriptor_that_refers_to_a_table()
    {
        ulong table = _pair.Allocate(16);
        _pair.WriteTable(table, new Descriptor { Address = _buffer, LengthBytes = 16 });
        Descriptor reference = Refer(table, 16);
        reference.Flags |= DescriptorFlags.VIRTQ_DESC_F_WRITE;
        _pair.OfferRaw(reference);
        DescriptorChain chain = _pair.Pop();
        Assert.Equal((1, 0, ChainFaults.None), (chain.ReadableCount, chain.WritableCount, chain.Faults));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(8)]
    [InlineData(15)]
    [InlineData(16)]
    [InlineData(31)]
    [InlineData(40)]
    public void A_table_may_straddle_two_regions(int bytesBeforeTheBorder)
    {
        ulong table = RingPair.Border - (ulong)bytesBeforeTheBorder;
        _pair.WriteTable(
            table,
            Link(_buffer, 16, 1),
            Link(_buffer + 1024, 512, 2),
            new Descriptor { Address = _buffer + 2048, LengthBytes = 1, Flags = DescriptorFlags.VIRTQ_DESC_F_WRITE });
        _pair.OfferRaw(Refer(table, 48));
        AssertPieces(_pair.Pop(), (_buffer, 16), (_buffer + 1024, 512), (_buffer + 2048, 1));
    }

    [Fact]
    public void A_table_needs_no_alignment()
    {
        ulong table = _pair.Allocate(64) + 3;
        _pair.WriteTable(table, Link(_buffer, 16, 1), new Descriptor { Address = _buffer + 64, LengthBytes = 1, Flags = DescriptorFlags.VIRTQ_DESC_F_WRITE });
        _pair.OfferRaw(Refer(table, 32));
        AssertPieces(_pair.Pop(), (_buffer, 16), (_buffer + 64, 1));
    }

    private void AssertPieces(DescriptorChain chain, params ReadOnlySpan<(ulong Address, int LengthBytes)> expected)
    {
        Assert.Equal(expected.Length, chain.ReadableCount + chain.WritableCount);
        for (int i = 0; i < expected.Length; i++)
        {
            Assert.Equal((nint)_pair.Memory.Host(expected[i].Address, 1), (nint)chain.Pieces[i].Base);
            Assert.Equal((nuint)expected[i].LengthBytes, chain.Pieces[i].LengthBytes);
        }
    }

    private static Descriptor Link(ulong address, uint lengthBytes, ushort next) =>
        new() { Address = address, LengthBytes = lengthBytes, Flags = DescriptorFlags.VIRTQ_DESC_F_NEXT, Next = next };

    private static Descriptor Refer(ulong table, uint lengthBytes) =>
        new() { Address = table, LengthBytes = lengthBytes, Flags = DescriptorFlags.VIRTQ_DESC_F_INDIRECT };
}
