using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.Frontend.Ring;

/// <summary>
/// A split virtqueue as bare words, without any rule: what <see cref="DriverRing"/> is built on, and what a hostile driver plays with. The
/// one place on the driver's side that knows offsets and does acquire and release. Any thread may use it; what that means for the ring
/// is up to the caller.
/// </summary>
public sealed unsafe class RawSplitRing
{
    private readonly byte* _descriptors;
    private readonly byte* _available;
    private readonly byte* _used;
    private readonly int _mask;

    /// <summary>Looks at a ring at the given places.</summary>
    /// <param name="queueSize">Entries: a power of two up to 32768.</param>
    /// <param name="addresses">Host addresses of the three parts.</param>
    public RawSplitRing(int queueSize, RingAddresses addresses)
    {
        if (queueSize < 0 || !SplitRingLayout.IsValidQueueSize((uint)queueSize))
        {
            throw new ArgumentOutOfRangeException(nameof(queueSize), queueSize, "The size of a split virtqueue is a power of two up to 32768.");
        }

        QueueSize = queueSize;
        _mask = queueSize - 1;
        _descriptors = (byte*)addresses.DescriptorArea;
        _available = (byte*)addresses.DriverArea;
        _used = (byte*)addresses.DeviceArea;
    }

    /// <summary>Entries in the ring.</summary>
    public int QueueSize { get; }

    /// <summary>avail.flags.</summary>
    public ushort AvailableFlags
    {
        get => Volatile.Read(ref Word(_available + SplitRingLayout.FlagsOffset));
        set => Volatile.Write(ref Word(_available + SplitRingLayout.FlagsOffset), value);
    }

    /// <summary>avail.idx. Setting releases: orders descriptors and ring entries before the index the device polls.</summary>
    public ushort AvailableIndex
    {
        get => Volatile.Read(ref Word(_available + SplitRingLayout.IndexOffset));
        set => Volatile.Write(ref Word(_available + SplitRingLayout.IndexOffset), value);
    }

    /// <summary>used_event: the used index whose passing the driver wants to be called for.</summary>
    public ushort UsedEvent
    {
        get => Volatile.Read(ref Word(_available + SplitRingLayout.UsedEventOffset(QueueSize)));
        set => Volatile.Write(ref Word(_available + SplitRingLayout.UsedEventOffset(QueueSize)), value);
    }

    /// <summary>used.flags.</summary>
    public ushort UsedFlags
    {
        get => Volatile.Read(ref Word(_used + SplitRingLayout.FlagsOffset));
        set => Volatile.Write(ref Word(_used + SplitRingLayout.FlagsOffset), value);
    }

    /// <summary>used.idx. Reading acquires: orders the index before the elements, data and status bytes the device wrote first.</summary>
    public ushort UsedIndex
    {
        get => Volatile.Read(ref Word(_used + SplitRingLayout.IndexOffset));
        set => Volatile.Write(ref Word(_used + SplitRingLayout.IndexOffset), value);
    }

    /// <summary>avail_event: the available index whose passing the device wants to be kicked for.</summary>
    public ushort AvailableEvent
    {
        get => Volatile.Read(ref Word(_used + SplitRingLayout.AvailableEventOffset(QueueSize)));
        set => Volatile.Write(ref Word(_used + SplitRingLayout.AvailableEventOffset(QueueSize)), value);
    }

    /// <summary>Writes a descriptor of the main table, as two words of 8 bytes.</summary>
    public void WriteDescriptor(int index, in Descriptor descriptor) =>
        WriteDescriptor(_descriptors + (index * SplitRingLayout.DescriptorBytes), in descriptor);

    /// <summary>Reads a descriptor of the main table.</summary>
    public Descriptor ReadDescriptor(int index) =>
        Unsafe.ReadUnaligned<Descriptor>(_descriptors + (index * SplitRingLayout.DescriptorBytes));

    /// <summary>Writes a descriptor anywhere: an entry of an indirect table.</summary>
    public static void WriteDescriptor(byte* place, in Descriptor descriptor)
    {
        Unsafe.WriteUnaligned(place, descriptor.Address);
        Unsafe.WriteUnaligned(place + sizeof(ulong), descriptor.LengthBytes | ((ulong)descriptor.Flags << 32) | ((ulong)descriptor.Next << 48));
    }

    /// <summary>Writes an entry of the available ring.</summary>
    /// <param name="index">Free-running index; its slot is taken modulo the queue size.</param>
    /// <param name="head">Index of the first descriptor of a chain.</param>
    public void WriteAvailableEntry(ushort index, ushort head) =>
        Word(_available + SplitRingLayout.RingOffset + (sizeof(ushort) * (index & _mask))) = head;

    /// <summary>Reads an element of the used ring as the device wrote it: no check at all.</summary>
    /// <param name="index">Free-running index; its slot is taken modulo the queue size.</param>
    public (uint Id, uint LengthBytes) ReadUsedElement(ushort index)
    {
        ulong element = Unsafe.ReadUnaligned<ulong>(_used + SplitRingLayout.RingOffset + (SplitRingLayout.UsedElementBytes * (index & _mask)));
        return ((uint)element, (uint)(element >> 32));
    }

    private static ref ushort Word(byte* place) => ref *(ushort*)place;
}
