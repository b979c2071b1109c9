using VirtioBlkFlow.Virtio;

namespace VirtioBlkFlow.Frontend.Load.Rings;

/// <summary>How many descriptors of the ring a chain takes, and what else both formats need to know.</summary>
/// <param name="QueueSize">Entries in the ring.</param>
/// <param name="Depth">Slots.</param>
/// <param name="ChainLength">Most descriptors in a chain: header, data, status.</param>
/// <param name="Features">What was negotiated.</param>
/// <param name="TableAddress">Guest address of the indirect tables, one for each slot; 0 for chains in the ring itself.</param>
/// <param name="TableHost">Where they are in this process.</param>
internal readonly record struct LoadRingLayout(
    int QueueSize, int Depth, int ChainLength, VirtioFeatures Features, ulong TableAddress, nint TableHost)
{
    /// <summary>Whether chains are in tables.</summary>
    public bool IsIndirect => TableHost != 0;

    /// <summary>Descriptors of the ring for each slot.</summary>
    public int DescriptorsPerSlot => IsIndirect ? 1 : ChainLength;

    /// <summary>Bytes of a slot's table; whole cache lines, so that slots do not disturb one another.</summary>
    public int TableStride => ((ChainLength * 16) + 63) & ~63;

    /// <summary>Whether EVENT_IDX holds.</summary>
    public bool UsesEventIndex => (Features & VirtioFeatures.VIRTIO_RING_F_EVENT_IDX) != 0;
}
