namespace VirtioBlkFlow.Virtio.Ring;

/// <summary>
/// Why a virtqueue cannot be served any further. The driver broke a rule in a way that leaves no status byte to answer with;
/// the queue stops until it is set up anew.
/// </summary>
public enum RingDefect
{
    /// <summary>None: the ring is sound.</summary>
    None,

    /// <summary>avail.idx is more than the queue size ahead (VIRTIO 1.4, "The Virtqueue Available Ring").</summary>
    AvailableIndexJumped,

    /// <summary>A head index is not below the queue size.</summary>
    HeadOutOfRange,

    /// <summary>A head was made available again before it was used.</summary>
    HeadInFlight,

    /// <summary>Packed: a descriptor was made available again before the chain it belongs to was used.</summary>
    DescriptorInFlight,

    /// <summary>A next index is not below the size of its table.</summary>
    NextOutOfRange,

    /// <summary>A chain has more links than its table, or in a packed ring the ring, has entries.</summary>
    ChainLoops,

    /// <summary>A chain has more than <see cref="Virtqueue.MaxChainLength"/> descriptors.</summary>
    ChainTooLong,

    /// <summary>INDIRECT without VIRTIO_RING_F_INDIRECT_DESC (VIRTIO 1.4, "Indirect Descriptors").</summary>
    IndirectNotNegotiated,

    /// <summary>INDIRECT and NEXT in one descriptor; packed: in one list.</summary>
    IndirectWithNext,

    /// <summary>INDIRECT inside an indirect table.</summary>
    IndirectNested,

    /// <summary>The size of an indirect table is 0 or not a multiple of 16 bytes.</summary>
    IndirectTableSize,

    /// <summary>An entry of an indirect table lies outside guest memory.</summary>
    IndirectTableUnmapped,
}
