namespace VirtioBlkFlow.Virtio.Ring;

/// <summary>What is wrong with a chain that is nevertheless whole enough to be answered with a status byte.</summary>
[Flags]
public enum ChainFaults : byte
{
    /// <summary>Nothing.</summary>
    None = 0,

    /// <summary>A buffer lies, in part or whole, outside guest memory, or straddles more regions than can be listed.</summary>
    Unmapped = 1,

    /// <summary>A device-readable descriptor follows a device-writable one (VIRTIO 1.4, "Message Framing").</summary>
    ReadableAfterWritable = 2,

    /// <summary>The buffers sum up to more than 2^32 − 1 bytes (VIRTIO 1.4, "The Virtqueue Descriptor Table").</summary>
    TooLong = 4,
}

/// <summary>
/// A chain popped from a virtqueue: copied, translated, checked. Its pieces stand in one list, device-readable first,
/// device-writable after; guest memory is not read again for it.
/// </summary>
public unsafe struct DescriptorChain
{
    /// <summary>The pieces; owned by the <see cref="IovecArena"/> until the slot is released there.</summary>
    public Iovec* Pieces;

    /// <summary>How many pieces the device may read.</summary>
    public int ReadableCount;

    /// <summary>How many pieces, after the readable ones, the device may write.</summary>
    public int WritableCount;

    /// <summary>Sum of the readable descriptors in bytes.</summary>
    public uint ReadableBytes;

    /// <summary>Sum of the writable descriptors in bytes.</summary>
    public uint WritableBytes;

    /// <summary>The queue's number for the chain while it is in flight; see <see cref="Virtqueue"/>.</summary>
    public ushort Slot;

    /// <summary>
    /// Descriptors it was made of, those of length 0 as well; at most <see cref="Virtqueue.MaxChainLength"/>. There may be more pieces, where
    /// a buffer straddles regions.
    /// </summary>
    public ushort DescriptorCount;

    /// <summary>What is wrong with it, if anything.</summary>
    public ChainFaults Faults;

    /// <summary>Whether the very last writable descriptor, the one with the status byte, could be translated.</summary>
    public bool LastWritableIsMapped;

    /// <summary>The pieces the device may write.</summary>
    public readonly Iovec* Writable => Pieces + ReadableCount;
}
