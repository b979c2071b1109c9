namespace VirtioBlkFlow.Virtio.Ring;

/// <summary>
/// One entry of a split virtqueue's descriptor table: <c>struct virtq_desc</c>, 16 bytes, little-endian (VIRTIO 1.4,
/// "The Virtqueue Descriptor Table"; <c>linux/virtio_ring.h</c>).
/// </summary>
[StructLayout(LayoutKind.Sequential)]
public struct Descriptor
{
    /// <summary>Guest-physical address of the buffer.</summary>
    public ulong Address;

    /// <summary>Length of the buffer in bytes.</summary>
    public uint LengthBytes;

    /// <summary>See <see cref="DescriptorFlags"/>.</summary>
    public DescriptorFlags Flags;

    /// <summary>Index of the next descriptor, if <see cref="DescriptorFlags.VIRTQ_DESC_F_NEXT"/> is set.</summary>
    public ushort Next;
}

/// <summary>Flags of a descriptor (VIRTIO 1.4, "The Virtqueue Descriptor Table").</summary>
[Flags]
public enum DescriptorFlags : ushort
{
    /// <summary>Device-readable, last of its chain.</summary>
    None = 0,

    /// <summary>The chain goes on at <see cref="Descriptor.Next"/>.</summary>
    VIRTQ_DESC_F_NEXT = 1,

    /// <summary>The device writes this buffer; without it, it reads it.</summary>
    VIRTQ_DESC_F_WRITE = 2,

    /// <summary>The buffer holds a table of descriptors.</summary>
    VIRTQ_DESC_F_INDIRECT = 4,
}
