namespace VirtioBlkFlow.Frontend.Ring;

/// <summary>One slot of a packed ring: <c>struct pvirtq_desc</c>, 16 bytes, little-endian (VIRTIO 1.4, "The Virtqueue Descriptor Table" of packed virtqueues).</summary>
/// <param name="Address">Guest-physical address of the buffer.</param>
/// <param name="LengthBytes">Its length; in a used slot, what was written.</param>
/// <param name="Id">Buffer id.</param>
/// <param name="Flags">See <see cref="RawPackedRing"/>.</param>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct PackedSlot(ulong Address, uint LengthBytes, ushort Id, ushort Flags);

/// <summary>
/// A packed virtqueue as bare words, without any rule: what <see cref="PackedDriverRing"/> is built on, and what a hostile driver plays with.
/// The one place on the driver's side that knows offsets and does acquire and release. Any thread may use it; what that means for the ring
/// is up to the caller.
/// </summary>
public sealed unsafe class RawPackedRing
{
    /// <summary>Largest queue size (VIRTIO 1.4, "Packed Virtqueues"); any size from 1 will do.</summary>
    public const int MaxQueueSize = 32768;

    /// <summary>Size, and alignment, of a slot.</summary>
    public const int SlotBytes = 16;

    /// <summary>Size, and alignment, of an event suppression structure: le16 offset and wrap counter, le16 flags.</summary>
    public const int EventBytes = 4;

    /// <summary>The chain goes on in the next slot.</summary>
    public const ushort VIRTQ_DESC_F_NEXT = 1;

    /// <summary>The device writes this buffer; in a used slot: the device has written something.</summary>
    public const ushort VIRTQ_DESC_F_WRITE = 2;

    /// <summary>The buffer holds a table of descriptors.</summary>
    public const ushort VIRTQ_DESC_F_INDIRECT = 4;

    /// <summary>Bit 7: the driver's wrap counter when it made the slot available.</summary>
    public const ushort VIRTQ_DESC_F_AVAIL = 1 << 7;

    /// <summary>Bit 15: the device's wrap counter when it used the slot; the inverse of AVAIL before.</summary>
    public const ushort VIRTQ_DESC_F_USED = 1 << 15;

    /// <summary>Both bits together.</summary>
    public const ushort AvailableAndUsed = VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED;

    /// <summary>Event flags: notifications are wanted.</summary>
    public const ushort RING_EVENT_FLAGS_ENABLE = 0;

    /// <summary>Event flags: notifications are not wanted.</summary>
    public const ushort RING_EVENT_FLAGS_DISABLE = 1;

    /// <summary>Event flags: a notification is wanted when a certain slot is passed; only with EVENT_IDX.</summary>
    public const ushort RING_EVENT_FLAGS_DESC = 2;

    private readonly byte* _slots;
    private readonly byte* _driverEvent;
    private readonly byte* _deviceEvent;

    /// <summary>Looks at a ring at the given places.</summary>
    /// <param name="queueSize">Slots: 1 to 32768.</param>
    /// <param name="addresses">Host addresses of the three areas.</param>
    public RawPackedRing(int queueSize, PackedRingPlaces addresses)
    {
        if (queueSize is < 1 or > MaxQueueSize)
        {
            throw new ArgumentOutOfRangeException(nameof(queueSize), queueSize, "The size of a packed virtqueue is 1 to 32768.");
        }

        QueueSize = queueSize;
        _slots = (byte*)addresses.DescriptorRing;
        _driverEvent = (byte*)addresses.DriverEvent;
        _deviceEvent = (byte*)addresses.DeviceEvent;
    }

    /// <summary>Slots in the ring.</summary>
    public int QueueSize { get; }

    /// <summary>The driver's event suppression, both words with one access: bits 0 to 14 offset, 15 wrap counter, 16 and 17 flags.</summary>
    public uint DriverEvent
    {
        get => Volatile.Read(ref *(uint*)_driverEvent);
        set => Volatile.Write(ref *(uint*)_driverEvent, value);
    }

    /// <summary>The device's, in the same form.</summary>
    public uint DeviceEvent
    {
        get => Volatile.Read(ref *(uint*)_deviceEvent);
        set => Volatile.Write(ref *(uint*)_deviceEvent, value);
    }

    /// <summary>An event word.</summary>
    public static uint Event(ushort flags, int offset = 0, bool wrap = false) =>
        ((uint)flags << 16) | (wrap ? 0x8000u : 0) | (uint)offset;

    /// <summary>Reads the flags of a slot. Acquires: orders them before the rest of the slot, the data and the status bytes written first.</summary>
    public ushort ReadFlags(int slot) => Volatile.Read(ref Flags(slot));

    /// <summary>Writes the flags of a slot. Releases: orders everything written before them.</summary>
    public void WriteFlags(int slot, ushort flags) => Volatile.Write(ref Flags(slot), flags);

    /// <summary>Reads a slot as it is.</summary>
    public PackedSlot ReadSlot(int slot) => Unsafe.ReadUnaligned<PackedSlot>(_slots + ((long)slot * SlotBytes));

    /// <summary>Writes a slot, address first, flags last.</summary>
    public void WriteSlot(int slot, in PackedSlot value)
    {
        WriteAllButFlags(slot, in value);
        WriteFlags(slot, value.Flags);
    }

    /// <summary>Writes a slot and leaves its flags as they are: the device does not see it yet.</summary>
    public void WriteAllButFlags(int slot, in PackedSlot value)
    {
        byte* place = _slots + ((long)slot * SlotBytes);
        Unsafe.WriteUnaligned(place, value.Address);
        Unsafe.WriteUnaligned(place + 8, value.LengthBytes);
        Unsafe.WriteUnaligned(place + 12, value.Id);
    }

    /// <summary>Writes a descriptor anywhere: an entry of an indirect table.</summary>
    public static void WriteSlot(byte* place, in PackedSlot value) => Unsafe.WriteUnaligned(place, value);

    private ref ushort Flags(int slot) => ref *(ushort*)(_slots + ((long)slot * SlotBytes) + 14);
}

/// <summary>Where a packed virtqueue's areas are in this process.</summary>
/// <param name="DescriptorRing">The slots.</param>
/// <param name="DriverEvent">The driver's event suppression.</param>
/// <param name="DeviceEvent">The device's event suppression.</param>
public readonly record struct PackedRingPlaces(nint DescriptorRing, nint DriverEvent, nint DeviceEvent);
