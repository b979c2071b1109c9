using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Ring;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Virtio;

/// <summary>When the device calls: flags, and EVENT_IDX (VIRTIO 1.4, "Used Buffer Notification Suppression").</summary>
public sealed class CallSuppressionTests
{
    private const VirtioFeatures EventIndex = VirtioFeatures.VIRTIO_RING_F_EVENT_IDX;

    [Fact]
    public void Without_event_index_it_calls_whatever_used_event_says()
    {
        using var pair = new RingPair(16);
        var random = new Random(1);
        for (int i = 0; i < 1000; i++)
        {
            pair.Driver.Raw.UsedEvent = (ushort)random.Next(65536);
            Assert.True(UseOne(pair));
        }
    }

    [Fact]
    public void Without_event_index_the_flag_stops_calls()
    {
        using var pair = new RingPair(16);
        pair.Driver.SuppressCalls();
        for (int i = 0; i < 1000; i++)
        {
            Assert.False(UseOne(pair));
        }

        Assert.False(pair.Driver.RequestCalls());
        Assert.True(UseOne(pair));
    }

    [Fact]
    public void With_event_index_the_first_publish_after_a_start_always_calls()
    {
        using var pair = new RingPair(16, EventIndex);
        pair.Driver.Raw.UsedEvent = 1000;
        Assert.True(UseOne(pair));
        Assert.False(UseOne(pair));
        pair.RestartDevice(pair.Device.Position.NextAvailable);
        Assert.True(UseOne(pair));
        Assert.False(UseOne(pair));
    }

    [Theory]
    [InlineData(0, 0)]
    [InlineData(0, 15)]
    [InlineData(0, 16)]
    [InlineData(65530, 65535)]
    [InlineData(65530, 0)]
    [InlineData(65530, 3)]
    public void With_event_index_it_calls_exactly_when_the_asked_index_is_passed(ushort start, ushort usedEvent)
    {
        using var pair = new RingPair(16, EventIndex, startIndex: (ushort)(start - 1));
        UseOne(pair);
        pair.Driver.Raw.UsedEvent = usedEvent;
        for (ushort used = start; used != (ushort)(start + 40); used++)
        {
            Assert.Equal(used == usedEvent, UseOne(pair));
        }
    }

    [Theory]
    [InlineData(99, 100, false)]
    [InlineData(100, 100, true)]
    [InlineData(103, 100, true)]
    [InlineData(104, 100, false)]
    [InlineData(65533, 65534, false)]
    [InlineData(65534, 65534, true)]
    [InlineData(65535, 65534, true)]
    [InlineData(0, 65534, true)]
    [InlineData(1, 65534, true)]
    [InlineData(2, 65534, false)]
    public void With_event_index_a_batch_of_four_calls_when_it_contains_the_asked_index(ushort usedEvent, ushort start, bool calls)
    {
        using var pair = new RingPair(16, EventIndex, startIndex: (ushort)(start - 1));
        UseOne(pair);
        pair.Driver.Raw.UsedEvent = usedEvent;
        Assert.Equal(calls, Use(pair, 4));
    }

    [Fact]
    public void With_event_index_the_flag_means_nothing()
    {
        using var pair = new RingPair(16, EventIndex);
        pair.Driver.Raw.AvailableFlags = SplitRingLayout.VIRTQ_AVAIL_F_NO_INTERRUPT;
        for (ushort i = 0; i < 100; i++)
        {
            pair.Driver.Raw.UsedEvent = i;
            Assert.True(UseOne(pair));
        }
    }

    [Fact]
    public void With_event_index_a_publish_of_nothing_calls_nobody()
    {
        using var pair = new RingPair(16, EventIndex);
        UseOne(pair);
        pair.Driver.Raw.UsedEvent = 0;
        Assert.False(pair.Device.PublishUsed());
    }

    [Fact]
    public void With_event_index_a_whole_ring_of_the_largest_size_may_be_published_at_once()
    {
        using var pair = new RingPair(SplitRingLayout.MaxQueueSize, EventIndex, startIndex: 65535);
        UseOne(pair);
        pair.Driver.Raw.UsedEvent = SplitRingLayout.MaxQueueSize - 1;
        Assert.True(Use(pair, SplitRingLayout.MaxQueueSize));
        Assert.False(Use(pair, SplitRingLayout.MaxQueueSize));
    }

    [Theory]
    [InlineData(EventIndex, 0)]
    [InlineData(VirtioFeatures.None, 1)]
    public void Only_the_allowed_values_stand_in_used_flags(VirtioFeatures features, ushort whileSuppressed)
    {
        using var pair = new RingPair(16, features);
        pair.Device.SuppressKicks();
        Assert.Equal(whileSuppressed, pair.Driver.Raw.UsedFlags);
        UseOne(pair);
        Assert.False(pair.Device.RequestKicks());
        Assert.Equal(0, pair.Driver.Raw.UsedFlags);
    }

    [Theory]
    [InlineData(EventIndex)]
    [InlineData(VirtioFeatures.None)]
    public void The_driver_kicks_when_asked_and_only_then(VirtioFeatures features)
    {
        using var pair = new RingPair(16, features, startIndex: 65533);
        ulong buffer = pair.Allocate(16);
        for (int i = 0; i < 10; i++)
        {
            Assert.False(pair.Device.RequestKicks());
            Assert.True(pair.Driver.TryAdd([DriverBuffer.Writable(buffer, 1)], out ushort head));
            Assert.True(pair.Driver.Publish());
            pair.Device.SuppressKicks();
            Assert.True(pair.Driver.TryAdd([DriverBuffer.Writable(buffer, 1)], out ushort second));
            Assert.False(pair.Driver.Publish());
            Assert.True(pair.Device.RequestKicks());
            pair.Pop();
            pair.Pop();
            pair.Complete(head, 1);
            pair.Complete(second, 1);
        }
    }

    [Fact]
    public void Need_event_agrees_with_its_definition_around_the_wrap()
    {
        for (int oldIndex = 65530; oldIndex < 65542; oldIndex++)
        {
            for (int step = 0; step <= 12; step++)
            {
                for (int eventIndex = 65520; eventIndex < 65560; eventIndex++)
                {
                    // "The index moved past the event": the event is one of the entries old … new − 1.
                    bool expected = eventIndex >= oldIndex && eventIndex < oldIndex + step;
                    Assert.Equal(expected, SplitRingLayout.NeedEvent((ushort)eventIndex, (ushort)(oldIndex + step), (ushort)oldIndex));
                }
            }
        }
    }

    private static bool UseOne(RingPair pair) => Use(pair, 1);

    private static bool Use(RingPair pair, int count)
    {
        for (int i = 0; i < count; i++)
        {
            Assert.True(pair.Driver.TryAdd([DriverBuffer.Writable(0, 1)], out _));
        }

        pair.Driver.Publish();
        for (int i = 0; i < count; i++)
        {
            pair.Device.AddUsed(pair.Pop().Slot, 1, 0);
        }

        bool call = pair.Device.PublishUsed();
        while (pair.Driver.TryTakeUsed(out _))
        {
        }

        return call;
    }
}
