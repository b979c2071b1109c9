using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Ring;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Virtio;

/// <summary>Each way a driver can break a ring, by a test of its own.</summary>
public sealed class RingDefectTests
{
    private const VirtioFeatures Indirect = VirtioFeatures.VIRTIO_RING_F_INDIRECT_DESC;

    [Fact]
    public void AvailableIndexJumped_when_it_is_more_than_the_queue_size_ahead()
    {
        using var pair = new RingPair(4);
        pair.Driver.Raw.AvailableIndex = 5;
        pair.ExpectDefect(RingDefect.AvailableIndexJumped);
    }

    [Fact]
    public void AvailableIndexJumped_when_it_goes_backwards()
    {
        using var pair = new RingPair(4);
        pair.Driver.Raw.AvailableIndex = ushort.MaxValue;
        pair.ExpectDefect(RingDefect.AvailableIndexJumped);
    }

    [Theory]
    [InlineData(4)]
    [InlineData(ushort.MaxValue)]
    public void HeadOutOfRange_when_a_head_is_not_below_the_queue_size(ushort head)
    {
        using var pair = new RingPair(4);
        pair.OfferRaw(head);
        pair.ExpectDefect(RingDefect.HeadOutOfRange);
    }

    [Fact]
    public void HeadInFlight_when_a_head_is_offered_again_before_it_was_used()
    {
        using var pair = new RingPair(4);
        ushort head = pair.Offer(DriverBuffer.Writable(pair.Allocate(16), 16));
        pair.Pop();
        pair.OfferRaw(head);
        Assert.Equal(PopOutcome.Broken, pair.Device.TryPop(out _));
        Assert.Equal(RingDefect.HeadInFlight, pair.Device.Defect);
        // What is in flight is still answered.
        pair.Complete(head, 16);
    }

    [Theory]
    [InlineData(4)]
    [InlineData(ushort.MaxValue)]
    public void NextOutOfRange_in_the_main_table(ushort next)
    {
        using var pair = new RingPair(4);
        pair.OfferRaw(Link(pair, next));
        pair.ExpectDefect(RingDefect.NextOutOfRange);
    }

    [Fact]
    public void NextOutOfRange_in_an_indirect_table_even_if_the_main_table_has_that_many()
    {
        using var pair = new RingPair(8, Indirect);
        ulong table = pair.Allocate(64);
        pair.WriteTable(table, Link(pair, 2), Link(pair, 0));
        pair.OfferRaw(Refer(table, 32));
        pair.ExpectDefect(RingDefect.NextOutOfRange);
    }

    [Fact]
    public void ChainLoops_when_a_descriptor_links_to_itself()
    {
        using var pair = new RingPair(4);
        pair.OfferRaw(Link(pair, 0));
        pair.ExpectDefect(RingDefect.ChainLoops);
    }

    [Fact]
    public void ChainLoops_in_a_queue_of_one()
    {
        using var pair = new RingPair(1);
        pair.OfferRaw(Link(pair, 0));
        pair.ExpectDefect(RingDefect.ChainLoops);
    }

    [Fact]
    public void ChainLoops_when_two_descriptors_link_to_each_other()
    {
        using var pair = new RingPair(4);
        pair.OfferRaw(Link(pair, 1), Link(pair, 0));
        pair.ExpectDefect(RingDefect.ChainLoops);
    }

    [Fact]
    public void ChainLoops_when_zero_length_descriptors_loop()
    {
        using var pair = new RingPair(4);
        pair.OfferRaw(new Descriptor { Flags = DescriptorFlags.VIRTQ_DESC_F_NEXT });
        pair.ExpectDefect(RingDefect.ChainLoops);
    }

    [Fact]
    public void ChainLoops_in_an_indirect_table()
    {
        using var pair = new RingPair(4, Indirect);
        ulong table = pair.Allocate(64);
        pair.WriteTable(table, Link(pair, 1), Link(pair, 0));
        pair.OfferRaw(Refer(table, 32));
        pair.ExpectDefect(RingDefect.ChainLoops);
    }

    [Fact]
    public void ChainTooLong_in_a_large_main_table_after_a_bounded_number_of_steps()
    {
        using var pair = new RingPair(SplitRingLayout.MaxQueueSize);
        for (int i = 0; i < SplitRingLayout.MaxQueueSize; i++)
        {
            pair.Driver.Raw.WriteDescriptor(i, Link(pair, (ushort)((i + 1) % SplitRingLayout.MaxQueueSize)));
        }

        pair.OfferRaw((ushort)0);
        pair.ExpectDefect(RingDefect.ChainTooLong);
    }

    [Fact]
    public void ChainTooLong_when_an_indirect_table_has_more_entries_than_we_take()
    {
        using var pair = new RingPair(4, Indirect);
        const uint Entries = Virtqueue.MaxChainLength + 1;
        ulong table = pair.Allocate((int)Entries * SplitRingLayout.DescriptorBytes);
        pair.OfferRaw(Refer(table, Entries * SplitRingLayout.DescriptorBytes));
        pair.ExpectDefect(RingDefect.ChainTooLong);
    }

    [Fact]
    public void ChainTooLong_counts_the_descriptors_before_the_indirect_table()
    {
        using var pair = new RingPair(4, Indirect);
        const int Entries = Virtqueue.MaxChainLength;
        ulong table = pair.Allocate(Entries * SplitRingLayout.DescriptorBytes);
        for (int i = 0; i < Entries; i++)
        {
            pair.WriteTable(table + (ulong)(i * SplitRingLayout.DescriptorBytes), i == Entries - 1 ? Last(pair) : Link(pair, (ushort)(i + 1)));
        }

        pair.OfferRaw(Link(pair, 1), Refer(table, Entries * SplitRingLayout.DescriptorBytes));
        pair.ExpectDefect(RingDefect.ChainTooLong);
    }

    [Fact]
    public void IndirectNotNegotiated_when_the_feature_is_off()
    {
        using var pair = new RingPair(4);
        ulong table = pair.Allocate(64);
        pair.WriteTable(table, Last(pair));
        pair.OfferRaw(Refer(table, 16));
        pair.ExpectDefect(RingDefect.IndirectNotNegotiated);
    }

    [Fact]
    public void IndirectWithNext_when_a_chain_would_go_on_behind_the_table()
    {
        using var pair = new RingPair(4, Indirect);
        ulong table = pair.Allocate(64);
        pair.WriteTable(table, Last(pair));
        Descriptor reference = Refer(table, 16);
        reference.Flags |= DescriptorFlags.VIRTQ_DESC_F_NEXT;
        reference.Next = 1;
        pair.OfferRaw(reference, Last(pair));
        pair.ExpectDefect(RingDefect.IndirectWithNext);
    }

    [Fact]
    public void IndirectNested_when_a_table_refers_to_a_table()
    {
        using var pair = new RingPair(4, Indirect);
        ulong table = pair.Allocate(64);
        pair.WriteTable(table, Refer(table, 16));
        pair.OfferRaw(Refer(table, 16));
        pair.ExpectDefect(RingDefect.IndirectNested);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(15)]
    [InlineData(17)]
    [InlineData(uint.MaxValue)]
    public void IndirectTableSize_when_it_is_not_a_multiple_of_an_entry(uint lengthBytes)
    {
        using var pair = new RingPair(4, Indirect);
        pair.OfferRaw(Refer(pair.Allocate(64), lengthBytes));
        pair.ExpectDefect(RingDefect.IndirectTableSize);
    }

    [Theory]
    [InlineData(1UL << 40)]
    [InlineData(ulong.MaxValue - 15)]
    [InlineData(ulong.MaxValue - 7)]
    public void IndirectTableUnmapped_when_no_memory_is_there(ulong address)
    {
        using var pair = new RingPair(4, Indirect);
        pair.OfferRaw(Refer(address, 32));
        pair.ExpectDefect(RingDefect.IndirectTableUnmapped);
    }

    [Fact]
    public void IndirectTableUnmapped_when_an_entry_that_is_needed_lies_beyond_the_end_of_memory()
    {
        using var pair = new RingPair(4, Indirect);
        ulong table = RingPair.EndOfMemory - 24;
        pair.WriteTable(table, Link(pair, 1));
        pair.OfferRaw(Refer(table, 32));
        pair.ExpectDefect(RingDefect.IndirectTableUnmapped);
    }

    [Fact]
    public void The_chains_before_the_broken_one_are_still_taken()
    {
        using var pair = new RingPair(4);
        ushort good = pair.Offer(DriverBuffer.Writable(pair.Allocate(16), 16));
        pair.OfferRaw((ushort)4);
        Assert.Equal(good, pair.Pop().Slot);
        Assert.Equal(PopOutcome.Broken, pair.Device.TryPop(out _));
        Assert.Equal(1, pair.Device.Position.NextAvailable);
    }

    private static Descriptor Link(RingPair pair, ushort next) => new()
    {
        Address = pair.Driver.DescriptorTableAddress,
        LengthBytes = 1,
        Flags = DescriptorFlags.VIRTQ_DESC_F_NEXT,
        Next = next,
    };

    private static Descriptor Last(RingPair pair) => new() { Address = pair.Driver.DescriptorTableAddress, LengthBytes = 1 };

    private static Descriptor Refer(ulong table, uint lengthBytes) => new()
    {
        Address = table,
        LengthBytes = lengthBytes,
        Flags = DescriptorFlags.VIRTQ_DESC_F_INDIRECT,
    };
}
