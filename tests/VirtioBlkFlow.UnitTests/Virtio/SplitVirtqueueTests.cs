using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Ring;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Virtio;

/// <summary>The ring as such: sizes, wrap, order, restart (VIRTIO 1.4, "Split Virtqueues").</summary>
public sealed class SplitVirtqueueTests
{
    // More than three times around the 16-bit indices.
    private const int ManyRequests = 200_100;

    public static TheoryData<int, ushort> SizesAndStarts()
    {
        var data = new TheoryData<int, ushort>();
        foreach (int size in new[] { 1, 2, 16, 256, 1024, 32768 })
        {
            data.Add(size, 0);
            data.Add(size, 65530);
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(SizesAndStarts))]
    public void Every_chain_comes_back_once_however_often_the_indices_wrap(int queueSize, ushort start)
    {
        using var pair = new RingPair(queueSize, VirtioFeatures.VIRTIO_RING_F_EVENT_IDX, startIndex: start);
        var random = new Random(queueSize + start);
        var cookieOfHead = new uint[queueSize];
        ulong buffer = pair.Allocate(65536);
        var popped = new List<(ushort Head, uint Cookie)>();
        uint offered = 0;
        uint returned = 0;
        while (returned < ManyRequests)
        {
            int burst = random.Next(1, Math.Min(queueSize, 64) + 1);
            // The cookie travels as an address, a length, and back as the written length.
            while (burst-- > 0 && pair.Driver.TryAdd([DriverBuffer.Writable(buffer + (offered % 1024), offered % 4096 + 1)], out ushort head))
            {
                cookieOfHead[head] = offered++;
            }

            pair.Driver.Publish();
            while (pair.Device.TryPop(out DescriptorChain chain) == PopOutcome.Popped)
            {
                uint cookie = cookieOfHead[chain.Slot];
                Assert.Equal(cookie % 4096 + 1, chain.WritableBytes);
                Assert.Equal(1, chain.WritableCount);
                popped.Add((chain.Slot, cookie));
            }

            // Out of order, and not all: the device may finish them as it likes.
            int toReturn = random.Next(popped.Count + 1);
            while (toReturn-- > 0)
            {
                int which = random.Next(popped.Count);
                pair.Device.AddUsed(popped[which].Head, popped[which].Cookie, 0);
                popped[which] = popped[^1];
                popped.RemoveAt(popped.Count - 1);
            }

            pair.Device.PublishUsed();
            while (pair.Driver.TryTakeUsed(out UsedChain used))
            {
                Assert.Equal(cookieOfHead[used.Head], used.WrittenBytes);
                returned++;
            }

            Assert.Equal(popped.Count, pair.Device.InFlightCount);
            Assert.Equal(popped.Count, pair.Driver.InFlightCount);
        }

        Assert.Equal((ushort)(start + offered), pair.Device.Position.NextAvailable);
    }

    [Fact]
    public void Fills_a_ring_of_the_largest_size_completely()
    {
        using var pair = new RingPair(SplitRingLayout.MaxQueueSize);
        ulong buffer = pair.Allocate(16);
        for (int i = 0; i < SplitRingLayout.MaxQueueSize; i++)
        {
            Assert.True(pair.Driver.TryAdd([DriverBuffer.Readable(buffer, 16)], out _));
        }

        pair.Driver.Publish();
        for (int i = 0; i < SplitRingLayout.MaxQueueSize; i++)
        {
            Assert.Equal(i, pair.Pop().Slot);
        }

        Assert.Equal(PopOutcome.Empty, pair.Device.TryPop(out _));
        Assert.Equal(SplitRingLayout.MaxQueueSize, pair.Device.InFlightCount);
    }

    [Fact]
    public void Takes_the_chain_in_the_order_of_its_links()
    {
        using var pair = new RingPair(4);
        ulong buffer = pair.Allocate(64);
        pair.Driver.Raw.WriteDescriptor(3, new Descriptor { Address = buffer, LengthBytes = 1, Flags = DescriptorFlags.VIRTQ_DESC_F_NEXT, Next = 0 });
        pair.Driver.Raw.WriteDescriptor(0, new Descriptor { Address = buffer + 16, LengthBytes = 2, Flags = DescriptorFlags.VIRTQ_DESC_F_NEXT, Next = 2 });
        pair.Driver.Raw.WriteDescriptor(2, new Descriptor { Address = buffer + 32, LengthBytes = 3, Flags = DescriptorFlags.VIRTQ_DESC_F_WRITE });
        pair.OfferRaw(3);
        DescriptorChain chain = pair.Pop();
        Assert.Equal(3, chain.Slot);
        Assert.Equal([1, 2, 3], PieceLengths(chain));
        Assert.Equal((2, 1), (chain.ReadableCount, chain.WritableCount));
        Assert.Equal((3u, 3u), (chain.ReadableBytes, chain.WritableBytes));
    }

    [Fact]
    public void Zero_length_descriptors_count_for_nothing()
    {
        using var pair = new RingPair(8);
        ulong buffer = pair.Allocate(64);
        // Their addresses may be anywhere, and a writable one before a readable one holds no byte to complain about.
        pair.Offer(
            DriverBuffer.Readable(ulong.MaxValue, 0),
            DriverBuffer.Writable(0, 0),
            DriverBuffer.Readable(buffer, 16),
            DriverBuffer.Writable(buffer + 16, 1),
            DriverBuffer.Writable(ulong.MaxValue, 0));
        DescriptorChain chain = pair.Pop();
        Assert.Equal(ChainFaults.None, chain.Faults);
        Assert.True(chain.LastWritableIsMapped);
        Assert.Equal([16, 1], PieceLengths(chain));
    }

    [Fact]
    public void The_device_writes_neither_descriptors_nor_the_available_ring()
    {
        using var pair = new RingPair(16, VirtioFeatures.VIRTIO_RING_F_EVENT_IDX);
        ulong buffer = pair.Allocate(64);
        for (int i = 0; i < 1000; i++)
        {
            ushort head = pair.Offer(DriverBuffer.Readable(buffer, 16), DriverBuffer.Writable(buffer + 16, 1));
            byte[] before = DriverArea(pair);
            pair.Device.SuppressKicks();
            pair.Pop();
            pair.Device.RequestKicks();
            pair.Device.AddUsed(head, 1, 0);
            pair.Device.PublishUsed();
            Assert.Equal(before, DriverArea(pair));
            Assert.True(pair.Driver.TryTakeUsed(out _));
        }

        static byte[] DriverArea(RingPair pair) =>
        [
            .. pair.Memory.Span(pair.Driver.DescriptorTableAddress, SplitRingLayout.DescriptorTableBytes(16)),
            .. pair.Memory.Span(pair.Driver.AvailableRingAddress, SplitRingLayout.AvailableRingBytes(16)),
        ];
    }

    [Fact]
    public void The_driver_sees_nothing_before_the_publish()
    {
        using var pair = new RingPair(4);
        ulong buffer = pair.Allocate(64);
        ushort head = pair.Offer(DriverBuffer.Writable(buffer, 8));
        pair.Pop();
        pair.Device.AddUsed(head, 8, 0);
        Assert.False(pair.Driver.HasUsed);
        pair.Device.PublishUsed();
        Assert.True(pair.Driver.HasUsed);
    }

    [Fact]
    public void A_restart_goes_on_at_the_given_base_and_at_the_used_index_in_memory()
    {
        using var pair = new RingPair(4);
        ulong buffer = pair.Allocate(64);
        for (int i = 0; i < 7; i++)
        {
            ushort head = pair.Offer(DriverBuffer.Writable(buffer, 8));
            pair.Pop();
            pair.Complete(head, 8);
        }

        ushort next = pair.Offer(DriverBuffer.Writable(buffer, 8));
        pair.RestartDevice(pair.Device.Position.NextAvailable);
        Assert.True(pair.Device.HasAvailable);
        Assert.Equal(next, pair.Pop().Slot);
        pair.Complete(next, 3);
        Assert.Equal(8, pair.Driver.NextUsed);
    }

    [Fact]
    public void New_memory_moves_the_buffers_and_keeps_the_position()
    {
        using var pair = new RingPair(4);
        ulong buffer = pair.Allocate(64);
        ushort head = pair.Offer(DriverBuffer.Writable(buffer, 8));
        pair.Pop();
        pair.Complete(head, 8);
        pair.Device.ReplaceMemory(new GuestMemory([]), pair.Driver.HostAddresses);
        pair.Offer(DriverBuffer.Writable(buffer, 8));
        Assert.Equal(ChainFaults.Unmapped, pair.Pop().Faults);
        Assert.Equal(2, pair.Device.Position.NextAvailable);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(3)]
    [InlineData(-2)]
    [InlineData(65536)]
    public void Refuses_a_size_no_queue_can_have(int queueSize)
    {
        var setup = new VirtqueueSetup
        {
            QueueSize = queueSize,
            Addresses = default,
            Memory = new GuestMemory([]),
            Features = VirtioFeatures.None,
            Position = default,
        };
        Assert.Throws<ArgumentException>(() => Virtqueue.Create(setup));
    }

    private static unsafe int[] PieceLengths(DescriptorChain chain)
    {
        var lengths = new int[chain.ReadableCount + chain.WritableCount];
        for (int i = 0; i < lengths.Length; i++)
        {
            lengths[i] = (int)chain.Pieces[i].LengthBytes;
        }

        return lengths;
    }
}
