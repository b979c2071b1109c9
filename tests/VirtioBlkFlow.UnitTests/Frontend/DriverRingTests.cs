using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.UnitTests.Virtio;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Ring;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Frontend;

/// <summary>The driver's side of a ring: its free list, its distrust, its wishes. Both sides under load: see <see cref="WakeUpRaceTests"/>.</summary>
public sealed class DriverRingTests
{
    [Fact]
    public void Free_descriptors_are_neither_lost_nor_doubled_by_chains_of_any_length()
    {
        using var pair = new RingPair(64, VirtioFeatures.VIRTIO_RING_F_INDIRECT_DESC, indirectEntries: 8);
        var random = new Random(7);
        var inFlight = new List<ushort>();
        var buffers = new DriverBuffer[8];
        for (int i = 0; i < 50_000; i++)
        {
            int direct = random.Next(0, 6);
            int indirect = random.Next(direct == 0 ? 1 : 0, 4);
            for (int j = 0; j < buffers.Length; j++)
            {
                buffers[j] = DriverBuffer.Writable((ulong)random.Next(4096), (uint)random.Next(1, 4096));
            }

            int before = pair.Driver.FreeDescriptorCount;
            int needed = direct + (indirect > 0 ? 1 : 0);
            bool added = pair.Driver.TryAddMixed(buffers.AsSpan(0, direct), buffers.AsSpan(0, indirect), out _);
            Assert.Equal(needed <= before, added);
            Assert.Equal(added ? before - needed : before, pair.Driver.FreeDescriptorCount);
            pair.Driver.Publish();
            while (pair.Device.TryPop(out DescriptorChain chain) == PopOutcome.Popped)
            {
                // What the device sees is what was added: descriptors of two chains never mix.
                Assert.Equal(direct + indirect, chain.WritableCount);
                inFlight.Add(chain.Slot);
            }

            while (inFlight.Count > 0 && random.Next(3) > 0)
            {
                int which = random.Next(inFlight.Count);
                pair.Complete(inFlight[which], 0);
                inFlight.RemoveAt(which);
            }
        }

        inFlight.ForEach(head => pair.Complete(head, 0));
        Assert.Equal(64, pair.Driver.FreeDescriptorCount);
        Assert.Equal(RingDefect.None, pair.Device.Defect);
    }

    [Fact]
    public void A_head_that_comes_back_twice_is_the_devices_fault()
    {
        using var pair = new RingPair(4);
        ushort head = pair.Offer(DriverBuffer.Writable(0, 1));
        pair.Offer(DriverBuffer.Writable(0, 1));
        ReturnRaw(pair, head);
        ReturnRaw(pair, head);
        Assert.True(pair.Driver.TryTakeUsed(out _));
        Assert.Throws<DeviceBrokeRingException>(() => pair.Driver.TryTakeUsed(out _));
    }

    [Theory]
    [InlineData(1u)]
    [InlineData(4u)]
    [InlineData(uint.MaxValue)]
    public void A_head_that_was_never_offered_is_the_devices_fault(uint id)
    {
        using var pair = new RingPair(4);
        pair.Offer(DriverBuffer.Writable(0, 1));
        ReturnRaw(pair, id);
        Assert.Throws<DeviceBrokeRingException>(() => pair.Driver.TryTakeUsed(out _));
    }

    [Theory]
    [InlineData(2)]
    [InlineData(ushort.MaxValue)]
    public void A_used_index_beyond_what_is_in_flight_is_the_devices_fault(ushort usedIndex)
    {
        using var pair = new RingPair(4);
        pair.Offer(DriverBuffer.Writable(0, 1));
        pair.Driver.Raw.UsedIndex = usedIndex;
        Assert.Throws<DeviceBrokeRingException>(() => pair.Driver.TryTakeUsed(out _));
    }

    [Fact]
    public void A_delayed_call_comes_when_enough_chains_are_used()
    {
        using var pair = new RingPair(8, VirtioFeatures.VIRTIO_RING_F_EVENT_IDX, startIndex: 65533);
        Assert.True(Use(pair));
        for (int round = 0; round < 10; round++)
        {
            while (pair.Driver.TryTakeUsed(out _))
            {
            }

            Assert.False(pair.Driver.RequestCalls(afterChains: 3));
            Assert.Equal([false, false, false, true, false], Enumerable.Range(0, 5).Select(_ => Use(pair)));
        }
    }

    [Theory]
    [InlineData(VirtioFeatures.None)]
    [InlineData(VirtioFeatures.VIRTIO_RING_F_EVENT_IDX)]
    public void Asking_for_calls_tells_of_what_was_used_meanwhile(VirtioFeatures features)
    {
        using var pair = new RingPair(8, features);
        pair.Driver.SuppressCalls();
        Use(pair);
        Assert.False(Use(pair));
        Assert.True(pair.Driver.RequestCalls());
        Assert.True(pair.Driver.TryTakeUsed(out _));
        Assert.True(pair.Driver.RequestCalls());
        Assert.True(pair.Driver.TryTakeUsed(out _));
        Assert.False(pair.Driver.RequestCalls());
    }

    [Fact]
    public void An_indirect_chain_longer_than_its_table_is_the_callers_mistake()
    {
        using var pair = new RingPair(8, VirtioFeatures.VIRTIO_RING_F_INDIRECT_DESC, indirectEntries: 2);
        Assert.Throws<ArgumentOutOfRangeException>(() => pair.Driver.TryAddIndirect(new DriverBuffer[3], out _));
        Assert.Throws<ArgumentOutOfRangeException>(() => pair.Driver.TryAdd([], out _));
        Assert.Equal((8, 0), (pair.Driver.FreeDescriptorCount, pair.Driver.InFlightCount));
    }

    private static bool Use(RingPair pair)
    {
        ushort head = pair.Offer(DriverBuffer.Writable(0, 1));
        Assert.Equal(head, pair.Pop().Slot);
        pair.Device.AddUsed(head, 1, 0);
        return pair.Device.PublishUsed();
    }

    // A used element as a broken device would write it.
    private static unsafe void ReturnRaw(RingPair pair, uint id)
    {
        ushort index = pair.Driver.Raw.UsedIndex;
        var elements = (ulong*)(pair.Driver.HostAddresses.DeviceArea + SplitRingLayout.RingOffset);
        System.Runtime.CompilerServices.Unsafe.WriteUnaligned(elements + (index % pair.Driver.QueueSize), (ulong)id);
        pair.Driver.Raw.UsedIndex = (ushort)(index + 1);
    }
}
