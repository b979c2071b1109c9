using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Ring;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Virtio;

/// <summary>When a device with a packed ring calls, and what it asks for (VIRTIO 1.4, "Packed Virtqueues", "Driver and Device Event Suppression").</summary>
public sealed class PackedCallSuppressionTests
{
    private const VirtioFeatures Packed = VirtioFeatures.VIRTIO_F_RING_PACKED;
    private const VirtioFeatures EventIndex = Packed | VirtioFeatures.VIRTIO_RING_F_EVENT_IDX;
    private const ushort Wrap = PackedRingLayout.WrapBit;

    // PACKED-19. HARD-06 for the value 3, and PACKED-21 for DESC without EVENT_IDX: calls too many are allowed, calls too few are not. The
    // upper bits of the flags are reserved.
    [Theory]
    [InlineData(Packed, 0, true)]
    [InlineData(Packed, 1, false)]
    [InlineData(Packed, 2, true)]
    [InlineData(Packed, 3, true)]
    [InlineData(Packed, 0xfffc, true)]
    [InlineData(Packed, 0xfffd, false)]
    [InlineData(EventIndex, 0, true)]
    [InlineData(EventIndex, 1, false)]
    [InlineData(EventIndex, 2, false)]
    [InlineData(EventIndex, 3, true)]
    public void Calls_as_the_flags_say(VirtioFeatures features, int flags, bool calls)
    {
        using var pair = new VirtqueuePair(16, features);
        pair.Use(1);
        // An offset that is never passed below.
        pair.Packed.WriteWish(15, (ushort)flags);
        for (int i = 0; i < 10; i++)
        {
            Assert.Equal(calls, pair.Use(1));
        }
    }

    // PACKED-20: every offset with both wrap counters, batches of every size and shape, from every place.
    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    [InlineData(5)]
    public void With_DESC_it_calls_exactly_when_the_asked_descriptor_is_passed(int queueSize)
    {
        for (int start = 0; start < 2 * queueSize; start++)
        {
            for (int batch = 1; batch <= queueSize; batch++)
            {
                for (int asked = -queueSize; asked < queueSize; asked++)
                {
                    // On a line where the batch begins at 0.
                    using var pair = new VirtqueuePair(queueSize, EventIndex, Position(start - 1, queueSize));
                    pair.Use(1);
                    Assert.Equal(Position(start, queueSize), pair.Device.Position.NextUsed);
                    pair.Packed.WriteWish(Position(start + asked, queueSize), PackedRingLayout.RING_EVENT_FLAGS_DESC);
                    Assert.Equal(asked >= 0 && asked < batch, pair.Use(1, batch));
                }
            }
        }

        // Two laps, the first one with the wrap counter set.
        static ushort Position(int line, int size)
        {
            int place = ((line % (2 * size)) + (2 * size)) % (2 * size);
            return (ushort)(place < size ? place | Wrap : place - size);
        }
    }

    [Fact]
    public void With_DESC_the_first_publish_after_a_start_always_calls()
    {
        using var pair = new VirtqueuePair(16, EventIndex);
        pair.Packed.WriteWish(15, PackedRingLayout.RING_EVENT_FLAGS_DESC);
        Assert.True(pair.Use(1));
        Assert.False(pair.Use(1));
        pair.RestartDevice(pair.Device.Position);
        Assert.True(pair.Use(1));
        Assert.False(pair.Use(1));
    }

    [Fact]
    public void A_publish_of_nothing_calls_nobody()
    {
        using var pair = new VirtqueuePair(16, Packed);
        Assert.False(pair.Device.PublishUsed());
        Assert.True(pair.Use(1));
        Assert.False(pair.Device.PublishUsed());
    }

    // A whole lap of the largest ring in one batch: the arithmetic of 16 bits has no room to spare.
    [Fact]
    public void A_whole_lap_of_the_largest_ring_may_be_published_at_once()
    {
        const int Size = PackedRingLayout.MaxQueueSize;
        using var pair = new VirtqueuePair(Size, EventIndex);
        pair.Use(1);
        foreach (int wish in new[] { 0, 1 | Wrap, Size - 1, 0 | Wrap, 1, 2 | Wrap, Size - 1 | Wrap, Size - 1 })
        {
            // Each round begins at 1, in the other lap than the round before.
            pair.Packed.WriteWish((ushort)wish, PackedRingLayout.RING_EVENT_FLAGS_DESC);
            bool wrap = (pair.Device.Position.NextUsed & Wrap) != 0;
            Assert.Equal(PassesInALapFromOne(wish, wrap), pair.Use(Size));
        }

        static bool PassesInALapFromOne(int wish, bool wrap)
        {
            bool wishWrap = (wish & Wrap) != 0;
            return (wish & ~Wrap) >= 1 ? wishWrap == wrap : wishWrap != wrap;
        }
    }

    // The device cannot know what lies between, and hostile offsets are only numbers.
    [Fact]
    public void No_offset_makes_it_fail()
    {
        using var pair = new VirtqueuePair(5, EventIndex);
        for (int wish = 0; wish <= ushort.MaxValue; wish++)
        {
            pair.Packed.WriteWish((ushort)wish, PackedRingLayout.RING_EVENT_FLAGS_DESC);
            pair.Use(1, 3);
        }

        Assert.Equal(RingDefect.None, pair.Device.Defect);
        Assert.Equal(0, pair.Device.InFlightCount);
    }

    // PACKED-21.
    [Theory]
    [InlineData(Packed, 0)]
    [InlineData(EventIndex, 2)]
    public void Only_the_allowed_values_stand_in_the_device_event_area(VirtioFeatures features, ushort whenAsking)
    {
        using var pair = new VirtqueuePair(16, features);
        Assert.Equal(0, pair.Packed.DeviceEventFlags);
        pair.Device.SuppressKicks();
        Assert.Equal(1, pair.Packed.DeviceEventFlags);
        pair.Use(9);
        pair.Device.RequestKicks();
        Assert.Equal(whenAsking, pair.Packed.DeviceEventFlags);
        unsafe
        {
            Assert.Equal(whenAsking == 2 ? 9 | Wrap : 0, (ushort)*pair.Packed.DeviceEvent);
        }
    }

    // PACKED-22, without the race.
    [Theory]
    [InlineData(Packed)]
    [InlineData(EventIndex)]
    public void The_driver_kicks_when_asked_and_only_then(VirtioFeatures features)
    {
        using var pair = new VirtqueuePair(5, features);
        for (int i = 0; i < 20; i++)
        {
            Assert.False(pair.Device.RequestKicks());
            Assert.True(pair.Driver.TryAdd([DriverBuffer.Writable(0, 1)], out _));
            Assert.True(pair.Driver.Publish());
            pair.Device.SuppressKicks();
            Assert.True(pair.Driver.TryAdd([DriverBuffer.Readable(0, 1), DriverBuffer.Writable(0, 1)], out _));
            Assert.False(pair.Driver.Publish());
            Assert.True(pair.Device.RequestKicks());
            pair.Device.AddUsed(pair.Pop().Slot, 1, 0);
            pair.Device.AddUsed(pair.Pop().Slot, 1, 0);
            pair.Device.PublishUsed();
            Assert.True(pair.Driver.TryTakeUsed(out _, out _));
            Assert.True(pair.Driver.TryTakeUsed(out _, out _));
        }
    }
}
