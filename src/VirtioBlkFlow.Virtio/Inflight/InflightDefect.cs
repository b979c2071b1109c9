namespace VirtioBlkFlow.Virtio.Inflight;

/// <summary>
/// Why a record of requests in flight cannot be used. The front-end's memory does not hold what a back-end of ours wrote; to start afresh
/// would lose requests, so the queue is refused.
/// </summary>
public enum InflightDefect
{
    /// <summary>None: the record is usable.</summary>
    None,

    /// <summary>The memory is shorter than a record of this queue.</summary>
    TooShort,

    /// <summary>The memory does not start at a multiple of <see cref="InflightLayout.Alignment"/>.</summary>
    Misaligned,

    /// <summary>The version is neither 0 nor <see cref="InflightLayout.Version"/>.</summary>
    UnknownVersion,

    /// <summary>The record was made for another queue size (<c>desc_num</c>).</summary>
    OtherQueueSize,

    /// <summary>An <c>inflight</c> byte is neither 0 nor 1, or a wrap counter is not.</summary>
    NotAFlag,

    /// <summary>Two requests in flight have one counter, or the counter stands at its end: their order is not known.</summary>
    CounterUnusable,

    /// <summary>Split: the ring's used index is further ahead of the record's than a batch can be long.</summary>
    BatchTooLong,

    /// <summary>Split: the list of the last batch leads to a head outside the queue.</summary>
    BatchHeadOutOfRange,

    /// <summary>Split: the list of the last batch leads to one head twice.</summary>
    BatchLoops,

    /// <summary>Packed: a used offset lies outside the ring.</summary>
    UsedOffsetOutOfRange,

    /// <summary>Packed: the free list leads outside the record.</summary>
    FreeListOutOfRange,

    /// <summary>Packed: the free list leads to one entry twice.</summary>
    FreeListLoops,

    /// <summary>Packed: a chain has no entry, or more than the queue.</summary>
    ChainLength,

    /// <summary>Packed: a chain leads outside the record.</summary>
    ChainOutOfRange,

    /// <summary>Packed: an entry belongs to two chains, to one twice, or to a chain and the free list.</summary>
    EntryTwice,

    /// <summary>Packed: a chain does not end at the entry its first one names.</summary>
    ChainEndsElsewhere,

    /// <summary>Packed: an entry is neither free nor part of a chain in flight.</summary>
    EntryLost,
}
