using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.Health;
using VirtioBlkFlow.Disks.Zoned;

namespace VirtioBlkFlow.Disks;

/// <summary>What a disk is like. While it is open only the capacity changes, and only by <see cref="IDisk.Refresh"/>.</summary>
public sealed record DiskProperties
{
    /// <summary>Size in bytes; a multiple of <see cref="LogicalBlockBytes"/>.</summary>
    public required ulong CapacityBytes { get; init; }

    /// <summary>Smallest transfer in bytes: a power of two, at least 512. Offsets and lengths are multiples of it.</summary>
    public uint LogicalBlockBytes { get; init; } = 512;

    /// <summary>Transfer in bytes below which the disk reads, modifies and writes by itself; a power of two.</summary>
    public uint PhysicalBlockBytes { get; init; } = 512;

    /// <summary>Whether every write, discard and zeroing is refused.</summary>
    public bool ReadOnly { get; init; }

    /// <summary>Whether <see cref="DiskOperation.Discard"/> is understood.</summary>
    public bool CanDiscard { get; init; }

    /// <summary>
    /// Size in bytes and alignment of what a discard can give back, a multiple of 512; 0 for that of the physical block. A wish: smaller ones
    /// are understood.
    /// </summary>
    public uint DiscardGranularityBytes { get; init; }

    /// <summary>Whether <see cref="DiskOperation.WriteZeroes"/> is understood.</summary>
    public bool CanWriteZeroes { get; init; }

    /// <summary>Whether <see cref="DiskOperation.SecureErase"/> is understood.</summary>
    public bool CanSecureErase { get; init; }

    /// <summary>Whether <see cref="IDisk.Lifetime"/> has anything to say.</summary>
    public bool HasLifetime { get; init; }

    /// <summary>Its zones, with nothing left to defaults; null if it has none.</summary>
    public ZoneGeometry? Zones { get; init; }
}

/// <summary>What <see cref="IDisk.Refresh"/> found, in bytes.</summary>
/// <param name="OldBytes">Capacity before.</param>
/// <param name="NewBytes">Capacity from now on.</param>
/// <param name="UnusedBytes">What is behind it, less than a logical block.</param>
public readonly record struct DiskResize(ulong OldBytes, ulong NewBytes, ulong UnusedBytes);

/// <summary>
/// What stores the sectors. A disk is opened once and shared by all queues of a device; each queue works through an
/// <see cref="IDiskQueue"/> of its own, on its own thread. It is disposed after its queues; twice does no harm.
/// </summary>
public interface IDisk : IDisposable
{
    /// <summary>What the disk is like. From any thread; after a <see cref="Refresh"/> it is another one.</summary>
    DiskProperties Properties { get; }

    /// <summary>How worn it is, as far as was found out lately; null if it does not know. From any thread; never blocks.</summary>
    DiskLifetime? Lifetime => null;

    /// <summary>Watches how it fares; null if nothing tells that. From any thread. Belongs to the disk.</summary>
    HealthMonitor? Health => null;

    /// <summary>
    /// The disk has noticed by itself that it may have another size: <see cref="Refresh"/> would find it. Raised on a thread of the pool,
    /// which may be held up; never for a disk that has to be told.
    /// </summary>
    event Action? SizeChanged
    {
        add { }
        remove { }
    }

    /// <summary>
    /// Looks whether the disk has another size now. When this has returned, no transfer beyond the new end starts any more; one that is in
    /// flight may still reach the storage, and its request fails. On the control path, one call at a time.
    /// </summary>
    DiskResize Refresh() => new(Properties.CapacityBytes, Properties.CapacityBytes, 0);

    /// <summary>
    /// Opens a way to the disk for one queue. Called on the thread that owns <paramref name="engine"/>.
    /// </summary>
    /// <param name="engine">Does the queue's I/O.</param>
    /// <param name="completions">Hears of each request's end.</param>
    /// <param name="slotCount">Slots are numbered from 0 below this.</param>
    IDiskQueue OpenQueue(IIoEngine engine, IDiskCompletions completions, int slotCount);

    /// <summary>
    /// Makes all completed writes durable, and waits for it. For rare moments on the control path; requests use
    /// <see cref="DiskOperation.Flush"/>.
    /// </summary>
    DiskOutcome Flush();
}

/// <summary>
/// One queue's way to a disk. Owned by the queue's thread, which makes every call. It is disposed when nothing is in flight; twice does no
/// harm.
/// </summary>
public interface IDiskQueue : IDisposable
{
    /// <summary>
    /// Starts a request. Never blocks. Its completion may come before this returns, for disks that need no I/O.
    /// </summary>
    /// <param name="slot">Free until now; busy until its completion.</param>
    /// <param name="request">What to do; copied. Pieces and ranges stay valid until the completion, and belong to the disk meanwhile.</param>
    void Submit(int slot, in DiskRequest request);

    /// <summary>An operation that this queue gave to the engine has ended.</summary>
    /// <param name="slot">The token it was given: its slot.</param>
    /// <param name="result">Bytes moved or 0, or a negated errno.</param>
    void OnIoCompleted(int slot, int result);

    /// <summary>
    /// The queue drains, and waits: what this disk holds back on purpose (a limit, an error policy, an injected fault) must not keep it
    /// waiting. Such requests go on now, or fail if they would never end. Called again after each turn until nothing is in flight.
    /// </summary>
    /// <returns>Whether there were any.</returns>
    bool EndHeld() => false;
}

/// <summary>Hears of the end of requests, on the queue's thread; exactly once for each.</summary>
public interface IDiskCompletions
{
    /// <summary>A request has ended; its slot is free.</summary>
    void OnCompleted(int slot, DiskOutcome outcome);

    /// <summary>Before the completion of an <see cref="DiskOperation.Append"/> that succeeded: where the data is.</summary>
    void OnAppended(int slot, ulong offsetBytes) => throw new NotSupportedException("Only who appends hears where to.");
}

/// <summary>How a request ended.</summary>
public enum DiskOutcome
{
    /// <summary>All of it was done.</summary>
    Done,

    /// <summary>It failed; data of a failed read or write is undefined.</summary>
    Failed,

    /// <summary>It failed because what stores the sectors is full.</summary>
    NoSpace,

    /// <summary>The disk does not do this.</summary>
    Unsupported,

    /// <summary>The zone is in no state for this, or the request does not fit it.</summary>
    ZoneInvalidCommand,

    /// <summary>A write that is not at the write pointer, or no multiple of the write granularity.</summary>
    ZoneUnalignedWrite,

    /// <summary>As many zones as can be are open.</summary>
    ZoneOpenResource,

    /// <summary>As many zones as can be are active.</summary>
    ZoneActiveResource,
}
