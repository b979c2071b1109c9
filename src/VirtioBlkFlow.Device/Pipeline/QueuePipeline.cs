using VirtioBlkFlow.Device.Latency;
using VirtioBlkFlow.Device.Lint;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.Device.Pipeline;

/// <summary>What a pipeline needs to know of its device.</summary>
/// <param name="Disk">Where the sectors are.</param>
/// <param name="Limits">What requests are checked against.</param>
/// <param name="Id">Answer to GET_ID; longer than 20 bytes is cut.</param>
/// <param name="WriteCache">Whether writes are durable at once.</param>
/// <param name="Parallelism">Batches in flight at once.</param>
/// <param name="JoinsAdjacent">Whether adjacent reads or writes of a batch become one.</param>
/// <param name="CallModeration">How long calls may wait; null for not at all.</param>
/// <param name="RegistersMemory">Whether guest memory is registered with the engine.</param>
/// <param name="Assembly">Links the stages.</param>
/// <param name="Lint">Notices what is against the specification.</param>
/// <param name="Meter">Counts and times.</param>
internal sealed record PipelineContext(
    IDisk Disk,
    ServedLimits Limits,
    ReadOnlyMemory<byte> Id,
    WriteCache WriteCache,
    int Parallelism,
    bool JoinsAdjacent,
    CallModeration? CallModeration,
    bool RegistersMemory,
    PipelineAssembly Assembly,
    DeviceLint Lint,
    DeviceMeter Meter);

/// <summary>
/// One run of a queue, from its start to its stop: the virtqueue, the slots, the four blocks. Owned by the queue's thread, which drives it
/// turn by turn: <see cref="Fetch"/>, then the disk's I/O, then <see cref="EmitCompletions"/>.
/// </summary>
internal sealed class QueuePipeline : IDisposable
{
    // Fixed at construction.
    private readonly Virtqueue _virtqueue;
    private readonly RequestTable _table;
    private readonly BatchPool _batches;
    private readonly IDiskQueue _disk;
    private readonly NotifyBlock _notify;
    private readonly LintBlock? _lint;
    private readonly ParseBlock _parse;
    private readonly IoBlock _io;
    private readonly CompletionBlock _completion;
    private readonly ITargetBlock<QueueKick> _entry;
    private readonly IDirectTarget<QueueKick>? _directEntry;
    private readonly StageTimer? _timer;

    // Owned by the queue's thread.
    private long _turn;

    public QueuePipeline(int queueIndex, Virtqueue virtqueue, VirtioFeatures features, IIoEngine engine, TaskScheduler scheduler, PipelineContext context)
    {
        _virtqueue = virtqueue;
        _table = new RequestTable(virtqueue.QueueSize, context.Limits.MaxSegments);
        QueueMeter meter = context.Meter.Of(queueIndex);
        _batches = new BatchPool(context.Parallelism, virtqueue.QueueSize);
        _timer = meter.BeginRun(_table, _batches);
        Counters = meter.Counters;
        var bursts = new BurstPool(virtqueue.QueueSize);
        _notify = new NotifyBlock($"notify[{queueIndex}]", scheduler, virtqueue, _batches, Counters, _timer);
        Lint = new QueueLint(context.Lint, queueIndex, features);
        _lint = context.Lint.ChecksRequests ? new LintBlock($"lint[{queueIndex}]", scheduler, virtqueue, Lint) : null;
        _parse = new ParseBlock($"parse[{queueIndex}]", scheduler, context.Disk, _table, context.Limits, context.WriteCache, context.Id.Span, Lint);
        _io = new IoBlock($"io[{queueIndex}]", scheduler, _table, _batches, bursts, context.JoinsAdjacent, _timer);
        _completion = new CompletionBlock(
            $"completion[{queueIndex}]", scheduler, virtqueue, _table, _batches, bursts, _notify, context.CallModeration, Counters, _timer);
        _disk = context.Disk.OpenQueue(engine, _io, virtqueue.QueueSize);
        _io.Use(_disk);
        _entry = context.Assembly(new PipelineStages(queueIndex, _notify, _parse, _io, _completion, scheduler) { Lint = _lint });
        _directEntry = _entry as IDirectTarget<QueueKick>;
    }

    /// <summary>Where the disk's I/O ends are reported.</summary>
    public IDiskQueue Disk => _disk;

    /// <summary>Notices what the driver does against the specification.</summary>
    public QueueLint Lint { get; }

    /// <summary>Counts what the queue does.</summary>
    public QueueCounters Counters { get; }

    /// <summary>The ring.</summary>
    public Virtqueue Virtqueue => _virtqueue;

    /// <summary>Whether the driver has made something available that could be taken now. Cheap enough to spin on.</summary>
    public bool CanFetch => _notify.CanFetch && _virtqueue.HasAvailable;

    /// <summary>Whether a kick is of use: not while requests stay in the ring on purpose, for a completion comes first then.</summary>
    public bool WantsKicks => _notify.CanFetch;

    /// <summary>Why a stage failed, if one did.</summary>
    public Exception? FaultReason => _notify.FaultReason ?? _lint?.FaultReason ?? _parse.FaultReason ?? _io.FaultReason ?? _completion.FaultReason;

    /// <summary>Whether nothing is in flight. After a fault only what the disk holds counts: the rest cannot reach the ring any more.</summary>
    public bool IsDrained => FaultReason != null ? _io.SubmittedCount == 0 : _virtqueue.InFlightCount == 0;

    /// <summary>Calls the driver; null if it polls.</summary>
    public EventDescriptor? Call
    {
        get => _completion.Call;
        set => _completion.Call = value;
    }

    /// <summary>Whether chains are popped.</summary>
    public bool IsFetching
    {
        get => _notify.IsFetching;
        set => _notify.IsFetching = value;
    }

    /// <summary>Takes what the driver has made available and starts it.</summary>
    /// <returns>Whether there was anything.</returns>
    public bool Fetch()
    {
        if (!CanFetch)
        {
            if (_timer != null && _notify.LacksSlot)
            {
                _timer.OnSlotsTaken(_virtqueue);
            }

            return false;
        }

        _notify.KickIsPending = true;
        var kick = new QueueKick(++_turn);
        if (_directEntry != null)
        {
            _directEntry.Receive(kick);
        }
        else if (!_entry.Post(kick))
        {
            // Full or complete: what the driver has made available is still there at the next turn.
            _notify.KickIsPending = false;
        }

        return true;
    }

    /// <summary>The thread has spun and has something to do again.</summary>
    /// <param name="lookedAt">When it had last found nothing, as a timestamp.</param>
    public void OnSpinEnded(long lookedAt) => _timer?.OnSpinEnded(lookedAt);

    /// <summary>The thread has slept and is awake again.</summary>
    public void OnSleepEnded() => _timer?.OnSleepEnded();

    /// <summary>Returns what has ended since the last time to the driver.</summary>
    /// <returns>Whether anything had.</returns>
    public bool EmitCompletions()
    {
        bool emitted = _io.EmitBurst();
        _completion.CallIfDue();
        return emitted;
    }

    /// <summary>Whether a call has waited for more completions long enough. Cheap enough to spin on.</summary>
    public bool CallIsDue(long now) => _completion.CallIsDue(now);

    /// <summary>How long a call may still wait, in nanoseconds; negative if none does.</summary>
    public long NanosecondsToCall() => _completion.NanosecondsToCall();

    /// <summary>
    /// Ends the stages and frees what they used. Drain before. Linked blocks hear of the end through the completion of the stages.
    /// </summary>
    public void Dispose()
    {
        if (FaultReason is { } fault)
        {
            // A batch that stock blocks still hold must find closed doors: what it refers to is freed below.
            _notify.Fault(fault);
            _lint?.Fault(fault);
            _parse.Fault(fault);
            _io.Fault(fault);
            _completion.Fault(fault);
        }

        _entry.Complete();
        _notify.Complete();
        _lint?.Complete();
        _parse.Complete();
        _io.Complete();
        _completion.Complete();
        _disk.Dispose();
        _table.Dispose();
        _batches.Dispose();
        _virtqueue.Dispose();
    }
}
