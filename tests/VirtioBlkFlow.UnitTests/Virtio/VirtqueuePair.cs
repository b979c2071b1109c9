using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Ring;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Virtio;

/// <summary>Both sides of one virtqueue of either kind; VIRTIO_F_RING_PACKED says which.</summary>
internal sealed unsafe class VirtqueuePair : IDisposable
{
    private const ulong MemoryBytes = 8 << 20;

    private readonly RingAddresses _addresses;
    private readonly VirtioFeatures _features;
    private readonly int _queueSize;

    /// <param name="queueSize">Entries.</param>
    /// <param name="features">What was negotiated.</param>
    /// <param name="start">Where both sides begin; null for where a new ring does.</param>
    public VirtqueuePair(int queueSize, VirtioFeatures features, ushort? start = null)
    {
        _queueSize = queueSize;
        _features = features;
        Memory = SharedMemory.OfSize(MemoryBytes);
        if ((features & VirtioFeatures.VIRTIO_F_RING_PACKED) != 0)
        {
            ushort position = start ?? PackedRingLayout.WrapBit;
            Packed = new PackedTestDriver(Memory, queueSize, features, position);
            Driver = Packed;
            _addresses = Packed.HostAddresses;
            if ((position & PackedRingLayout.WrapBit) == 0)
            {
                // What a first lap leaves behind.
                for (int i = 0; i < queueSize; i++)
                {
                    Packed.Ring[i].Flags = PackedRingLayout.VIRTQ_DESC_F_AVAIL | PackedRingLayout.VIRTQ_DESC_F_USED;
                }
            }

            Device = StartDevice(new RingPosition(position, position));
        }
        else
        {
            var ring = new SplitDriverRing(Memory, queueSize, features, PackedTestDriver.TableEntries, start ?? 0);
            Driver = new SplitTestDriver(ring);
            _addresses = ring.HostAddresses;
            Device = StartDevice(new RingPosition(start ?? 0, 0));
        }
    }

    public SharedMemory Memory { get; }

    public IVirtqueueDriver Driver { get; }

    /// <summary>The driver, if the ring is packed.</summary>
    public PackedTestDriver Packed { get; } = null!;

    public Virtqueue Device { get; private set; }

    /// <summary>A new device on the ring as it is, as after a stop and a start.</summary>
    public void RestartDevice(RingPosition position)
    {
        Device.Dispose();
        Device = StartDevice(position);
    }

    public ushort Offer(params ReadOnlySpan<DriverBuffer> chain)
    {
        Assert.True(Driver.TryAdd(chain, out ushort id));
        Driver.Publish();
        return id;
    }

    public DescriptorChain Pop()
    {
        Assert.Equal(PopOutcome.Popped, Device.TryPop(out DescriptorChain chain));
        return chain;
    }

    /// <summary>Offers chains of so many one-byte buffers each and has them used in one batch.</summary>
    /// <returns>Whether the device calls.</returns>
    public bool Use(int count, int entries = 1)
    {
        var chain = new DriverBuffer[entries];
        Array.Fill(chain, DriverBuffer.Writable(0, 1));
        for (int i = 0; i < count; i++)
        {
            Assert.True(Driver.TryAdd(chain, out _));
        }

        Driver.Publish();
        for (int i = 0; i < count; i++)
        {
            Device.AddUsed(Pop().Slot, 1, 1);
        }

        bool call = Device.PublishUsed();
        for (int i = 0; i < count; i++)
        {
            Assert.True(Driver.TryTakeUsed(out _, out _));
        }

        return call;
    }

    /// <summary>Expects the ring to be broken in this way, and to stay so.</summary>
    public void ExpectDefect(RingDefect defect)
    {
        Assert.Equal(PopOutcome.Broken, Device.TryPop(out _));
        Assert.Equal(defect, Device.Defect);
        Assert.Equal(PopOutcome.Broken, Device.TryPop(out _));
    }

    public void Dispose()
    {
        Device.Dispose();
        Memory.Dispose();
    }

    private Virtqueue StartDevice(RingPosition position) => Virtqueue.Create(new VirtqueueSetup
    {
        QueueSize = _queueSize,
        Addresses = _addresses,
        Memory = Memory.ToGuestMemory(),
        Features = _features,
        Position = position,
    });
}
