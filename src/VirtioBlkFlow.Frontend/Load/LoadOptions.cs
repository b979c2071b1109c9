using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.Frontend.Load;

/// <summary>When the requests of an open loop are due.</summary>
public enum Arrivals
{
    /// <summary>One after the other at equal distances.</summary>
    Even,

    /// <summary>At random distances, exponentially distributed around the mean: independent clients.</summary>
    Poisson,
}

/// <summary>What load to put on a back-end. Immutable; <see cref="Validate"/> says what makes no sense.</summary>
public sealed record LoadOptions
{
    /// <summary>Most requests in flight on one queue: what one ring of 32768 descriptors holds in chains of three, rounded down. Arbitrary.</summary>
    public const int MaxQueueDepth = 8192;

    /// <summary>Most queues: what a vhost-user message can number is more, what a machine has threads for is less. Arbitrary.</summary>
    public const int MaxQueueCount = 64;

    /// <summary>Whether each request starts where the last one ended, queue by queue, instead of anywhere.</summary>
    public bool Sequential { get; init; }

    /// <summary>How many requests of a hundred are reads.</summary>
    public int ReadPercent { get; init; } = 100;

    /// <summary>Sizes of the requests.</summary>
    public BlockSizeMix BlockSizes { get; init; } = BlockSizeMix.Of(4096);

    /// <summary>Requests in flight on each queue; in an open loop, the most.</summary>
    public int QueueDepth { get; init; } = 1;

    /// <summary>Queues, a thread for each.</summary>
    public int QueueCount { get; init; } = 1;

    /// <summary>Entries of each ring; 0 for 128, or more where the depth needs more.</summary>
    public int QueueSize { get; init; }

    /// <summary>Packed rings instead of split ones.</summary>
    public bool Packed { get; init; }

    /// <summary>Whether to give each request an indirect table where the back-end takes them, as Linux does.</summary>
    public bool Indirect { get; init; } = true;

    /// <summary>Whether to take EVENT_IDX where the back-end has it.</summary>
    public bool EventIndex { get; init; } = true;

    /// <summary>Sleep on the call descriptor, or look at the ring without end.</summary>
    public CompletionWait Wait { get; init; } = CompletionWait.Poll;

    /// <summary>Requests per second on all queues together, whether the back-end keeps up or not (open loop); 0 for as many as it takes (closed loop).</summary>
    public double RatePerSecond { get; init; }

    /// <summary>When requests are due in an open loop.</summary>
    public Arrivals Arrivals { get; init; }

    /// <summary>How long requests run that are not counted.</summary>
    public TimeSpan WarmUp { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>How long counted requests are begun. Null: no limit but <see cref="RequestCount"/>.</summary>
    public TimeSpan? Duration { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>How many requests are counted, on all queues together. Null: no limit but <see cref="Duration"/>.</summary>
    public long? RequestCount { get; init; }

    /// <summary>First byte of the disk that is used.</summary>
    public ulong OffsetBytes { get; init; }

    /// <summary>Bytes of the disk that are used. Null: all that follow.</summary>
    public ulong? SizeBytes { get; init; }

    /// <summary>Whether writes carry, and reads check, contents that say which sector of which run they are.</summary>
    public bool Verify { get; init; }

    /// <summary>Decides about places, sizes, kinds, arrivals and contents.</summary>
    public ulong Seed { get; init; } = 1;

    /// <summary>Whether writes are allowed at all: they destroy what is on the disk.</summary>
    public bool AllowWrites { get; init; }

    /// <summary>How long not a single request may come back before the back-end counts as stuck.</summary>
    public TimeSpan StallTimeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>Whether any request writes.</summary>
    public bool Writes => ReadPercent < 100;

    /// <summary>Says what makes no sense whatever the back-end.</summary>
    /// <exception cref="LoadException">One of the options, or two together.</exception>
    public void Validate()
    {
        Require(ReadPercent is >= 0 and <= 100, "The share of reads is 0 to 100 percent.");
        Require(QueueDepth is >= 1 and <= MaxQueueDepth, $"The queue depth is 1 to {MaxQueueDepth}.");
        Require(QueueCount is >= 1 and <= MaxQueueCount, $"The number of queues is 1 to {MaxQueueCount}.");
        Require(RatePerSecond >= 0 && double.IsFinite(RatePerSecond), "The rate is a number of requests per second above 0.");
        Require(Duration is not null || RequestCount is not null, "The run needs an end: a time or a number of requests.");
        Require(RequestCount is not < 1, "The number of requests is 1 or more.");
        Require(Duration is null || Duration > TimeSpan.Zero, "The time is above 0.");
        Require(WarmUp >= TimeSpan.Zero, "The warm-up is 0 or more.");
        Require(!Writes || AllowWrites, "This load writes, which destroys what is on the disk: say that this is allowed.");
        Require(
            OffsetBytes % BlkRequest.SectorBytes == 0 && SizeBytes.GetValueOrDefault() % BlkRequest.SectorBytes == 0,
            "Where the range starts and how long it is are multiples of 512 bytes.");
    }

    private static void Require(bool condition, string complaint)
    {
        if (!condition)
        {
            throw new LoadException(complaint);
        }
    }
}

/// <summary>The load cannot be put on this back-end, or had to end early; the message says why, and what to do where something can be done.</summary>
public sealed class LoadException : Exception
{
    /// <summary>A complaint of our own.</summary>
    public LoadException(string message)
        : base(message)
    {
    }

    /// <summary>One with a cause.</summary>
    public LoadException(string message, Exception cause)
        : base(message, cause)
    {
    }
}
