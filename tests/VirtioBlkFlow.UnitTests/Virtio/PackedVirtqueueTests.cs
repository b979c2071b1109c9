using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Ring;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Virtio;

/// <summary>The packed ring as such: sizes, laps, lists, ids, used descriptors (VIRTIO 1.4, "Packed Virtqueues").</summary>
public sealed unsafe class PackedVirtqueueTests
{
    private const VirtioFeatures Packed = VirtioFeatures.VIRTIO_F_RING_PACKED;
    private const VirtioFeatures PackedIndirect = Packed | VirtioFeatures.VIRTIO_RING_F_INDIRECT_DESC;
    private const ushort Wrap = PackedRingLayout.WrapBit;

    // PACKED-14, PACKED-12, PACKED-13.
    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    [InlineData(5)]
    [InlineData(100)]
    [InlineData(1000)]
    [InlineData(32768)]
    public void A_ring_of_any_size_is_filled_and_emptied_lap_after_lap(int queueSize)
    {
        using var pair = new VirtqueuePair(queueSize, Packed);
        for (int lap = 0; lap < 5; lap++)
        {
            // The driver checks the flags of each used descriptor against its own wrap counter.
            pair.Use(queueSize);
            Assert.Equal(pair.Packed.Position, pair.Device.Position);
            Assert.Equal(lap % 2 == 0 ? 0 : Wrap, pair.Device.Position.NextUsed);
        }
    }

    // PACKED-06.
    [Theory]
    [InlineData(Wrap)]
    [InlineData(0)]
    public void Nothing_is_available_in_a_ring_of_zeros_or_with_the_flags_of_another_lap(ushort start)
    {
        using var pair = new VirtqueuePair(4, Packed, start);
        ushort available = pair.Packed.AvailableFlags;
        foreach (ushort flags in new ushort[] { 0, 0x8080, 0x80, 0x8000 })
        {
            for (int i = 0; i < 4; i++)
            {
                pair.Packed.Ring[i].Flags = flags;
            }

            Assert.Equal(flags == available, pair.Device.HasAvailable);
            Assert.Equal(flags == available ? PopOutcome.Popped : PopOutcome.Empty, pair.Device.TryPeek(out _));
        }
    }

    // PACKED-10: lists of three in a ring of seven.
    [Fact]
    public void A_list_gets_one_used_descriptor_and_the_next_comes_behind_all_of_its_own()
    {
        using var pair = new VirtqueuePair(7, Packed);
        foreach ((int place, bool wrap) in new[] { (0, true), (3, true), (6, true), (2, false), (5, false), (1, true) })
        {
            Assert.Equal((ushort)(place | (wrap ? Wrap : 0)), pair.Device.Position.NextUsed);
            ushort id = pair.Offer(DriverBuffer.Readable(0, 1), DriverBuffer.Readable(8, 2), DriverBuffer.Writable(16, 3));
            DescriptorChain chain = pair.Pop();
            Assert.Equal((2, 1, 3u, 3u), (chain.ReadableCount, chain.WritableCount, chain.ReadableBytes, chain.WritableBytes));
            pair.Device.AddUsed(chain.Slot, 3, 2);
            pair.Device.PublishUsed();
            Assert.Equal(wrap ? 0x8082 : 2, pair.Packed.Ring[place].Flags);
            Assert.Equal(id, pair.Packed.Ring[place].Id);
            // The rest of the list is as the driver wrote it.
            Assert.Equal(0xdead, pair.Packed.Ring[(place + 1) % 7].Id);
            Assert.True(pair.Driver.TryTakeUsed(out _, out _));
        }
    }

    // PACKED-13.
    [Fact]
    public void A_list_may_cross_the_end_of_the_ring()
    {
        using var pair = new VirtqueuePair(5, Packed, 4 | Wrap);
        pair.Offer(DriverBuffer.Readable(0x100, 1), DriverBuffer.Readable(0x200, 2), DriverBuffer.Writable(0x300, 3));
        DescriptorChain chain = pair.Pop();
        Assert.Equal((nint)pair.Memory.Host(0x300, 1), (nint)chain.Writable->Base);
        Assert.Equal(new RingPosition(2, 4 | Wrap), pair.Device.Position);
        pair.Device.AddUsed(chain.Slot, 3, 2);
        pair.Device.PublishUsed();
        Assert.Equal(new RingPosition(2, 2), pair.Device.Position);
        Assert.True(pair.Driver.TryTakeUsed(out _, out uint written));
        Assert.Equal(3u, written);
    }

    // PACKED-11: ids of 16 bits in a queue of two.
    [Fact]
    public void The_id_is_the_drivers_and_comes_from_the_last_descriptor_of_the_list()
    {
        using var pair = new VirtqueuePair(2, Packed);
        ushort id = pair.Offer(DriverBuffer.Readable(0, 16), DriverBuffer.Writable(16, 1));
        Assert.True(id > 2);
        DescriptorChain chain = pair.Pop();
        Assert.InRange(chain.Slot, 0, 1);
        pair.Device.AddUsed(chain.Slot, 1, 0);
        pair.Device.PublishUsed();
        Assert.Equal(id, pair.Packed.Ring[0].Id);
    }

    // PACKED-15.
    [Theory]
    [InlineData(0u, 0x8080)]
    [InlineData(1u, 0x8082)]
    public void WRITE_stands_in_a_used_descriptor_only_if_something_was_written(uint writtenBytes, ushort flags)
    {
        using var pair = new VirtqueuePair(4, Packed);
        pair.Offer(DriverBuffer.Writable(0, 8));
        pair.Device.AddUsed(pair.Pop().Slot, writtenBytes, 0);
        pair.Device.PublishUsed();
        Assert.Equal(flags, pair.Packed.Ring[0].Flags);
        Assert.Equal(writtenBytes, pair.Packed.Ring[0].LengthBytes);
    }

    // PACKED-02, PACKED-03: later descriptors first, the flags of the first one last.
    [Fact]
    public void A_batch_is_seen_whole_or_not_at_all_and_in_the_order_of_completion()
    {
        using var pair = new VirtqueuePair(8, Packed);
        ushort[] ids = [pair.Offer(DriverBuffer.Writable(0, 8)), pair.Offer(DriverBuffer.Writable(8, 8)), pair.Offer(DriverBuffer.Writable(16, 8))];
        ushort[] slots = [pair.Pop().Slot, pair.Pop().Slot, pair.Pop().Slot];
        pair.Device.AddUsed(slots[2], 1, 0);
        pair.Device.AddUsed(slots[0], 2, 0);
        Assert.Equal(PackedRingLayout.VIRTQ_DESC_F_AVAIL | 2, pair.Packed.Ring[0].Flags);
        Assert.Equal(0x8082, pair.Packed.Ring[1].Flags);
        Assert.False(pair.Driver.HasUsed);
        pair.Device.PublishUsed();
        Assert.True(pair.Driver.TryTakeUsed(out ushort first, out uint firstBytes));
        Assert.True(pair.Driver.TryTakeUsed(out ushort second, out uint secondBytes));
        Assert.False(pair.Driver.HasUsed);
        Assert.Equal((ids[2], 1u, ids[0], 2u), (first, firstBytes, second, secondBytes));
    }

    // PACKED-07.
    [Fact]
    public void A_descriptor_is_not_touched_after_it_was_used()
    {
        using var pair = new VirtqueuePair(4, Packed);
        pair.Offer(DriverBuffer.Writable(0, 8));
        pair.Offer(DriverBuffer.Writable(8, 8));
        ushort first = pair.Pop().Slot;
        ushort second = pair.Pop().Slot;
        pair.Device.AddUsed(first, 8, 0);
        pair.Device.PublishUsed();
        PackedDescriptor before = pair.Packed.Ring[0];
        pair.Device.AddUsed(second, 8, 0);
        pair.Device.PublishUsed();
        pair.Device.SuppressKicks();
        pair.Device.RequestKicks();
        Assert.Equal(before, pair.Packed.Ring[0]);
    }

    // PACKED-16, PACKED-17, PACKED-18. The driver's tables have NEXT here and there, and ids that mean nothing.
    [Theory]
    [InlineData(DescriptorFlags.None)]
    [InlineData(DescriptorFlags.VIRTQ_DESC_F_WRITE)]
    public void An_indirect_table_is_taken_in_its_order_whatever_the_referring_descriptor_says_of_WRITE(DescriptorFlags more)
    {
        using var pair = new VirtqueuePair(4, PackedIndirect);
        ulong table = pair.Memory.Allocate(64);
        var entries = (PackedDescriptor*)pair.Memory.Host(table, 64);
        entries[0] = new PackedDescriptor { Address = 0x100, LengthBytes = 1, Id = 77, Flags = 1 };
        entries[1] = new PackedDescriptor { Address = 0x200, LengthBytes = 2, Id = 78, Flags = 0 };
        entries[2] = new PackedDescriptor { Address = 0x300, LengthBytes = 3, Id = 79, Flags = 0x8083 };
        pair.Packed.AddReference(4711, table, 48, more);
        pair.Driver.Publish();
        ushort direct = pair.Offer(DriverBuffer.Writable(0x400, 4));
        DescriptorChain chain = pair.Pop();
        Assert.Equal((2, 1, 3u, 3u, ChainFaults.None), (chain.ReadableCount, chain.WritableCount, chain.ReadableBytes, chain.WritableBytes, chain.Faults));
        Assert.Equal((nint)pair.Memory.Host(0x200, 1), (nint)chain.Pieces[1].Base);
        pair.Device.AddUsed(chain.Slot, 3, 2);
        pair.Device.AddUsed(pair.Pop().Slot, 4, 3);
        pair.Device.PublishUsed();
        Assert.True(pair.Driver.TryTakeUsed(out ushort first, out _));
        Assert.True(pair.Driver.TryTakeUsed(out ushort second, out _));
        Assert.Equal((4711, direct), (first, second));
    }

    // PACKED-24, PACKED-04.
    [Fact]
    public void Only_used_descriptors_and_the_device_event_area_are_written()
    {
        using var pair = new VirtqueuePair(8, Packed | VirtioFeatures.VIRTIO_RING_F_EVENT_IDX);
        pair.Packed.WriteWish(3 | Wrap, PackedRingLayout.RING_EVENT_FLAGS_DESC);
        ulong buffer = pair.Memory.Allocate(64);
        pair.Memory.Span(buffer, 64).Fill(0x5a);
        for (int i = 0; i < 100; i++)
        {
            uint wish = *pair.Packed.DriverEvent;
            pair.Device.SuppressKicks();
            pair.Offer(DriverBuffer.Readable(buffer, 32), DriverBuffer.Writable(buffer + 32, 32));
            PackedDescriptor[] before = Snapshot();
            int place = pair.Device.Position.NextUsed & ~Wrap;
            ushort slot = pair.Pop().Slot;
            pair.Device.RequestKicks();
            Assert.Equal(before, Snapshot());
            pair.Device.AddUsed(slot, 1, 0);
            pair.Device.PublishUsed();
            PackedDescriptor[] after = Snapshot();
            (before[place], after[place]) = (default, default);
            Assert.Equal(before, after);
            Assert.Equal(wish, *pair.Packed.DriverEvent);
            Assert.True(pair.Driver.TryTakeUsed(out _, out _));
        }

        Assert.DoesNotContain(pair.Memory.Span(buffer, 64).ToArray(), value => value != 0x5a);

        PackedDescriptor[] Snapshot() => new ReadOnlySpan<PackedDescriptor>(pair.Packed.Ring, 8).ToArray();
    }

    [Theory]
    [InlineData(0)]
    [InlineData(Wrap)]
    [InlineData(4)]
    [InlineData(4 | Wrap)]
    public void A_restart_goes_on_where_it_is_told_with_either_wrap_counter(int start)
    {
        using var pair = new VirtqueuePair(5, Packed, (ushort)start);
        pair.Use(3);
        Assert.Equal(pair.Device.Position.NextAvailable, pair.Device.Position.NextUsed);
        pair.RestartDevice(pair.Device.Position);
        pair.Use(1, entries: 4);
        Assert.Equal(pair.Packed.Position, pair.Device.Position);
    }

    // User Mode Linux says 0 for a new ring, whose wrap counters are 1.
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Base_0_is_a_new_ring_if_no_descriptor_was_ever_used(bool isAvailableAlready)
    {
        using var pair = new VirtqueuePair(4, Packed);
        if (isAvailableAlready)
        {
            pair.Offer(DriverBuffer.Writable(0, 1));
        }

        pair.RestartDevice(default);
        if (!isAvailableAlready)
        {
            pair.Offer(DriverBuffer.Writable(0, 1));
        }

        Assert.Equal(1, pair.Pop().WritableCount);
        Assert.Equal(new RingPosition(1 | Wrap, Wrap), pair.Device.Position);
    }

    // Found by the fuzzer: a chain had crossed the end of the ring in the lap before, so that its first descriptor was not one that is used. Taken
    // for a new ring, that descriptor, data of a chain long done, was taken for a chain.
    [Theory]
    [InlineData(5, 3)]
    [InlineData(7, 3)]
    [InlineData(7, 5)]
    [InlineData(9, 5)]
    public void Base_0_is_a_later_lap_also_if_a_chain_lay_across_the_end(int queueSize, int entries)
    {
        using var pair = new VirtqueuePair(queueSize, Packed);
        bool wasThere = false;
        for (int i = 0; i < 4 * queueSize; i++)
        {
            pair.Use(1, entries);
            if (pair.Device.Position == default)
            {
                wasThere = true;
                pair.RestartDevice(default);
                Assert.False(pair.Device.HasAvailable, "What is done is not done again.");
            }

            Assert.Equal(pair.Packed.Position, pair.Device.Position);
        }

        Assert.True(wasThere, "Base 0 occurs.");
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Base_0_is_the_second_lap_if_its_first_descriptor_was_used(bool isAvailableAlready)
    {
        using var pair = new VirtqueuePair(4, Packed);
        pair.Use(4);
        if (isAvailableAlready)
        {
            pair.Offer(DriverBuffer.Writable(0, 1));
        }

        Assert.Equal(default, pair.Device.Position);
        pair.RestartDevice(default);
        if (!isAvailableAlready)
        {
            pair.Offer(DriverBuffer.Writable(0, 1));
        }

        Assert.Equal(1, pair.Pop().WritableCount);
        Assert.Equal(new RingPosition(1, 0), pair.Device.Position);
    }

    [Theory]
    [InlineData(0, 0, 0)]
    [InlineData(32769, 0, 0)]
    [InlineData(-1, 0, 0)]
    [InlineData(5, 5, 0)]
    [InlineData(5, 0, 5 | Wrap)]
    [InlineData(5, 0x7fff, 0x7fff)]
    [InlineData(5, 1, 0 | Wrap)]
    public void Refuses_a_size_or_a_position_that_no_ring_can_have(int queueSize, int nextAvailable, int nextUsed)
    {
        uint eventArea = 0;
        PackedDescriptor* ring = stackalloc PackedDescriptor[8];
        var setup = new VirtqueueSetup
        {
            QueueSize = queueSize,
            Addresses = new RingAddresses((nint)ring, (nint)(&eventArea), (nint)(&eventArea)),
            Memory = new GuestMemory([]),
            Features = Packed,
            Position = new RingPosition((ushort)nextAvailable, (ushort)nextUsed),
        };
        Assert.Throws<ArgumentException>(() => Virtqueue.Create(setup));
    }

    [Fact]
    public void New_memory_moves_the_buffers_and_keeps_the_position()
    {
        using var pair = new VirtqueuePair(4, Packed);
        pair.Use(3);
        pair.Device.ReplaceMemory(new GuestMemory([]), pair.Packed.HostAddresses);
        pair.Offer(DriverBuffer.Writable(0, 8));
        Assert.Equal(ChainFaults.Unmapped, pair.Pop().Faults);
        Assert.Equal(new RingPosition(0, 3 | Wrap), pair.Device.Position);
    }
}
