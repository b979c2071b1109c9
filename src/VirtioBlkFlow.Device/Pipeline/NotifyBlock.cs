using System.Runtime.CompilerServices;
using VirtioBlkFlow.Device.Latency;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.Device.Pipeline;

/// <summary>First stage: pops all chains the driver has made available into one batch.</summary>
public sealed unsafe class NotifyBlock : ReactorBlock<QueueKick, RequestBatch>
{
    private readonly Virtqueue _virtqueue;
    private readonly BatchPool _pool;
    private readonly QueueCounters _counters;
    private readonly StageTimer? _timer;

    internal NotifyBlock(
        string name, TaskScheduler scheduler, Virtqueue virtqueue, BatchPool pool, QueueCounters counters, StageTimer? timer)
        : base(name, scheduler)
    {
        _virtqueue = virtqueue;
        _pool = pool;
        _counters = counters;
        _timer = timer;
    }

    /// <summary>Whether chains are popped; cleared to drain.</summary>
    internal bool IsFetching { get; set; } = true;

    /// <summary>Whether a chain waits for a completion to free memory for its pieces.</summary>
    internal bool WaitsForCompletion { get; set; }

    /// <summary>Whether a kick is on its way here, so that another one would find nothing more.</summary>
    internal bool KickIsPending { get; set; }

    /// <summary>Whether a look at the ring could take something now.</summary>
    internal bool CanFetch =>
        IsFetching && !WaitsForCompletion && !KickIsPending && _pool.HasFree && _virtqueue.Defect == RingDefect.None;

    /// <summary>Whether what is available has to wait until something completes.</summary>
    internal bool LacksSlot => IsFetching && (WaitsForCompletion || !_pool.HasFree);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.NoInlining)]
    protected override void Process(QueueKick message)
    {
        KickIsPending = false;
        if (!CanFetch)
        {
            return;
        }

        RequestBatch batch = _pool.Rent();
        _timer?.OnPop(batch);
        // With nothing in flight all memory is free, so that "later" can only come after something to wait for.
        WaitsForCompletion = _virtqueue.Pop(batch.Room, batch.Chains, out int count) == PopOutcome.Later;
        if (count == 0)
        {
            _pool.Return(batch);
            return;
        }

        batch.Close(count);
        _counters.CountBatch();
        Emit(batch);
    }
}
