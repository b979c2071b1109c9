using System.Diagnostics;
using System.Runtime.CompilerServices;
using VirtioBlkFlow.Device.Latency;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.Device.Pipeline;

/// <summary>
/// Last stage: writes status bytes and used elements, publishes a burst with one store, calls the driver at most once for it. Its
/// reports are for whoever links a target; without one they are dropped.
/// </summary>
public sealed class CompletionBlock : ReactorBlock<CompletionBurst, BurstReport>
{
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
    protected override void Process(CompletionBurst message)
    {
        // Requests of a batch mostly end one after the other: they are counted here and taken off their batch together.
        RequestBatch? batch = null;
        ulong readBytes = 0;
        long endedAt = message.EndedAt;
        int batchCompletions = 0;
        foreach (ushort number in message.Slots)
        {
            ref RequestSlot slot = ref _table[number];
            slot.Advance(SlotState.Completed, SlotState.Free);
            // The status byte before the used element, both before the index: the order the driver reads them in, backwards.
            uint writtenBytes = slot.Reply.Finish(slot.Status, slot.DataInWritten);
            _virtqueue.AddUsed(number, writtenBytes, slot.DataInTouched);
            if (QueueCounters.IsPlainRead(in slot))
            {
                readBytes += slot.DataInWritten;
            }
            else
            {
                _counters.CountOther(in slot);
            }

            if (slot.Batch != batch)
            {
                TakeOff(batch, batchCompletions, endedAt);
                batch = slot.Batch;
                batchCompletions = 0;
            }

            batchCompletions++;
        }

        TakeOff(batch, batchCompletions, endedAt);

        int completions = message.Count;
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

    private void TakeOff(RequestBatch? batch, int completions, long endedAt)
    {
        if (endedAt != 0 && batch is { Times.Weight: not 0 })
        {
            _timer!.OnReturned(batch, completions, endedAt);
        }

        if (batch != null && batch.Complete(completions))
        {
            _batches.Return(batch);
        }
    }
}
