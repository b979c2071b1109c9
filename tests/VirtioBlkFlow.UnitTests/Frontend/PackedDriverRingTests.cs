using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Frontend;

/// <summary>The driver's side of a packed ring against a device written from the specification.</summary>
public sealed class PackedDriverRingTests
{
    private const VirtioFeatures Packed = VirtioFeatures.VIRTIO_F_VERSION_1 | VirtioFeatures.VIRTIO_F_RING_PACKED | VirtioFeatures.VIRTIO_RING_F_INDIRECT_DESC;

    public static TheoryData<int, BufferIds, bool, int> Sizes()
    {
        var sizes = new TheoryData<int, BufferIds, bool, int>();
        foreach (int size in new[] { 1, 2, 3, 5, 7, 100, 256, 32768 })
        {
            foreach (BufferIds ids in Enum.GetValues<BufferIds>())
            {
                sizes.Add(size, ids, true, size + 1);
                sizes.Add(size, ids, false, size + 2);
            }
        }

        return sizes;
    }

    [Theory]
    [MemberData(nameof(Sizes))]
    public void Chains_of_any_length_go_round_the_ring_many_times(int size, BufferIds ids, bool startWrap, int seed)
    {
        var random = new Random(seed);
        int start = random.Next(size);
        using var memory = SharedMemory.OfSize(16 << 20);
        var ring = new PackedDriverRing(
            memory, size, Packed, new DriverRingOptions { IndirectEntries = 4, StartOffset = start, StartWrap = startWrap, BufferIds = ids, Seed = seed });
        var device = new PackedModelDevice(memory, ring.Raw, eventIndex: false, start, startWrap);
        // By buffer id, as the device knows them.
        var sent = new Dictionary<ushort, (DriverBuffer[] Buffers, uint Written)>();
        var inDevice = new List<ModelChain>();
        int wraps = 0;
        bool wrapBefore = startWrap;
        int wanted = size > 1000 ? 4 : 40;
        while (wraps < wanted)
        {
            for (int burst = random.Next(1, Math.Min(size, 4000) + 1); burst > 0; burst--)
            {
                var chain = new DriverBuffer[random.Next(1, 5)];
                for (int i = 0; i < chain.Length; i++)
                {
                    chain[i] = new DriverBuffer((ulong)random.NextInt64(), (uint)random.Next(1, 5000), random.Next(2) == 0);
                }

                bool indirect = random.Next(3) == 0;
                int needed = indirect ? 1 : chain.Length;
                int free = ring.FreeDescriptorCount;
                bool added = indirect ? ring.TryAddIndirect(chain, out ushort head) : ring.TryAdd(chain, out head);
                Assert.Equal(needed <= free, added);
                if (!added)
                {
                    break;
                }

                uint writable = (uint)chain.Where(buffer => buffer.DeviceWritable).Sum(buffer => buffer.LengthBytes);
                Assert.True(sent.TryAdd(ring.IdOf(head), (chain, (uint)random.Next(0, (int)writable + 1))), $"Head {head} is in flight twice (seed {seed}).");
            }

            Assert.False(device.TryPop(out _), "Nothing is seen before it is published.");
            ring.Publish();
            while (device.TryPop(out ModelChain popped))
            {
                Assert.Equal(sent[popped.Id].Buffers, popped.Buffers);
                inDevice.Add(popped);
                wraps += device.AvailableWrap == wrapBefore ? 0 : 1;
                wrapBefore = device.AvailableWrap;
            }

            UseSome(random, device, inDevice, sent);
            while (ring.TryTakeUsed(out UsedChain used))
            {
                Assert.True(sent.Remove(ring.IdOf(used.Head), out (DriverBuffer[] Buffers, uint Written) of));
                Assert.Equal(of.Written, used.WrittenBytes);
            }

            Assert.Equal(inDevice.Count, ring.InFlightCount);
            ring.VerifyUntouched();
        }

        inDevice.ForEach(chain => device.Use((chain, 0u)));
        while (ring.TryTakeUsed(out _))
        {
        }

        Assert.Equal((size, 0), (ring.FreeDescriptorCount, ring.InFlightCount));
        Assert.Equal((ring.NextAvailable, ring.AvailableWrap), (ring.NextUsed, ring.UsedWrap));
        Assert.Equal((uint)ring.NextUsed | (ring.UsedWrap ? 0x8000u : 0), ring.Base & 0xffff);
        Assert.Equal(ring.Base & 0xffff, ring.Base >> 16);
    }

    [Fact]
    public void A_fresh_ring_begins_at_the_base_of_qemu()
    {
        using var memory = SharedMemory.OfSize(1 << 20);
        Assert.Equal(0x8000_8000u, new PackedDriverRing(memory, 7, Packed).Base);
        Assert.Equal(0x0003_0003u, new PackedDriverRing(memory, 7, Packed, new DriverRingOptions { StartOffset = 3, StartWrap = false }).Base);
    }

    [Fact]
    public void Arbitrary_ids_reach_beyond_the_ring_and_permuted_ones_do_not()
    {
        using var memory = SharedMemory.OfSize(1 << 20);
        var arbitrary = new PackedDriverRing(memory, 64, Packed, new DriverRingOptions { BufferIds = BufferIds.Arbitrary, Seed = 1 });
        var permuted = new PackedDriverRing(memory, 64, Packed, new DriverRingOptions { BufferIds = BufferIds.Permuted, Seed = 1 });
        ushort[] heads = [.. Enumerable.Range(0, 64).Select(head => (ushort)head)];
        Assert.Contains(heads, head => arbitrary.IdOf(head) >= 64);
        Assert.Equal(64, heads.Select(arbitrary.IdOf).Distinct().Count());
        Assert.NotEqual(heads, heads.Select(permuted.IdOf));
        Assert.Equal(heads, heads.Select(permuted.IdOf).Order());
    }

    [Fact]
    public void A_chain_is_all_direct_or_all_indirect()
    {
        using var memory = SharedMemory.OfSize(1 << 20);
        var ring = new PackedDriverRing(memory, 4, Packed, new DriverRingOptions { IndirectEntries = 4 });
        DriverBuffer[] one = [DriverBuffer.Readable(0, 1)];
        Assert.Throws<ArgumentException>(() => ring.TryAddMixed(one, one, out _));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    [InlineData(8)]
    public void A_kick_is_decided_as_by_walking_over_every_slot_added(int size)
    {
        using var memory = SharedMemory.OfSize(1 << 20);
        var ring = new PackedDriverRing(memory, size, Packed | VirtioFeatures.VIRTIO_RING_F_EVENT_IDX);
        var device = new PackedModelDevice(memory, ring.Raw, eventIndex: true);
        var random = new Random(size);
        int kicked = 0;
        for (int i = 0; i < 5000; i++)
        {
            int event_ = random.Next(size);
            bool eventWrap = random.Next(2) == 0;
            ring.Raw.DeviceEvent = RawPackedRing.Event(RawPackedRing.RING_EVENT_FLAGS_DESC, event_, eventWrap);
            bool due = false;
            for (int count = random.Next(size + 1); count > 0; count--)
            {
                due |= ring.NextAvailable == event_ && ring.AvailableWrap == eventWrap;
                Assert.True(ring.TryAdd([DriverBuffer.Writable(0, 1)], out _));
            }

            Assert.Equal(due, ring.Publish());
            kicked += due ? 1 : 0;
            while (device.TryPop(out ModelChain chain))
            {
                device.Use((chain, 1u));
            }

            while (ring.TryTakeUsed(out _))
            {
            }
        }

        Assert.InRange(kicked, 100, 4900);
    }

    [Theory]
    [InlineData(RawPackedRing.RING_EVENT_FLAGS_ENABLE, true)]
    [InlineData(RawPackedRing.RING_EVENT_FLAGS_DISABLE, false)]
    public void Without_event_index_the_devices_flags_decide_about_a_kick(ushort flags, bool due)
    {
        using var memory = SharedMemory.OfSize(1 << 20);
        var ring = new PackedDriverRing(memory, 4, Packed);
        ring.Raw.DeviceEvent = RawPackedRing.Event(flags);
        ring.TryAdd([DriverBuffer.Writable(0, 1)], out _);
        Assert.Equal(due, ring.Publish());
    }

    [Theory]
    [InlineData(2, 0, false)]
    [InlineData(3, 0, false)]
    [InlineData(3, 0, true)]
    [InlineData(2, 4, true)]
    public void Event_flags_that_mean_nothing_are_the_devices_fault(ushort flags, int offset, bool eventIndex)
    {
        using var memory = SharedMemory.OfSize(1 << 20);
        var ring = new PackedDriverRing(memory, 4, Packed | (eventIndex ? VirtioFeatures.VIRTIO_RING_F_EVENT_IDX : 0));
        ring.Raw.DeviceEvent = RawPackedRing.Event(flags, offset);
        Assert.Throws<DeviceBrokeRingException>(() => ring.Publish());
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_call_comes_for_the_next_chain_when_asked_for_and_never_when_suppressed(bool eventIndex)
    {
        using var memory = SharedMemory.OfSize(1 << 20);
        var ring = new PackedDriverRing(memory, 3, Packed | (eventIndex ? VirtioFeatures.VIRTIO_RING_F_EVENT_IDX : 0));
        var device = new PackedModelDevice(memory, ring.Raw, eventIndex);
        for (int i = 0; i < 20; i++)
        {
            ring.TryAdd([DriverBuffer.Readable(0, 1), DriverBuffer.Writable(0, 1)], out _);
            ring.Publish();
            bool asks = i % 3 != 0;
            if (asks)
            {
                Assert.False(ring.RequestCalls());
            }
            else
            {
                ring.SuppressCalls();
            }

            Assert.True(device.TryPop(out ModelChain chain));
            Assert.Equal(asks, device.Use((chain, 1u)));
            Assert.True(ring.RequestCalls());
            Assert.True(ring.TryTakeUsed(out _));
        }
    }

    [Fact]
    public void A_delayed_call_comes_when_the_slot_is_passed()
    {
        using var memory = SharedMemory.OfSize(1 << 20);
        var ring = new PackedDriverRing(memory, 5, Packed | VirtioFeatures.VIRTIO_RING_F_EVENT_IDX, new DriverRingOptions { StartOffset = 3 });
        var device = new PackedModelDevice(memory, ring.Raw, eventIndex: true, 3);
        for (int i = 0; i < 4; i++)
        {
            ring.TryAdd([DriverBuffer.Writable(0, 1)], out _);
        }

        ring.Publish();
        ring.RequestCalls(afterChains: 2);
        bool[] calls = new bool[4];
        for (int i = 0; i < 4; i++)
        {
            Assert.True(device.TryPop(out ModelChain chain));
            calls[i] = device.Use((chain, 1u));
        }

        Assert.Equal([false, false, true, false], calls);
    }

    // In batches of random size and random order.
    private static void UseSome(
        Random random, PackedModelDevice device, List<ModelChain> inDevice, Dictionary<ushort, (DriverBuffer[] Buffers, uint Written)> sent)
    {
        while (inDevice.Count > 0 && random.Next(6) > 0)
        {
            var batch = new (ModelChain, uint)[random.Next(1, Math.Min(inDevice.Count, 200) + 1)];
            for (int i = 0; i < batch.Length; i++)
            {
                int which = random.Next(inDevice.Count);
                ModelChain chain = inDevice[which];
                inDevice[which] = inDevice[^1];
                inDevice.RemoveAt(inDevice.Count - 1);
                batch[i] = (chain, sent[chain.Id].Written);
            }

            device.Use(batch);
        }
    }
}
