using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Frontend;

/// <summary>IN_ORDER on both kinds of rings (VIRTIO 1.4, "In-order use of descriptors").</summary>
public sealed class InOrderTests : IDisposable
{
    private const int Size = 8;

    private readonly SharedMemory _memory = SharedMemory.OfSize(1 << 20);

    public void Dispose() => _memory.Dispose();

    [Theory]
    [InlineData(false, 1)]
    [InlineData(true, 2)]
    public void Chains_come_back_in_order_one_by_one_or_in_batches(bool packed, int seed)
    {
        DriverRing ring = Ring(packed);
        IModelDevice device = Device(ring);
        var random = new Random(seed);
        var expected = new Queue<ushort>();
        int skipped = 0;
        for (int i = 0; i < 3000; i++)
        {
            var chain = new DriverBuffer[random.Next(1, 4)];
            Array.Fill(chain, DriverBuffer.Writable(0, 64));
            while (random.Next(4) > 0 && ring.TryAdd(chain, out ushort head))
            {
                expected.Enqueue(head);
            }

            ring.Publish();
            var popped = new List<ModelChain>();
            while (device.TryPop(out ModelChain next))
            {
                popped.Add(next);
            }

            int inBatch = popped.Count;
            if (popped.Count > 1 && random.Next(2) == 0)
            {
                UseAsOne(device, popped, 33);
            }
            else
            {
                inBatch = 0;
                popped.ForEach(chain => device.Use((chain, 33u)));
            }

            for (int taken = 1; ring.TryTakeUsed(out UsedChain used); taken++)
            {
                bool isSkipped = taken < inBatch;
                Assert.Equal(new UsedChain(expected.Dequeue(), isSkipped ? 0u : 33u, isSkipped), used);
                skipped += isSkipped ? 1 : 0;
            }

            Assert.Empty(expected);
            Assert.Equal((Size, false), (ring.FreeDescriptorCount, ring.HasUsed));
        }

        Assert.True(skipped > 100);
    }

    [Fact]
    public void A_split_ring_uses_its_descriptors_in_ring_order()
    {
        var ring = (SplitDriverRing)Ring(packed: false);
        IModelDevice device = Device(ring);
        for (int i = 0; i < 40; i++)
        {
            Assert.True(ring.TryAdd([DriverBuffer.Readable(0, 1), DriverBuffer.Writable(0, 1), DriverBuffer.Writable(0, 1)], out ushort head));
            Assert.Equal(i * 3 % Size, head);
            ring.Publish();
            Assert.True(device.TryPop(out ModelChain chain));
            Assert.Equal(3, chain.Buffers.Count);
            device.Use((chain, 1u));
            Assert.True(ring.TryTakeUsed(out _));
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_chain_out_of_order_is_the_devices_fault(bool packed)
    {
        DriverRing ring = Ring(packed, acceptBatches: false);
        IModelDevice device = Device(ring);
        ModelChain[] chains = AddTwo(ring, device);
        device.Use((chains[1], 1u));
        Assert.StartsWith("IN_ORDER", Assert.Throws<DeviceBrokeRingException>(() => ring.TryTakeUsed(out _)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_batch_is_refused_by_a_driver_that_expects_none(bool packed)
    {
        DriverRing ring = Ring(packed, acceptBatches: false);
        IModelDevice device = Device(ring);
        UseAsOne(device, AddTwo(ring, device), 1);
        Assert.StartsWith("IN_ORDER", Assert.Throws<DeviceBrokeRingException>(() => ring.TryTakeUsed(out _)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_split_batch_that_is_not_covered_by_the_used_index_is_a_swap_of_chains()
    {
        DriverRing ring = Ring(packed: false);
        IModelDevice device = Device(ring);
        device.Use((AddTwo(ring, device)[1], 1u));
        Assert.StartsWith("IN_ORDER", Assert.Throws<DeviceBrokeRingException>(() => ring.TryTakeUsed(out _)).Message, StringComparison.Ordinal);
    }

    private static ModelChain[] AddTwo(DriverRing ring, IModelDevice device)
    {
        for (int i = 0; i < 2; i++)
        {
            Assert.True(ring.TryAdd([DriverBuffer.Readable(0, 1), DriverBuffer.Writable(0, 1)], out _));
        }

        ring.Publish();
        Assert.True(device.TryPop(out ModelChain first));
        Assert.True(device.TryPop(out ModelChain second));
        return [first, second];
    }

    private static void UseAsOne(IModelDevice device, IReadOnlyList<ModelChain> batch, uint writtenBytes)
    {
        if (device is PackedModelDevice packed)
        {
            packed.UseAsOne(batch, writtenBytes);
        }
        else
        {
            ((SplitModelDevice)device).UseAsOne(batch, writtenBytes);
        }
    }

    private IModelDevice Device(DriverRing ring) => ModelServer.DeviceFor(_memory, ring, eventIndex: false);

    private DriverRing Ring(bool packed, bool acceptBatches = true)
    {
        const VirtioFeatures InOrder = (VirtioFeatures)(1UL << 35);
        VirtioFeatures features = InOrder | (packed ? VirtioFeatures.VIRTIO_F_RING_PACKED : 0);
        return DriverRing.Create(_memory, Size, features, new DriverRingOptions { AcceptInOrderBatches = acceptBatches, BufferIds = BufferIds.Permuted });
    }
}
