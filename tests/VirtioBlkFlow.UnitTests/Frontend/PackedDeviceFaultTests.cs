using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Frontend;

/// <summary>Each rule a device can break in a packed ring, broken: the driver names it.</summary>
public sealed class PackedDeviceFaultTests : IDisposable
{
    private const ushort Used = RawPackedRing.AvailableAndUsed;

    private readonly SharedMemory _memory = SharedMemory.OfSize(1 << 20);
    private readonly PackedDriverRing _ring;
    private readonly ushort _id;

    public PackedDeviceFaultTests()
    {
        _ring = new PackedDriverRing(_memory, 8, VirtioFeatures.VIRTIO_F_RING_PACKED);
        Assert.True(_ring.TryAdd([DriverBuffer.Readable(0, 16), DriverBuffer.Writable(64, 100), DriverBuffer.Writable(256, 1)], out ushort head));
        Assert.True(_ring.TryAdd([DriverBuffer.Readable(512, 16)], out ushort second));
        _ring.Publish();
        _id = _ring.IdOf(head);
        SecondId = _ring.IdOf(second);
    }

    private ushort SecondId { get; }

    public void Dispose() => _memory.Dispose();

    [Fact]
    public void What_is_right_is_taken()
    {
        Use(0, _id, 101, Used | RawPackedRing.VIRTQ_DESC_F_WRITE);
        Assert.True(_ring.TryTakeUsed(out UsedChain used));
        Assert.Equal(101u, used.WrittenBytes);
        Use(3, SecondId, 77, Used);
        Assert.True(_ring.TryTakeUsed(out used));
        // Without WRITE the length is reserved.
        Assert.Equal(0u, used.WrittenBytes);
        _ring.VerifyUntouched();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void What_a_crash_left_of_a_batch_and_the_next_device_withdrew_counts_for_nothing(bool withdrawn)
    {
        // A batch of both chains was on its way: all of the second, and of the first all but the flags that publish it.
        _ring.Raw.WriteAllButFlags(0, new PackedSlot(0, 16, SecondId, 0));
        Use(1, _id, 101, Used | RawPackedRing.VIRTQ_DESC_F_WRITE);
        _ring.AfterCrash();
        Assert.False(_ring.TryTakeUsed(out _));
        if (withdrawn)
        {
            _ring.Raw.WriteFlags(1, RawPackedRing.VIRTQ_DESC_F_AVAIL | RawPackedRing.VIRTQ_DESC_F_WRITE);
        }

        Use(0, SecondId, 0, Used);
        Assert.True(_ring.TryTakeUsed(out _));
        Assert.Equal(!withdrawn, _ring.TryTakeUsed(out _));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(RawPackedRing.VIRTQ_DESC_F_USED)]
    [InlineData(RawPackedRing.VIRTQ_DESC_F_AVAIL)]
    public void A_wrong_wrap_counter_is_named(ushort flags)
    {
        Use(0, _id, 1, flags);
        Throws("Used flags");
    }

    [Theory]
    [InlineData(RawPackedRing.VIRTQ_DESC_F_NEXT)]
    [InlineData(RawPackedRing.VIRTQ_DESC_F_INDIRECT)]
    [InlineData(0x100)]
    public void A_reserved_flag_is_named(ushort flag)
    {
        Use(0, _id, 1, (ushort)(Used | flag));
        Throws("Used flags");
    }

    [Theory]
    [InlineData(7)]
    [InlineData(8)]
    [InlineData(ushort.MaxValue)]
    public void An_id_that_is_not_in_flight_is_named(ushort id)
    {
        Use(0, id, 1, Used);
        Throws("Used id");
    }

    [Fact]
    public void A_buffer_returned_twice_is_named()
    {
        Use(0, _id, 1, Used | RawPackedRing.VIRTQ_DESC_F_WRITE);
        Assert.True(_ring.TryTakeUsed(out _));
        Use(3, _id, 1, Used | RawPackedRing.VIRTQ_DESC_F_WRITE);
        Throws("Used id");
    }

    [Fact]
    public void A_buffer_returned_with_nothing_in_flight_is_named()
    {
        What_is_right_is_taken();
        Use(4, _id, 1, Used | RawPackedRing.VIRTQ_DESC_F_WRITE);
        Throws("Used id");
    }

    [Fact]
    public void A_length_beyond_what_could_be_written_is_named()
    {
        Use(0, _id, 102, Used | RawPackedRing.VIRTQ_DESC_F_WRITE);
        Throws("Used length");
    }

    [Fact]
    public void A_write_into_a_buffer_that_can_only_be_read_is_named()
    {
        Use(0, SecondId, 0, Used | RawPackedRing.VIRTQ_DESC_F_WRITE);
        Throws("Used length");
    }

    [Fact]
    public void A_used_offset_that_goes_on_by_one_instead_of_by_the_chain_is_named()
    {
        Use(1, SecondId, 0, Used);
        Use(0, _id, 1, Used | RawPackedRing.VIRTQ_DESC_F_WRITE);
        Throws("Used offset");
    }

    [Fact]
    public void A_write_anywhere_else_in_the_ring_is_found_at_rest()
    {
        What_is_right_is_taken();
        _ring.Raw.WriteSlot(6, _ring.Raw.ReadSlot(6) with { LengthBytes = 1 });
        Assert.Throws<DeviceBrokeRingException>(_ring.VerifyUntouched);
    }

    private void Use(int slot, ushort id, uint lengthBytes, int flags) =>
        _ring.Raw.WriteSlot(slot, _ring.Raw.ReadSlot(slot) with { Id = id, LengthBytes = lengthBytes, Flags = (ushort)flags });

    private void Throws(string rule)
    {
        Assert.True(_ring.HasUsed);
        Assert.StartsWith(rule, Assert.Throws<DeviceBrokeRingException>(() => _ring.TryTakeUsed(out _)).Message, StringComparison.Ordinal);
    }
}
