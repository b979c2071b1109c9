namespace VirtioBlkFlow.Frontend.Ring;

/// <summary>Which buffer ids a driver of a packed ring writes: they mean nothing to the device but must come back.</summary>
public enum BufferIds
{
    /// <summary>0, 1, 2 and so on, the last one freed first: what Linux does.</summary>
    Ascending,

    /// <summary>The same ones in an order that depends on the seed.</summary>
    Permuted,

    /// <summary>Any different numbers of 16 bits: more than the ring has entries. A device must not index a table with them unchecked.</summary>
    Arbitrary,
}

/// <summary>What a driver does with its ring of its own will; what was negotiated is told apart.</summary>
public sealed record DriverRingOptions
{
    /// <summary>Entries of the indirect table each chain gets, if INDIRECT_DESC is negotiated; 0 for none.</summary>
    public int IndirectEntries { get; init; }

    /// <summary>Split: where both indices start. 0 for a fresh ring, other values to test the wrap.</summary>
    public ushort StartIndex { get; init; }

    /// <summary>Packed: the descriptor both sides start at, below the queue size.</summary>
    public int StartOffset { get; init; }

    /// <summary>Packed: both wrap counters at the start; true in a fresh ring.</summary>
    public bool StartWrap { get; init; } = true;

    /// <summary>Packed: which ids to use.</summary>
    public BufferIds BufferIds { get; init; }

    /// <summary>Decides which, if they are not ascending.</summary>
    public int Seed { get; init; }

    /// <summary>
    /// With IN_ORDER: whether one used element may stand for several chains (VIRTIO 1.4, "In-order use of descriptors"). If not, it is an
    /// error, as with a device that is known not to do it.
    /// </summary>
    public bool AcceptInOrderBatches { get; init; } = true;
}
