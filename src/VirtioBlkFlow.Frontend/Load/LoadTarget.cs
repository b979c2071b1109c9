using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.VhostUser.Wire;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.Frontend.Load;

/// <summary>What a load runs against, as negotiated and cut to the options. Immutable.</summary>
public sealed record LoadTarget
{
    /// <summary>Ring features that hold.</summary>
    public required VirtioFeatures Features { get; init; }

    /// <summary>Size of the disk in sectors; 0 if the back-end does not say.</summary>
    public required ulong CapacitySectors { get; init; }

    /// <summary>Logical block size in bytes.</summary>
    public required uint LogicalBlockBytes { get; init; }

    /// <summary>Largest data segment in bytes.</summary>
    public required uint SegmentBytes { get; init; }

    /// <summary>Queues the back-end offers.</summary>
    public required int OfferedQueues { get; init; }

    /// <summary>First sector of the range.</summary>
    public required ulong FirstSector { get; init; }

    /// <summary>Sectors in the range.</summary>
    public required ulong SectorCount { get; init; }

    /// <summary>Entries of each ring.</summary>
    public required int QueueSize { get; init; }

    /// <summary>Descriptors in a chain, at most.</summary>
    public required int ChainLength { get; init; }

    /// <summary>Whether rings are packed.</summary>
    public bool IsPacked => (Features & VirtioFeatures.VIRTIO_F_RING_PACKED) != 0;

    /// <summary>Whether requests have indirect tables.</summary>
    public bool IsIndirect => (Features & VirtioFeatures.VIRTIO_RING_F_INDIRECT_DESC) != 0;

    /// <summary>Whether EVENT_IDX holds.</summary>
    public bool UsesEventIndex => (Features & VirtioFeatures.VIRTIO_RING_F_EVENT_IDX) != 0;

    /// <summary>Which features to ask for.</summary>
    internal static NegotiationOptions Wanted(LoadOptions options) => new()
    {
        Features = VirtioFeatures.VIRTIO_F_VERSION_1
            | (options.Packed ? VirtioFeatures.VIRTIO_F_RING_PACKED : 0)
            | (options.Indirect ? VirtioFeatures.VIRTIO_RING_F_INDIRECT_DESC : 0)
            | (options.EventIndex ? VirtioFeatures.VIRTIO_RING_F_EVENT_IDX : 0),
        // What a driver takes that reads and writes; the cache mode stays the back-end's.
        BlkFeatures = BlkFeatures.VIRTIO_BLK_F_SIZE_MAX | BlkFeatures.VIRTIO_BLK_F_SEG_MAX | BlkFeatures.VIRTIO_BLK_F_RO | BlkFeatures.VIRTIO_BLK_F_BLK_SIZE
            | BlkFeatures.VIRTIO_BLK_F_FLUSH | BlkFeatures.VIRTIO_BLK_F_TOPOLOGY | BlkFeatures.VIRTIO_BLK_F_CONFIG_WCE | BlkFeatures.VIRTIO_BLK_F_MQ,
        // Up to num_queues, the last field these features give a meaning to. Older back-ends know no more than 60 bytes and refuse more.
        ConfigBytes = 36,
        // Neither a log, nor requests of the back-end's own, nor a record of what is in flight: nobody would answer or read them.
        ProtocolFeatures = ProtocolFeatures.MQ | ProtocolFeatures.REPLY_ACK | ProtocolFeatures.CONFIG | ProtocolFeatures.CONFIGURE_MEM_SLOTS
            | ProtocolFeatures.STATUS,
    };

    /// <summary>Cuts the options to what the back-end is.</summary>
    /// <exception cref="LoadException">They do not fit it.</exception>
    internal static LoadTarget Of(LoadOptions options, Negotiation agreed)
    {
        ulong features = agreed.Features;
        bool Has(BlkFeatures feature) => (features & (ulong)feature) != 0;
        if (options.Packed && (agreed.RingFeatures & VirtioFeatures.VIRTIO_F_RING_PACKED) == 0)
        {
            throw new LoadException("The back-end has no packed rings: ask for split ones.");
        }

        if (options.QueueCount > agreed.QueueCount)
        {
            throw new LoadException($"The back-end has {agreed.QueueCount} queues, fewer than the {options.QueueCount} asked for: ask for fewer, or start it with more.");
        }

        if (options.Writes && Has(BlkFeatures.VIRTIO_BLK_F_RO))
        {
            throw new LoadException("The disk is read-only: ask for reads alone.");
        }

        BlkConfig config = agreed.Config;
        return Of(
            options,
            agreed.RingFeatures,
            config.Capacity,
            Has(BlkFeatures.VIRTIO_BLK_F_BLK_SIZE) && config.BlkSize != 0 ? config.BlkSize : BlkRequest.SectorBytes,
            Has(BlkFeatures.VIRTIO_BLK_F_SIZE_MAX) && config.SizeMax != 0 ? config.SizeMax : uint.MaxValue,
            Has(BlkFeatures.VIRTIO_BLK_F_SEG_MAX) && config.SegMax != 0 ? config.SegMax : uint.MaxValue,
            agreed.QueueCount);
    }

    /// <summary>The same for a back-end that is told in numbers.</summary>
    internal static LoadTarget Of(
        LoadOptions options, VirtioFeatures features, ulong capacitySectors, uint logicalBlockBytes, uint segmentBytes, uint maxSegments, int offeredQueues)
    {
        const ulong Sector = BlkRequest.SectorBytes;
        BlockSizeMix sizes = options.BlockSizes;
        if (sizes.Sizes.Any(size => size.Bytes % logicalBlockBytes != 0) || options.OffsetBytes % logicalBlockBytes != 0)
        {
            throw new LoadException($"The disk has blocks of {logicalBlockBytes} bytes: block sizes and the start of the range must be multiples of that.");
        }

        ulong first = options.OffsetBytes / Sector;
        ulong count = options.SizeBytes / Sector ?? (capacitySectors > first ? capacitySectors - first : 0);
        if (capacitySectors == 0 && options.SizeBytes is null)
        {
            throw new LoadException("The back-end does not say how large its disk is: give the size of the range to use.");
        }

        if (capacitySectors != 0 && (first >= capacitySectors || count > capacitySectors - first))
        {
            throw new LoadException($"The disk has {capacitySectors * Sector} bytes: the range of {count * Sector} bytes from {options.OffsetBytes} on is not within it.");
        }

        if (count / (ulong)options.QueueCount < sizes.LargestBytes / Sector)
        {
            throw new LoadException($"The range of {count * Sector} bytes is too small for requests of {sizes.LargestBytes} bytes on {options.QueueCount} queues.");
        }

        if (options.Verify && count > VerifiedContents.MaxSectors)
        {
            throw new LoadException(
                $"Verification keeps 4 bytes for each sector, and {VerifiedContents.MaxSectors * Sector >> 30} GiB of disk is as much as it takes: give the size of a smaller range.");
        }

        int chain = LoadSlots.ChainLengthFor(sizes.LargestBytes, segmentBytes);
        if ((uint)(chain - 2) > maxSegments)
        {
            throw new LoadException(
                $"Requests of {sizes.LargestBytes} bytes need {chain - 2} segments of {segmentBytes} bytes, and the back-end takes {maxSegments}: ask for smaller blocks.");
        }

        bool indirect = (features & VirtioFeatures.VIRTIO_RING_F_INDIRECT_DESC) != 0;
        return new LoadTarget
        {
            Features = features,
            CapacitySectors = capacitySectors,
            LogicalBlockBytes = logicalBlockBytes,
            SegmentBytes = segmentBytes,
            OfferedQueues = offeredQueues,
            FirstSector = first,
            SectorCount = count,
            QueueSize = QueueSizeFor(options, indirect ? 1 : chain),
            ChainLength = chain,
        };
    }

    // Back-ends of others take up to 1024 entries or less, so a ring is no larger than it must be.
    private static int QueueSizeFor(LoadOptions options, int descriptorsPerSlot)
    {
        const int Usual = 128;
        const int Largest = 32768;
        long needed = (long)options.QueueDepth * descriptorsPerSlot;
        if (options.QueueSize != 0 && (options.QueueSize < needed || options.QueueSize > Largest || (!options.Packed && !int.IsPow2(options.QueueSize))))
        {
            throw new LoadException(
                $"A ring of {options.QueueSize} entries does not do: it must hold {needed} descriptors, have at most {Largest}, and, if it is split, a power of two.");
        }

        if (needed > Largest)
        {
            throw new LoadException($"{options.QueueDepth} requests of {descriptorsPerSlot} descriptors do not fit a ring of {Largest}: lower the depth or the block size.");
        }

        return options.QueueSize != 0 ? options.QueueSize : (int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)Math.Max(Usual, needed));
    }
}
