using VirtioBlkFlow.Device.Latency;
using VirtioBlkFlow.Device.Pipeline;
using VirtioBlkFlow.Device.Reactor;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.Device;

/// <summary>Choices of a device.</summary>
public sealed record BlkDeviceOptions
{
    /// <summary>
    /// Request queues offered. QEMU asks for one per vCPU by default and refuses a back-end with fewer; a queue costs nothing before it is
    /// started.
    /// </summary>
    public const int DefaultQueueCount = 16;

    /// <summary>Most queues: the ring number on the wire has 8 bits (vhost-user, SET_VRING_KICK).</summary>
    public const int MaxQueueCount = 256;

    /// <summary>Batches in flight for each queue.</summary>
    public const int DefaultParallelism = 8;

    /// <summary>Most batches in flight. Arbitrary; a batch of requests is more than one request.</summary>
    public const int MaxParallelism = 1024;

    /// <summary>
    /// Data segments in a request. Linux and QEMU agree on 128 descriptors for the default queue, less header and status.
    /// </summary>
    public const uint DefaultSegMax = 126;

    /// <summary>Most data segments in a request: with header and status, what one readv(2) takes (UIO_MAXIOV).</summary>
    public const uint MaxSegMax = 1022;

    /// <summary>Smallest size_max in bytes: Linux takes no segment that is smaller than a page.</summary>
    public const uint MinSizeMax = 4096;

    /// <summary>
    /// Sectors and segments of a DISCARD, WRITE_ZEROES or SECURE_ERASE. 1 GiB in a segment is arbitrary; what one fallocate(2) does in a
    /// moment, aligned to any block size. 32 segments are arbitrary too: each costs 24 bytes for each request there can be.
    /// </summary>
    public static readonly SegmentLimits DefaultSegments = new(MaxSectors: 1 << 21, MaxSegments: 32);

    /// <summary>Request queues offered, 1 to <see cref="MaxQueueCount"/>.</summary>
    public int QueueCount { get; init; } = DefaultQueueCount;

    /// <summary>Batches in flight for each queue, 1 to <see cref="MaxParallelism"/>.</summary>
    public int Parallelism { get; init; } = DefaultParallelism;

    /// <summary>Whether reads or writes of a batch that lie one behind the other on the disk are done by one operation.</summary>
    public bool JoinAdjacent { get; init; } = true;

    /// <summary>How long calls to the driver may wait for more completions; null for not at all.</summary>
    public CallModeration? CallModeration { get; init; }

    /// <summary>
    /// Whether guest memory is pinned and registered with the engine: less CPU for each transfer, but all of the guest's memory is resident,
    /// and a guest whose pages are given back meanwhile (balloon, free page reporting, virtio-mem, postcopy) gets wrong data.
    /// </summary>
    public bool RegisterMemory { get; init; }

    /// <summary>Who serves the queues, together with those of other devices; stays the caller's. Null: each queue gets a reactor of its own.</summary>
    public ReactorPool? Reactors { get; init; }

    /// <summary>
    /// Processors for the queues' own reactors, one after the other and again from the start; empty for any. A pool has its own.
    /// </summary>
    public IReadOnlyList<int> Processors { get; init; } = [];

    /// <summary>When writes are durable.</summary>
    public CacheMode Cache { get; init; } = CacheMode.Writethrough;

    /// <summary>What GET_ID answers, ASCII; cut after 20 characters.</summary>
    public string Serial { get; init; } = "";

    /// <summary>Who does the I/O.</summary>
    public IoEngineKind Engine { get; init; } = IoEngineKind.IoUring;

    /// <summary>What a queue does before it sleeps.</summary>
    public PollMode Polling { get; init; } = PollMode.Adaptive;

    /// <summary>Data segments in a request, 1 to <see cref="MaxSegMax"/>.</summary>
    public uint SegMax { get; init; } = DefaultSegMax;

    /// <summary>
    /// Bytes in a segment, at least <see cref="MinSizeMax"/>; null to offer no limit. A wish to the driver: one that exceeds it is served.
    /// </summary>
    public uint? SizeMax { get; init; }

    /// <summary>Limits of DISCARD, where the disk can do it.</summary>
    public SegmentLimits Discard { get; init; } = DefaultSegments;

    /// <summary>Limits of WRITE_ZEROES, where the disk can do it.</summary>
    public SegmentLimits WriteZeroes { get; init; } = DefaultSegments;

    /// <summary>Limits of SECURE_ERASE, where the disk can do it.</summary>
    public SegmentLimits SecureErase { get; init; } = DefaultSegments;

    /// <summary>Features switched on or off.</summary>
    public FeatureChoices Features { get; init; }

    /// <summary>
    /// Whether what is against the specification is logged, and requests that are served are checked for it too, in a stage of its own; an
    /// <see cref="Assembly"/> that is not one of ours has to link that. What is refused or breaks a queue is counted in any case.
    /// </summary>
    public bool Lint { get; init; }

    /// <summary>How much is measured of where requests spend their time.</summary>
    public StageLatency StageLatency { get; init; } = StageLatency.Sampled;

    /// <summary>Links the stages of each queue.</summary>
    public PipelineAssembly Assembly { get; init; } = PipelineAssemblies.Direct;
}
