using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Ring;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Virtio;

/// <summary>Each way a driver can break a packed ring (HARD-03, HARD-05, HARD-06), and garbage.</summary>
public sealed unsafe class PackedDefectTests
{
    private const VirtioFeatures Packed = VirtioFeatures.VIRTIO_F_RING_PACKED;
    private const VirtioFeatures Indirect = Packed | VirtioFeatures.VIRTIO_RING_F_INDIRECT_DESC;
    private const ushort Available = PackedRingLayout.VIRTQ_DESC_F_AVAIL;
    private const ushort Next = (ushort)DescriptorFlags.VIRTQ_DESC_F_NEXT;
    private const ushort IndirectFlag = (ushort)DescriptorFlags.VIRTQ_DESC_F_INDIRECT;

    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    [InlineData(7)]
    public void ChainLoops_when_a_list_is_longer_than_the_ring(int queueSize)
    {
        using var pair = new VirtqueuePair(queueSize, Packed);
        Fill(pair, queueSize, Available | Next);
        pair.ExpectDefect(RingDefect.ChainLoops);
        Assert.Equal(0, pair.Device.InFlightCount);
    }

    [Fact]
    public void ChainTooLong_after_a_bounded_number_of_steps()
    {
        using var pair = new VirtqueuePair(PackedRingLayout.MaxQueueSize, Packed);
        Fill(pair, PackedRingLayout.MaxQueueSize, Available | Next);
        pair.ExpectDefect(RingDefect.ChainTooLong);
    }

    [Fact]
    public void DescriptorInFlight_when_a_list_runs_into_chains_that_were_not_used_yet()
    {
        using var pair = new VirtqueuePair(4, Packed);
        pair.Offer(DriverBuffer.Writable(0, 1), DriverBuffer.Writable(1, 1));
        ushort slot = pair.Pop().Slot;
        pair.Packed.Ring[2].Flags = Available | Next;
        pair.Packed.Ring[3].Flags = Available | Next;
        pair.ExpectDefect(RingDefect.DescriptorInFlight);
        // What is in flight is still answered.
        pair.Device.AddUsed(slot, 2, 0);
        pair.Device.PublishUsed();
        Assert.True(pair.Driver.TryTakeUsed(out _, out _));
    }

    [Fact]
    public void DescriptorInFlight_when_something_is_available_while_the_whole_ring_is_in_flight()
    {
        using var pair = new VirtqueuePair(2, Packed);
        pair.Offer(DriverBuffer.Writable(0, 1));
        pair.Offer(DriverBuffer.Writable(1, 1));
        pair.Pop();
        pair.Pop();
        Assert.Equal(PopOutcome.Empty, pair.Device.TryPop(out _));
        // The flags of the next lap.
        pair.Packed.Ring[0].Flags = PackedRingLayout.VIRTQ_DESC_F_USED;
        pair.ExpectDefect(RingDefect.DescriptorInFlight);
        Assert.Equal(2, pair.Device.InFlightCount);
    }

    [Fact]
    public void The_same_id_twice_in_flight_comes_back_twice_and_harms_nobody_but_the_driver()
    {
        using var pair = new VirtqueuePair(4, Packed);
        for (int i = 0; i < 2; i++)
        {
            pair.Packed.Ring[i] = new PackedDescriptor { Address = 0, LengthBytes = 1, Id = 9, Flags = Available };
        }

        ushort first = pair.Pop().Slot;
        ushort second = pair.Pop().Slot;
        Assert.NotEqual(first, second);
        pair.Device.AddUsed(second, 0, 0);
        pair.Device.AddUsed(first, 0, 0);
        pair.Device.PublishUsed();
        Assert.Equal((9, 9), (pair.Packed.Ring[0].Id, pair.Packed.Ring[1].Id));
    }

    [Fact]
    public void IndirectNotNegotiated_when_the_feature_is_off()
    {
        using var pair = new VirtqueuePair(4, Packed);
        Refer(pair, 0, 16, 0);
        pair.ExpectDefect(RingDefect.IndirectNotNegotiated);
    }

    [Fact]
    public void IndirectWithNext_in_one_descriptor()
    {
        using var pair = new VirtqueuePair(4, Indirect);
        Refer(pair, 0, 16, Next);
        pair.ExpectDefect(RingDefect.IndirectWithNext);
    }

    [Fact]
    public void IndirectWithNext_behind_a_descriptor_that_has_it()
    {
        using var pair = new VirtqueuePair(4, Indirect);
        pair.Packed.Ring[1] = new PackedDescriptor { LengthBytes = 16, Flags = Available | IndirectFlag };
        pair.Packed.Ring[0] = new PackedDescriptor { LengthBytes = 16, Flags = Available | Next };
        pair.ExpectDefect(RingDefect.IndirectWithNext);
    }

    [Fact]
    public void IndirectNested_when_a_table_refers_to_a_table()
    {
        using var pair = new VirtqueuePair(4, Indirect);
        ulong table = pair.Memory.Allocate(32);
        ((PackedDescriptor*)pair.Memory.Host(table, 32))[1] = new PackedDescriptor { LengthBytes = 16, Flags = IndirectFlag };
        Refer(pair, table, 32, 0);
        pair.ExpectDefect(RingDefect.IndirectNested);
    }

    [Theory]
    [InlineData(0, RingDefect.IndirectTableSize)]
    [InlineData(15, RingDefect.IndirectTableSize)]
    [InlineData(17, RingDefect.IndirectTableSize)]
    [InlineData(uint.MaxValue, RingDefect.IndirectTableSize)]
    [InlineData((Virtqueue.MaxChainLength + 1) * 16, RingDefect.ChainTooLong)]
    [InlineData(uint.MaxValue - 15, RingDefect.ChainTooLong)]
    public void A_table_of_an_impossible_size_breaks_the_ring(uint lengthBytes, RingDefect defect)
    {
        using var pair = new VirtqueuePair(4, Indirect);
        Refer(pair, 0, lengthBytes, 0);
        pair.ExpectDefect(defect);
    }

    [Theory]
    [InlineData(1UL << 40)]
    [InlineData(ulong.MaxValue - 15)]
    [InlineData((8UL << 20) - 16)]
    public void IndirectTableUnmapped_when_an_entry_lies_outside_of_memory(ulong address)
    {
        using var pair = new VirtqueuePair(4, Indirect);
        Refer(pair, address, 32, 0);
        pair.ExpectDefect(RingDefect.IndirectTableUnmapped);
    }

    // Random words in the ring, whatever they mean: no step too many, nothing outside, no exception, each chain answered once.
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void Garbage_in_the_ring_breaks_the_queue_at_worst(int seed)
    {
        var random = new Random(seed);
        for (int round = 0; round < 3000; round++)
        {
            int queueSize = random.Next(1, 20);
            using var pair = new VirtqueuePair(queueSize, Indirect | (random.Next(2) == 0 ? VirtioFeatures.VIRTIO_F_IN_ORDER : 0));
            var ring = new Span<byte>(pair.Packed.Ring, queueSize * PackedRingLayout.DescriptorBytes);
            var inFlight = new List<ushort>();
            for (int step = 0; step < 50; step++)
            {
                for (int i = 0; i < queueSize; i++)
                {
                    random.NextBytes(ring.Slice(i * PackedRingLayout.DescriptorBytes, PackedRingLayout.DescriptorBytes));
                    // Most chains would not be available, or broken at once.
                    pair.Packed.Ring[i].Flags = (ushort)((random.Next(2) == 0 ? 0x80 : 0x8000) | (random.Next(3) == 0 ? random.Next(8) : 0));
                    pair.Packed.Ring[i].LengthBytes = (uint)random.Next(5) * 16;
                    pair.Packed.Ring[i].Address = (ulong)random.Next(16 << 20);
                }

                while (pair.Device.TryPop(out DescriptorChain chain) == PopOutcome.Popped)
                {
                    Assert.DoesNotContain(chain.Slot, inFlight);
                    inFlight.Add(chain.Slot);
                    Assert.True(inFlight.Count <= queueSize);
                }

                for (int left = random.Next(inFlight.Count + 1); left > 0; left--)
                {
                    int which = random.Next(inFlight.Count);
                    pair.Device.AddUsed(inFlight[which], (uint)random.Next(3), 0);
                    inFlight.RemoveAt(which);
                }

                pair.Device.PublishUsed();
            }

            inFlight.ForEach(slot => pair.Device.AddUsed(slot, 0, 0));
            pair.Device.PublishUsed();
            Assert.Equal(0, pair.Device.InFlightCount);
            Assert.Equal(pair.Device.Position.NextAvailable, pair.Device.Position.NextUsed);
        }
    }

    private static void Fill(VirtqueuePair pair, int count, int flags)
    {
        for (int i = 0; i < count; i++)
        {
            pair.Packed.Ring[i] = new PackedDescriptor { LengthBytes = 1, Flags = (ushort)flags };
        }
    }

    private static void Refer(VirtqueuePair pair, ulong table, uint lengthBytes, ushort more) =>
        pair.Packed.Ring[0] = new PackedDescriptor { Address = table, LengthBytes = lengthBytes, Flags = (ushort)(Available | IndirectFlag | more) };
}
