using System.Diagnostics;
using System.Runtime.CompilerServices;
using VirtioBlkFlow.Device.Latency;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.Device.Pipeline;

/// <summary>
/// Last stage: writes status bytes and used elements, publishes a burst with one store, calls the driver at most once for it. Its
/// reports are for whoever links a target; without one they are dropped.
/// </summary>
public sealed unsafe class CompletionBlock : ReactorBlock<CompletionBurst, BurstReport>
{
    // Requests that are returned to the ring by one call. Arbitrary: enough that the call costs nothing, few enough for the stack.
    private const int UsedAtOnce = 64;

    private readonly Virtqueue _virtqueue;
    private readonly RequestTable _table;
    private readonly BatchPool _batches;
    private readonly BurstPool _bursts;
    private readonly NotifyBlock _notify;
    private readonly CallModerator? _moderator;
    private readonly QueueCounters _counters;
    private readonly StageTimer? _timer;

    internal CompletionBlock(
        string name,
        TaskScheduler scheduler,
        Virtqueue virtqueue,
        RequestTable table,
        BatchPool batches,
        BurstPool bursts,
        NotifyBlock notify,
        CallModeration? moderation,
        QueueCounters counters,
        StageTimer? timer)
        : base(name, scheduler)
    {
        _virtqueue = virtqueue;
        _table = table;
        _batches = batches;
        _bursts = bursts;
        _notify = notify;
        _moderator = moderation is { } bounds ? new CallModerator(bounds) : null;
        _counters = counters;
        _timer = timer;
    }

    /// <summary>Calls the driver; null if it polls. Owned by the queue's thread.</summary>
    internal EventDescriptor? Call { get; set; }

    /// <summary>Whether a call has waited for more completions long enough.</summary>
    internal bool CallIsDue(long now) => _moderator != null && _moderator.IsDue(now);

    /// <summary>How long a call may still wait, in nanoseconds; negative if none does.</summary>
    internal long NanosecondsToCall() => _moderator?.NanosecondsLeft() ?? -1;

    /// <summary>Makes the call that has waited long enough.</summary>
    internal void CallIfDue()
    {
        if (_moderator is { IsHolding: true } && _moderator.IsDue(Stopwatch.GetTimestamp()) && _moderator.TryRelease() && Call != null)
        {
            Call.Signal();
            _counters.CountLateCall();
        }
    }

    /// <inheritdoc/>
    protected override bool DropsWhenUnlinked => true;

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.NoInlining)]
    [SkipLocalsInit]
    protected override void Process(CompletionBurst message)
    {
        long endedAt = message.EndedAt;
        int completions = message.Count;
        ulong readBytes = 0;
        Span<ReturnedChain> used = stackalloc ReturnedChain[UsedAtOnce];
        for (ReadOnlySpan<ushort> slots = message.Slots; slots.Length > 0;)
        {
            int count = Math.Min(slots.Length, UsedAtOnce);
            readBytes += Answer(slots[..count], used, endedAt);
            _virtqueue.AddUsed(used[..count]);
            slots = slots[count..];
        }

        _bursts.Return(message);
        _notify.WaitsForCompletion = false;
        bool call = _virtqueue.PublishUsed() && Call != null;
        long publishedAt = endedAt == 0 ? 0 : _timer!.OnPublished(endedAt);
        if (_moderator != null)
        {
            call = _moderator.OnPublished(call, completions, _virtqueue.InFlightCount);
        }

        if (call)
        {
            Call?.Signal();
        }

        _counters.CountBurst(completions, readBytes, call);
        if (endedAt != 0)
        {
            _timer!.OnCalled(publishedAt, call);
        }

        Emit(new BurstReport(completions, call));
    }

    // Writes the status bytes: before the used elements, and both before the index: the order the driver reads them in, backwards.
    // Returns the bytes that plain reads have read.
    private ulong Answer(ReadOnlySpan<ushort> slots, Span<ReturnedChain> used, long endedAt)
    {
        ulong readBytes = 0;
        // Requests of a batch mostly end one after the other: they are counted here and taken off their batch together.
        RequestSlot* table = _table.Slots;
        int batchNumber = table[slots[0]].BatchNumber;
        int batchStart = 0;
        for (int i = 0; i < slots.Length; i++)
        {
            ref RequestSlot slot = ref table[slots[i]];
            slot.Advance(SlotState.Completed, SlotState.Free);
            used[i] = new ReturnedChain(slots[i], slot.Reply.Finish(slot.Status, slot.DataInWritten), slot.DataInTouched);
            if (QueueCounters.IsPlainRead(in slot))
            {
                readBytes += slot.DataInWritten;
            }
            else
            {
                _counters.CountOther(in slot);
            }

            if (slot.BatchNumber != batchNumber)
            {
                TakeOff(batchNumber, i - batchStart, endedAt);
                batchNumber = slot.BatchNumber;
                batchStart = i;
            }
        }

        TakeOff(batchNumber, slots.Length - batchStart, endedAt);
        return readBytes;
    }

    // By itself: of its work inlined twice, the loop that calls it would have no registers left.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private void TakeOff(int batchNumber, int completions, long endedAt)
    {
        RequestBatch batch = _batches[batchNumber];
        if (endedAt != 0 && batch.Times.Weight != 0)
        {
            _timer!.OnReturned(batch, completions, endedAt);
        }

        if (batch.Complete(completions))
        {
            _batches.Return(batch);
        }
    }
}
