using System.Runtime.CompilerServices;
using VirtioBlkFlow.Device.Latency;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.Device.Pipeline;

/// <summary>First stage: pops all chains the driver has made available into one batch.</summary>
public sealed class NotifyBlock : ReactorBlock<QueueKick, RequestBatch>
{
    private readonly Virtqueue _virtqueue;
    private readonly RequestTable _table;
    private readonly BatchPool _pool;
    private readonly QueueCounters _counters;
    private readonly StageTimer? _timer;

    internal NotifyBlock(
        string name, TaskScheduler scheduler, Virtqueue virtqueue, RequestTable table, BatchPool pool, QueueCounters counters, StageTimer? timer)
        : base(name, scheduler)
    {
        _virtqueue = virtqueue;
        _table = table;
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
        Span<ushort> slots = batch.Room;
        int count = 0;
        while (count < slots.Length)
        {
            PopOutcome outcome = _virtqueue.TryPeek(out ushort number);
            ref RequestSlot slot = ref _table[number];
            if (outcome == PopOutcome.Popped)
            {
                outcome = _virtqueue.TryTake(number, out slot.Chain);
            }

            if (outcome != PopOutcome.Popped)
            {
                // With nothing in flight all memory is free, so that "later" can only come after something to wait for.
                WaitsForCompletion = outcome == PopOutcome.Later;
                break;
            }

            slot.Advance(SlotState.Free, SlotState.Popped);
            slot.Batch = batch;
            slots[count++] = number;
        }

        if (count == 0)
        {
            _pool.Return(batch);
        }
        else
        {
            batch.Close(count);
            _counters.CountBatch();
            Emit(batch);
        }
    }
}
