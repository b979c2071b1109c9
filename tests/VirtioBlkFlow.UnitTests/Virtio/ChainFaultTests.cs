using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio.Blk;
using VirtioBlkFlow.Virtio.Ring;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Virtio;

/// <summary>Buffers that straddle regions, which is legal, and chains that are answered with a status because they are not.</summary>
public sealed unsafe class ChainFaultTests : IDisposable
{
    private readonly RingPair _pair = new(16);
    private readonly ulong _header;
    private readonly ulong _status;

    public ChainFaultTests()
    {
        _header = _pair.Allocate(16);
        _status = _pair.Allocate(16);
        _pair.Write(_status, [0xee]);
    }

    public void Dispose() => _pair.Dispose();

    [Fact]
    public void A_buffer_that_straddles_two_regions_becomes_two_pieces()
    {
        _pair.Offer(DriverBuffer.Readable(_header, 16), DriverBuffer.Writable(RingPair.Border - 100, 512), DriverBuffer.Writable(_status, 1));
        Assert.True(BlkRequest.TryParse(_pair.Pop(), out BlkRequest request, out _));
        Assert.Equal(2, request.DataInCount);
        Assert.Equal(512u, request.DataInBytes);
        Assert.Equal((nint)_pair.Memory.Host(RingPair.Border - 100, 100), (nint)request.DataIn[0].Base);
        Assert.Equal((100u, 412u), ((uint)request.DataIn[0].LengthBytes, (uint)request.DataIn[1].LengthBytes));
        Assert.Equal((nint)_pair.Memory.Host(RingPair.Border, 412), (nint)request.DataIn[1].Base);
    }

    [Fact]
    public void The_status_may_be_the_first_byte_of_the_second_region()
    {
        _pair.Offer(DriverBuffer.Readable(_header, 16), DriverBuffer.Writable(RingPair.Border - 512, 513));
        Assert.True(BlkRequest.TryParse(_pair.Pop(), out BlkRequest request, out _));
        Assert.Equal((1, 512u), (request.DataInCount, request.DataInBytes));
        Assert.Equal((nint)_pair.Memory.Host(RingPair.Border, 1), (nint)request.Status);
    }

    public static TheoryData<ulong, uint> Unmapped() => new()
    {
        { 1UL << 40, 512 },
        { RingPair.EndOfMemory, 1 },
        { RingPair.EndOfMemory - 511, 512 },
        { RingPair.Border - 1, 1 + (4 << 20) + 1 },
        { 0, uint.MaxValue - 1 },
        { ulong.MaxValue, 1 },
        { ulong.MaxValue, 2 },
        { ulong.MaxValue - 511, 512 },
        { ulong.MaxValue - 511, uint.MaxValue - 1 },
    };

    [Theory]
    [MemberData(nameof(Unmapped))]
    public void Data_outside_memory_is_answered_by_the_status_with_length_0(ulong address, uint lengthBytes)
    {
        _pair.Offer(DriverBuffer.Readable(_header, 16), DriverBuffer.Writable(address, lengthBytes), DriverBuffer.Writable(_status, 1));
        ExpectFaulty(ChainFaults.Unmapped, usedBytes: 0);
    }

    [Theory]
    [MemberData(nameof(Unmapped))]
    public void A_header_outside_memory_is_answered_by_the_status(ulong address, uint lengthBytes)
    {
        _pair.Offer(DriverBuffer.Readable(address, lengthBytes), DriverBuffer.Writable(_status, 1));
        ExpectFaulty(ChainFaults.Unmapped, usedBytes: 1);
    }

    [Theory]
    [MemberData(nameof(Unmapped))]
    public void A_status_outside_memory_cannot_be_answered_and_the_chain_is_returned(ulong address, uint lengthBytes)
    {
        ushort head = _pair.Offer(DriverBuffer.Readable(_header, 16), DriverBuffer.Writable(_status, 1), DriverBuffer.Writable(address, lengthBytes));
        ExpectNoStatus(head);
    }

    [Fact]
    public void Readable_after_writable_is_answered_by_the_status()
    {
        _pair.Offer(DriverBuffer.Readable(_header, 16), DriverBuffer.Writable(_status, 1), DriverBuffer.Readable(_header, 16));
        ExpectFaulty(ChainFaults.ReadableAfterWritable, usedBytes: 1);
    }

    [Fact]
    public void Readable_after_writable_is_noticed_even_if_the_writable_one_is_outside_memory()
    {
        _pair.Offer(DriverBuffer.Writable(1UL << 40, 5), DriverBuffer.Readable(_header, 16), DriverBuffer.Writable(_status, 1));
        ExpectFaulty(ChainFaults.ReadableAfterWritable | ChainFaults.Unmapped, usedBytes: 0);
    }

    [Theory]
    [InlineData(uint.MaxValue, 1)]
    [InlineData(uint.MaxValue, 2)]
    [InlineData(uint.MaxValue, 3)]
    [InlineData(uint.MaxValue, uint.MaxValue)]
    public void Writable_buffers_of_more_than_32_bits_are_answered_with_length_0(uint first, uint second)
    {
        // Together with the status: 2^32 + 1 and more, which must not be taken for a small length.
        _pair.Offer(
            DriverBuffer.Readable(_header, 16),
            DriverBuffer.Writable(0, first),
            DriverBuffer.Writable(0, second),
            DriverBuffer.Writable(_status, 1));
        ExpectFaulty(ChainFaults.Unmapped | ChainFaults.TooLong, usedBytes: 0);
    }

    [Fact]
    public void Readable_buffers_of_more_than_32_bits_are_answered_by_the_status()
    {
        _pair.Offer(
            DriverBuffer.Readable(0, uint.MaxValue),
            DriverBuffer.Readable(_header, 17),
            DriverBuffer.Writable(_status, 1));
        ExpectFaulty(ChainFaults.Unmapped | ChainFaults.TooLong, usedBytes: 1);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(15)]
    public void A_short_header_is_answered_by_the_status(uint headerBytes)
    {
        _pair.Offer(DriverBuffer.Readable(_header, headerBytes), DriverBuffer.Writable(_status, 1));
        Assert.False(BlkRequest.TryParse(_pair.Pop(), out BlkRequest request, out BlkParseError error));
        Assert.Equal(BlkParseError.ShortHeader, error);
        Assert.Equal(1u, request.Reply.Finish(BlkStatus.VIRTIO_BLK_S_IOERR, 0));
        Assert.Equal([(byte)BlkStatus.VIRTIO_BLK_S_IOERR], _pair.Read(_status, 1));
    }

    [Fact]
    public void A_chain_without_a_writable_byte_cannot_be_answered_and_is_returned()
    {
        ushort head = _pair.Offer(DriverBuffer.Readable(_header, 16), DriverBuffer.Writable(_status, 0));
        ExpectNoStatus(head);
    }

    private void ExpectFaulty(ChainFaults faults, uint usedBytes)
    {
        DescriptorChain chain = _pair.Pop();
        Assert.Equal(faults, chain.Faults);
        Assert.False(BlkRequest.TryParse(in chain, out BlkRequest request, out BlkParseError error));
        Assert.Equal(BlkParseError.FaultyChain, error);
        uint length = request.Reply.Finish(BlkStatus.VIRTIO_BLK_S_IOERR, 0);
        Assert.Equal([(byte)BlkStatus.VIRTIO_BLK_S_IOERR], _pair.Read(_status, 1));
        Assert.Equal(usedBytes, length);
        _pair.Complete(chain.Slot, length);
    }

    private void ExpectNoStatus(ushort head)
    {
        Assert.False(BlkRequest.TryParse(_pair.Pop(), out BlkRequest request, out BlkParseError error));
        Assert.Equal(BlkParseError.NoStatusByte, error);
        Assert.Equal(0u, request.Reply.Finish(BlkStatus.VIRTIO_BLK_S_IOERR, 0));
        Assert.Equal([0xee], _pair.Read(_status, 1));
        _pair.Complete(head, 0);
    }
}
