using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Ring;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Virtio;

/// <summary>
/// Both sides of one virtqueue in one process: a driver's ring and a device's, over the same memory. Two regions that touch in
/// guest-physical space and lie apart in ours, so that every buffer may straddle.
/// </summary>
internal sealed unsafe class RingPair : IDisposable
{
    /// <summary>Where the first region ends and the second begins.</summary>
    public const ulong Border = 32 << 20;

    private const ulong SecondRegionBytes = 4 << 20;

    private readonly VirtioFeatures _features;

    public RingPair(int queueSize, VirtioFeatures features = VirtioFeatures.None, int indirectEntries = 0, ushort startIndex = 0)
    {
        _features = features;
        Memory = new SharedMemory(new SharedRegionOptions(0, Border), new SharedRegionOptions(Border, SecondRegionBytes));
        Driver = new SplitDriverRing(Memory, queueSize, features, indirectEntries, startIndex);
        Device = StartDevice(startIndex);
    }

    public SharedMemory Memory { get; }

    public SplitDriverRing Driver { get; }

    public Virtqueue Device { get; private set; }

    /// <summary>One past the last guest address that exists.</summary>
    public static ulong EndOfMemory => Border + SecondRegionBytes;

    /// <summary>Makes a new device on the ring as it is, as after a stop and a start.</summary>
    public void RestartDevice(ushort nextAvailable)
    {
        Device.Dispose();
        Device = StartDevice(nextAvailable);
    }

    public ulong Allocate(int lengthBytes) => Memory.Allocate((ulong)lengthBytes);

    /// <summary>Adds one chain and publishes it.</summary>
    public ushort Offer(params ReadOnlySpan<DriverBuffer> chain)
    {
        Assert.True(Driver.TryAdd(chain, out ushort head));
        Driver.Publish();
        return head;
    }

    /// <summary>Adds one chain in an indirect table and publishes it.</summary>
    public ushort OfferIndirect(params ReadOnlySpan<DriverBuffer> chain)
    {
        Assert.True(Driver.TryAddIndirect(chain, out ushort head));
        Driver.Publish();
        return head;
    }

    /// <summary>Makes a head available without any rule, past the driver's own accounts.</summary>
    public void OfferRaw(ushort head)
    {
        ushort index = Driver.Raw.AvailableIndex;
        Driver.Raw.WriteAvailableEntry(index, head);
        Driver.Raw.AvailableIndex = (ushort)(index + 1);
    }

    /// <summary>Writes descriptors 0, 1, … of the main table and makes head 0 available.</summary>
    public void OfferRaw(params ReadOnlySpan<Descriptor> descriptors)
    {
        for (int i = 0; i < descriptors.Length; i++)
        {
            Driver.Raw.WriteDescriptor(i, in descriptors[i]);
        }

        OfferRaw(0);
    }

    /// <summary>Writes an indirect table entry by entry, so that it may straddle.</summary>
    public void WriteTable(ulong address, params ReadOnlySpan<Descriptor> descriptors)
    {
        Span<byte> bytes = stackalloc byte[SplitRingLayout.DescriptorBytes];
        foreach (ref readonly Descriptor descriptor in descriptors)
        {
            fixed (byte* place = bytes)
            {
                RawSplitRing.WriteDescriptor(place, in descriptor);
            }

            Write(address, bytes);
            address += (ulong)bytes.Length;
        }
    }

    /// <summary>Pops the one chain that must be there.</summary>
    public DescriptorChain Pop()
    {
        Assert.Equal(PopOutcome.Popped, Device.TryPop(out DescriptorChain chain));
        return chain;
    }

    /// <summary>Returns a chain to the driver and checks that it arrives.</summary>
    public void Complete(ushort head, uint writtenBytes)
    {
        Device.AddUsed(head, writtenBytes, 0);
        Device.PublishUsed();
        Assert.True(Driver.TryTakeUsed(out UsedChain used));
        Assert.Equal(new UsedChain(head, writtenBytes), used);
    }

    /// <summary>Pops and expects the ring to be broken in this way, and to stay so.</summary>
    public void ExpectDefect(RingDefect defect)
    {
        Assert.Equal(PopOutcome.Broken, Device.TryPop(out _));
        Assert.Equal(defect, Device.Defect);
        Assert.Equal(PopOutcome.Broken, Device.TryPop(out _));
        Assert.Equal(0, Device.InFlightCount);
    }

    /// <summary>Writes guest memory that may straddle regions.</summary>
    public void Write(ulong address, ReadOnlySpan<byte> bytes)
    {
        foreach (byte value in bytes)
        {
            *Memory.Host(address++, 1) = value;
        }
    }

    /// <summary>Reads guest memory that may straddle regions.</summary>
    public byte[] Read(ulong address, int lengthBytes)
    {
        var bytes = new byte[lengthBytes];
        for (int i = 0; i < lengthBytes; i++)
        {
            bytes[i] = *Memory.Host(address + (ulong)i, 1);
        }

        return bytes;
    }

    public void Dispose()
    {
        Device.Dispose();
        Memory.Dispose();
    }

    private Virtqueue StartDevice(ushort nextAvailable) => Virtqueue.Create(new VirtqueueSetup
    {
        QueueSize = Driver.QueueSize,
        Addresses = Driver.HostAddresses,
        Memory = Memory.ToGuestMemory(),
        Features = _features,
        Position = new RingPosition(nextAvailable, 0),
    });
}
