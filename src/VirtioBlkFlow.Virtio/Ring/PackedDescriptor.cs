namespace VirtioBlkFlow.Virtio.Ring;

/// <summary>
/// One entry of a packed virtqueue's descriptor ring: <c>struct pvirtq_desc</c>, 16 bytes, little-endian (VIRTIO 1.4, "Packed
/// Virtqueues", "The Virtqueue Descriptor Table"; <c>struct vring_packed_desc</c> of <c>linux/virtio_ring.h</c>). Id and flags stand
/// the other way round than flags and next in a split ring.
/// </summary>
[StructLayout(LayoutKind.Sequential)]
public struct PackedDescriptor
{
    /// <summary>Guest-physical address of the buffer.</summary>
    public ulong Address;

    /// <summary>Length of the buffer in bytes; in a used descriptor the bytes written.</summary>
    public uint LengthBytes;

    /// <summary>The driver's number for the whole list; counts in the last descriptor of a list and in a used descriptor.</summary>
    public ushort Id;

    /// <summary><see cref="DescriptorFlags"/>, <see cref="PackedRingLayout.VIRTQ_DESC_F_AVAIL"/>, <see cref="PackedRingLayout.VIRTQ_DESC_F_USED"/>.</summary>
    public ushort Flags;
}
