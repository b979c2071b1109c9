using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Ring;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Virtio;

/// <summary>
/// The least a driver of a packed ring can be, for the tests of the device side. It follows the rules, and gives ids that no device can
/// mistake for numbers of its own. Whoever wants to break a rule writes into the ring directly.
/// </summary>
internal sealed unsafe class PackedTestDriver : IVirtqueueDriver
{
    private readonly VirtioFeatures _features;
    private readonly Stack<int> _freeNumbers = new();
    private readonly Dictionary<ushort, (int Number, int Entries)> _inFlight = [];
    private int _freeEntries;
    private int _nextAvailable;
    private bool _availableWrap;
    private int _nextUsed;
    private bool _usedWrap;
    private int _entriesInBatch;
    private int _firstOfBatch = -1;
    private ushort _firstOfBatchFlags;
    private readonly ulong _tables;

    public PackedTestDriver(SharedMemory memory, int queueSize, VirtioFeatures features, ushort start = PackedRingLayout.WrapBit)
    {
        QueueSize = queueSize;
        _features = features;
        _freeEntries = queueSize;
        _nextAvailable = _nextUsed = start & 0x7fff;
        _availableWrap = _usedWrap = (start & PackedRingLayout.WrapBit) != 0;
        RingAddress = memory.Allocate((ulong)PackedRingLayout.DescriptorRingBytes(queueSize));
        ulong driverEvent = memory.Allocate(PackedRingLayout.EventAreaBytes);
        ulong deviceEvent = memory.Allocate(PackedRingLayout.EventAreaBytes);
        _tables = memory.Allocate((ulong)queueSize * TableEntries * PackedRingLayout.DescriptorBytes);
        Ring = (PackedDescriptor*)memory.Host(RingAddress, (ulong)PackedRingLayout.DescriptorRingBytes(queueSize));
        DriverEvent = (uint*)memory.Host(driverEvent, PackedRingLayout.EventAreaBytes);
        DeviceEvent = (uint*)memory.Host(deviceEvent, PackedRingLayout.EventAreaBytes);
        Memory = memory;
        // What was there before looks used in the lap before the first, so that only what the driver writes is available.
        for (int i = 0; i < queueSize; i++)
        {
            bool lap = i >= _nextAvailable ? !_availableWrap : _availableWrap;
            Ring[i].Flags = (ushort)(lap ? 0x8080 : 0);
            _freeNumbers.Push(i);
        }
    }

    /// <summary>Most entries of an indirect table.</summary>
    public const int TableEntries = 8;

    public int QueueSize { get; }

    public SharedMemory Memory { get; }

    public ulong RingAddress { get; }

    public PackedDescriptor* Ring { get; }

    public uint* DriverEvent { get; }

    public uint* DeviceEvent { get; }

    public RingAddresses HostAddresses => new((nint)Ring, (nint)DriverEvent, (nint)DeviceEvent);

    public RingPosition Position => new(Encode(_nextAvailable, _availableWrap), Encode(_nextUsed, _usedWrap));

    public ushort DeviceEventFlags => (ushort)(Volatile.Read(ref *DeviceEvent) >> 16);

    /// <summary>Flags that make a descriptor available where the driver stands.</summary>
    public ushort AvailableFlags => _availableWrap ? PackedRingLayout.VIRTQ_DESC_F_AVAIL : PackedRingLayout.VIRTQ_DESC_F_USED;

    public bool HasUsed => _freeEntries < QueueSize && (Flags(_nextUsed) & 0x8080) == (_usedWrap ? 0x8080 : 0);

    public bool TryAdd(ReadOnlySpan<DriverBuffer> chain, out ushort id)
    {
        id = 0;
        if (_freeEntries < chain.Length)
        {
            return false;
        }

        int number = _freeNumbers.Pop();
        id = IdOf(number);
        int offset = _nextAvailable;
        bool wrap = _availableWrap;
        for (int i = 0; i < chain.Length; i++)
        {
            bool last = i == chain.Length - 1;
            uint flags = wrap ? PackedRingLayout.VIRTQ_DESC_F_AVAIL : (uint)PackedRingLayout.VIRTQ_DESC_F_USED;
            flags |= last ? 0 : (uint)DescriptorFlags.VIRTQ_DESC_F_NEXT;
            flags |= chain[i].DeviceWritable ? (uint)DescriptorFlags.VIRTQ_DESC_F_WRITE : 0;
            Write(offset, new PackedDescriptor
            {
                Address = chain[i].GuestAddress,
                LengthBytes = chain[i].LengthBytes,
                Id = last ? id : (ushort)0xdead,
                Flags = (ushort)flags,
            });
            Next(ref offset, ref wrap);
        }

        Added(id, number, chain.Length, offset, wrap);
        return true;
    }

    public bool TryAddIndirect(ReadOnlySpan<DriverBuffer> chain, out ushort id)
    {
        id = 0;
        if (_freeEntries == 0)
        {
            return false;
        }

        int number = _freeNumbers.Pop();
        id = IdOf(number);
        ulong table = _tables + ((ulong)number * TableEntries * PackedRingLayout.DescriptorBytes);
        var entries = (PackedDescriptor*)Memory.Host(table, TableEntries * PackedRingLayout.DescriptorBytes);
        for (int i = 0; i < chain.Length; i++)
        {
            entries[i] = new PackedDescriptor
            {
                Address = chain[i].GuestAddress,
                LengthBytes = chain[i].LengthBytes,
                // Both mean nothing here.
                Id = (ushort)(0x5a5a + i),
                Flags = (ushort)((chain[i].DeviceWritable ? (uint)DescriptorFlags.VIRTQ_DESC_F_WRITE : 0) | (uint)(i & 1)),
            };
        }

        AddReference(id, number, table, (uint)(chain.Length * PackedRingLayout.DescriptorBytes), DescriptorFlags.None);
        return true;
    }

    /// <summary>Adds a descriptor that refers to a table.</summary>
    public void AddReference(ushort id, ulong table, uint lengthBytes, DescriptorFlags more) =>
        AddReference(id, _freeNumbers.Pop(), table, lengthBytes, more);

    private void AddReference(ushort id, int number, ulong table, uint lengthBytes, DescriptorFlags more)
    {
        int offset = _nextAvailable;
        bool wrap = _availableWrap;
        ushort flags = (ushort)(AvailableFlags | (uint)DescriptorFlags.VIRTQ_DESC_F_INDIRECT | (uint)more);
        Write(offset, new PackedDescriptor { Address = table, LengthBytes = lengthBytes, Id = id, Flags = flags });
        Next(ref offset, ref wrap);
        Added(id, number, 1, offset, wrap);
    }

    public bool Publish()
    {
        if (_firstOfBatch < 0)
        {
            return false;
        }

        Volatile.Write(ref Ring[_firstOfBatch].Flags, _firstOfBatchFlags);
        _firstOfBatch = -1;
        int passed = _entriesInBatch;
        _entriesInBatch = 0;
        Interlocked.MemoryBarrier();
        uint wish = Volatile.Read(ref *DeviceEvent);
        ushort flags = (ushort)(wish >> 16);
        Assert.InRange(flags, 0, (_features & VirtioFeatures.VIRTIO_RING_F_EVENT_IDX) != 0 ? 2 : 1);
        return flags == 2 ? HasPassed((ushort)wish, _nextAvailable, _availableWrap, passed) : flags == 0;
    }

    public bool TryTakeUsed(out ushort id, out uint writtenBytes)
    {
        id = 0;
        writtenBytes = 0;
        if (!HasUsed)
        {
            return false;
        }

        PackedDescriptor used = Ring[_nextUsed];
        id = used.Id;
        bool written = (used.Flags & (ushort)DescriptorFlags.VIRTQ_DESC_F_WRITE) != 0;
        Assert.Equal((_usedWrap ? 0x8080 : 0) | (written ? 2 : 0), used.Flags);
        writtenBytes = written ? used.LengthBytes : 0;
        Assert.True(_inFlight.Remove(id, out (int Number, int Entries) chain), $"Id {id} came back and was not in flight.");
        _freeNumbers.Push(chain.Number);
        _freeEntries += chain.Entries;
        for (int left = chain.Entries; left > 0; left--)
        {
            Next(ref _nextUsed, ref _usedWrap);
        }

        return true;
    }

    public void SuppressCalls() => WriteWish(0, PackedRingLayout.RING_EVENT_FLAGS_DISABLE);

    public bool RequestCalls()
    {
        if ((_features & VirtioFeatures.VIRTIO_RING_F_EVENT_IDX) != 0)
        {
            WriteWish(Encode(_nextUsed, _usedWrap), PackedRingLayout.RING_EVENT_FLAGS_DESC);
        }
        else
        {
            WriteWish(0, PackedRingLayout.RING_EVENT_FLAGS_ENABLE);
        }

        Interlocked.MemoryBarrier();
        return HasUsed;
    }

    public void WriteWish(ushort position, ushort flags) => Volatile.Write(ref *DriverEvent, position | ((uint)flags << 16));

    // Whether the asked place is among the last that were passed: counted one by one, backwards, unlike in the device.
    private bool HasPassed(ushort wish, int next, bool wrap, int passed)
    {
        for (; passed > 0; passed--)
        {
            if (next == 0)
            {
                next = QueueSize;
                wrap = !wrap;
            }

            next--;
            if (Encode(next, wrap) == wish)
            {
                return true;
            }
        }

        return false;
    }

    // Odd factor: all different, and far from the numbers themselves.
    private static ushort IdOf(int number) => (ushort)((number * 40503) + 50000);

    private ushort Flags(int offset) => Volatile.Read(ref Ring[offset].Flags);

    private static ushort Encode(int offset, bool wrap) => (ushort)(offset | (wrap ? PackedRingLayout.WrapBit : 0));

    private void Next(ref int offset, ref bool wrap)
    {
        if (++offset == QueueSize)
        {
            offset = 0;
            wrap = !wrap;
        }
    }

    // The flags of the first descriptor of a batch wait for Publish.
    private void Write(int offset, PackedDescriptor descriptor)
    {
        if (_firstOfBatch < 0)
        {
            _firstOfBatch = offset;
            _firstOfBatchFlags = descriptor.Flags;
            descriptor.Flags = Ring[offset].Flags;
        }

        Ring[offset] = descriptor;
    }

    private void Added(ushort id, int number, int entries, int offset, bool wrap)
    {
        _inFlight.Add(id, (number, entries));
        _freeEntries -= entries;
        _entriesInBatch += entries;
        _nextAvailable = offset;
        _availableWrap = wrap;
    }
}
