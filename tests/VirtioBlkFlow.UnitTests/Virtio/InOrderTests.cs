using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Ring;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Virtio;

/// <summary>VIRTIO_F_IN_ORDER: completed in any order, returned in the order made available (CORE-18, SPLIT-26, PACKED-23).</summary>
public sealed class InOrderTests
{
    private const VirtioFeatures Split = VirtioFeatures.VIRTIO_F_IN_ORDER;
    private const VirtioFeatures Packed = VirtioFeatures.VIRTIO_F_IN_ORDER | VirtioFeatures.VIRTIO_F_RING_PACKED;

    [Theory]
    [InlineData(Split)]
    [InlineData(Packed)]
    public void What_completed_early_waits_in_flight_for_the_oldest(VirtioFeatures features)
    {
        using var pair = new VirtqueuePair(4, features);
        ushort[] ids = [pair.Offer(DriverBuffer.Writable(0, 8)), pair.Offer(DriverBuffer.Writable(8, 8)), pair.Offer(DriverBuffer.Writable(16, 8))];
        ushort[] slots = [pair.Pop().Slot, pair.Pop().Slot, pair.Pop().Slot];
        pair.Device.AddUsed(slots[2], 3, 0);
        pair.Device.AddUsed(slots[1], 2, 0);
        Assert.Equal(3, pair.Device.InFlightCount);
        Assert.False(pair.Device.PublishUsed());
        Assert.False(pair.Driver.HasUsed);
        pair.Device.AddUsed(slots[0], 1, 0);
        Assert.Equal(0, pair.Device.InFlightCount);
        Assert.True(pair.Device.PublishUsed());
        // One element for each, with its own length: nothing is skipped.
        for (int i = 0; i < 3; i++)
        {
            Assert.True(pair.Driver.TryTakeUsed(out ushort id, out uint writtenBytes));
            Assert.Equal((ids[i], (uint)i + 1), (id, writtenBytes));
        }
    }

    [Theory]
    [InlineData(Split)]
    [InlineData(Packed)]
    public void The_oldest_goes_at_once_and_a_gap_stops_the_rest(VirtioFeatures features)
    {
        using var pair = new VirtqueuePair(4, features);
        ushort first = pair.Offer(DriverBuffer.Writable(0, 8));
        pair.Offer(DriverBuffer.Writable(8, 8));
        pair.Offer(DriverBuffer.Writable(16, 8));
        ushort[] slots = [pair.Pop().Slot, pair.Pop().Slot, pair.Pop().Slot];
        pair.Device.AddUsed(slots[2], 8, 0);
        pair.Device.AddUsed(slots[0], 8, 0);
        pair.Device.PublishUsed();
        Assert.True(pair.Driver.TryTakeUsed(out ushort id, out _));
        Assert.Equal(first, id);
        Assert.False(pair.Driver.HasUsed);
        Assert.Equal(2, pair.Device.InFlightCount);
    }

    [Theory]
    [InlineData(VirtioFeatures.None)]
    [InlineData(VirtioFeatures.VIRTIO_F_RING_PACKED)]
    public void Without_the_feature_nothing_waits(VirtioFeatures features)
    {
        using var pair = new VirtqueuePair(4, features);
        pair.Offer(DriverBuffer.Writable(0, 8));
        ushort second = pair.Offer(DriverBuffer.Writable(8, 8));
        pair.Pop();
        pair.Device.AddUsed(pair.Pop().Slot, 8, 0);
        pair.Device.PublishUsed();
        Assert.True(pair.Driver.TryTakeUsed(out ushort id, out _));
        Assert.Equal(second, id);
    }

    [Fact]
    public void In_a_split_ring_a_head_that_completed_but_waits_may_not_come_again()
    {
        using var pair = new RingPair(4, Split);
        pair.Offer(DriverBuffer.Writable(0, 8));
        ushort second = pair.Offer(DriverBuffer.Writable(8, 8));
        pair.Pop();
        pair.Device.AddUsed(pair.Pop().Slot, 8, 0);
        pair.OfferRaw(second);
        Assert.Equal(PopOutcome.Broken, pair.Device.TryPop(out _));
        Assert.Equal(RingDefect.HeadInFlight, pair.Device.Defect);
    }
}
