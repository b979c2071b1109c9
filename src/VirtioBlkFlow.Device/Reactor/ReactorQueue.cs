using System.Diagnostics;
using Microsoft.Extensions.Logging;
using VirtioBlkFlow.Device.Pipeline;
using VirtioBlkFlow.VhostUser;
using VirtioBlkFlow.Virtio.Migration;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.Device.Reactor;

/// <summary>One queue of a device as its reactor serves it: the pipeline, the descriptors it is kicked and calls through.</summary>
/// <remarks>
/// Public members may be called from any thread but the reactor's own; each is carried out by the reactor between two turns. A queue has a
/// mailbox of its own, so that one that waits for its requests does not keep the commands of others waiting.
/// </remarks>
[DebuggerDisplay("queue-{_index}")]
internal sealed class ReactorQueue : IDisposable
{
    // Fixed at construction.
    private readonly int _index;
    private readonly QueueReactor _reactor;
    private readonly ReactorLease _lease;
    private readonly CommandMailbox _mailbox;
    private readonly PipelineContext _context;
    private readonly Action<int, string> _onBroken;
    private readonly ILogger _logger;

    // Owned by the reactor's thread. The pipeline is there while the queue has turns.
    private QueuePipeline? _pipeline;
    private int _number;
    private EventDescriptor? _error;
    private RingDirtyLog _dirtyLog;
    private Iovec[] _registeredMemory = [];
    private TaskCompletionSource? _drained;
    private bool _brokenIsReported;

    /// <param name="index">Number in its device.</param>
    /// <param name="lease">The reactor; given back when the queue is disposed.</param>
    /// <param name="context">What is common to the queues of a device.</param>
    /// <param name="onBroken">Hears, on the reactor's thread, of the queue's number and why it serves no more.</param>
    /// <param name="logger">Where to log.</param>
    public ReactorQueue(int index, ReactorLease lease, PipelineContext context, Action<int, string> onBroken, ILogger logger)
    {
        _index = index;
        _reactor = lease.Reactor;
        _lease = lease;
        _context = context;
        _onBroken = onBroken;
        _logger = logger;
        _mailbox = new CommandMailbox(_reactor.Scheduler);
        context.Meter.Of(index).Thread = _reactor.Counters;
    }

    /// <summary>Begins to serve a ring.</summary>
    public void Start(QueueSetup setup, GuestMemory memory) => _mailbox.Run(() => DoStart(setup, memory));

    /// <summary>Stops fetching, waits until nothing is in flight, releases the ring.</summary>
    /// <returns>Index of the next available entry.</returns>
    public ushort Stop() => _mailbox.Ask(DoStopAsync);

    /// <summary>Swaps in new memory at a moment when nothing is in flight.</summary>
    public void ReplaceMemory(GuestMemory memory, RingAddresses addresses) => _mailbox.Ask(() => DoReplaceMemoryAsync(memory, addresses));

    /// <summary>Begins or ends to mark what is written into guest memory, at a moment when nothing is in flight.</summary>
    public void SetDirtyLog(DirtyLog? log, ulong? usedRingAddress) => _mailbox.Ask(() => DoSetDirtyLogAsync(new RingDirtyLog(log, usedRingAddress)));

    /// <summary>Takes kicks from another descriptor; null to poll.</summary>
    public void ReplaceKick(SafeFileHandle? kick) => _mailbox.Run(() => SetKick(kick));

    /// <summary>Calls through another descriptor, and signals it once.</summary>
    public void ReplaceCall(SafeFileHandle? call) => _mailbox.Run(() =>
    {
        SetCall(call);
        _pipeline?.Call?.Signal();
    });

    /// <summary>Reports errors through another descriptor.</summary>
    public void ReplaceError(SafeFileHandle? error) => _mailbox.Run(() => SetError(error));

    /// <summary>Lets go of the reactor. The queue must be stopped.</summary>
    public void Dispose()
    {
        _mailbox.Close();
        _lease.Dispose();
    }

    // From here on: on the reactor's thread, for a queue that has turns.

    /// <summary>Whether kicks end a sleep; if not, the ring must be looked at.</summary>
    internal bool HasKick { get; private set; }

    /// <summary>Takes what the driver has made available and starts it.</summary>
    internal bool Fetch()
    {
        bool progressed = _pipeline!.Fetch();
        // Whoever waits for the drain must not wait for a limit, or for what would never end.
        return _drained == null ? progressed : progressed | _pipeline.Disk.EndHeld();
    }

    /// <summary>An operation of the engine has ended.</summary>
    internal void OnIoCompleted(int slot, int result) => _pipeline!.Disk.OnIoCompleted(slot, result);

    /// <summary>The end of a turn: returns what has ended to the driver, and sees whether something waited for that.</summary>
    /// <returns>Whether anything was returned.</returns>
    internal bool Settle()
    {
        QueuePipeline pipeline = _pipeline!;
        bool returned = pipeline.EmitCompletions();
        if (_drained != null && pipeline.IsDrained)
        {
            _drained.SetResult();
            _drained = null;
        }

        CheckHealth(pipeline);
        return returned;
    }

    /// <summary>Whether the driver has made something available that could be taken now. Cheap enough to spin on.</summary>
    internal bool CanFetch => _pipeline!.CanFetch;

    /// <summary>Whether a call has waited for more completions long enough. Cheap enough to spin on.</summary>
    internal bool CallIsDue(long now) => _pipeline!.CallIsDue(now);

    /// <summary>The driver has kicked.</summary>
    internal void CountKick() => _pipeline!.Counters.CountKick();

    /// <summary>The thread has slept and is awake again.</summary>
    internal void OnSleepEnded() => _pipeline!.OnSleepEnded();

    /// <summary>The thread has spun and has something to do again.</summary>
    internal void OnSpinEnded(long lookedAt) => _pipeline!.OnSpinEnded(lookedAt);

    /// <summary>How long a call may still wait; negative if none does.</summary>
    internal long NanosecondsToCall() => _pipeline!.NanosecondsToCall();

    /// <summary>Asks the driver not to kick.</summary>
    internal void SuppressKicks() => _pipeline!.Virtqueue.SuppressKicks();

    /// <summary>Asks the driver to kick, where that is of use.</summary>
    /// <returns>Whether something has become available meanwhile: do not sleep.</returns>
    // While requests stay in the ring on purpose, a completion wakes us, and asking for kicks would only find them again.
    internal bool RequestKicks() => _pipeline!.WantsKicks && _pipeline.Virtqueue.RequestKicks();

    internal static DirtyLog? DirtyLogOf(DirtyLogMapping? mapping) =>
        mapping is { } log ? new DirtyLog(log.Address, log.LengthBytes) : null;

    internal static RingAddresses AddressesOf(in QueueRings rings) => new(rings.DescriptorTable, rings.AvailableRing, rings.UsedRing);

    // A broken ring or a failed stage ends the queue, once: nothing is fetched any more, the rest of the device goes on.
    private void CheckHealth(QueuePipeline pipeline)
    {
        if (_brokenIsReported || (pipeline.Virtqueue.Defect == RingDefect.None && pipeline.FaultReason == null))
        {
            return;
        }

        _brokenIsReported = true;
        pipeline.IsFetching = false;
        pipeline.Lint.OnDefect(pipeline.Virtqueue.Defect);
        _error?.Signal();
        _onBroken(_index, pipeline.FaultReason?.Message ?? pipeline.Virtqueue.Defect.ToString());
    }

    private void DoStart(QueueSetup setup, GuestMemory memory)
    {
        Debug.Assert(_pipeline == null, "A queue is stopped before it is started again.");
        Virtqueue virtqueue = Virtqueue.Create(new VirtqueueSetup
        {
            QueueSize = setup.Rings.Size,
            Addresses = AddressesOf(setup.Rings),
            Memory = memory,
            Features = (VirtioFeatures)setup.Features,
            Position = new RingPosition(setup.NextAvailable, setup.NextUsed),
            Inflight = InflightAreas.Of(setup.InflightArea, setup.Rings.QueueIndex, setup.Features),
        });
        _dirtyLog = new RingDirtyLog(DirtyLogOf(setup.DirtyLog), setup.UsedRingLogAddress);
        virtqueue.SetDirtyLog(_dirtyLog.Log, _dirtyLog.UsedRingAddress);
        _number = _reactor.Enter(this);
        try
        {
            _pipeline = new QueuePipeline(
                _index, virtqueue, (VirtioFeatures)setup.Features, EngineShare.Of(_reactor.Engine, _number), _reactor.Scheduler, _context);
        }
        catch
        {
            _reactor.Leave(_number);
            virtqueue.Dispose();
            throw;
        }

        _brokenIsReported = false;
        RegisterMemory(memory);
        SetKick(setup.Kick);
        SetCall(setup.Call);
        SetError(setup.Error);
    }

    private async Task<ushort> DoStopAsync()
    {
        QueuePipeline pipeline = _pipeline!;
        await DrainAsync(pipeline);
        // Between two runs nothing may be left of this one.
        SetKick(null);
        SetCall(null);
        SetError(null);
        UnregisterMemory();
        ushort next = pipeline.Virtqueue.Position.NextAvailable;
        _reactor.Leave(_number);
        _pipeline = null;
        pipeline.Dispose();
        return next;
    }

    private async Task<bool> DoReplaceMemoryAsync(GuestMemory memory, RingAddresses addresses)
    {
        QueuePipeline pipeline = _pipeline!;
        bool wasFetching = pipeline.IsFetching;
        await DrainAsync(pipeline);
        // Before the answer: afterwards the front-end takes the old memory for free.
        UnregisterMemory();
        RegisterMemory(memory);
        pipeline.Virtqueue.ReplaceMemory(memory, addresses);
        // Where the ring is in guest memory is part of how its writes are marked.
        pipeline.Virtqueue.SetDirtyLog(_dirtyLog.Log, _dirtyLog.UsedRingAddress);
        pipeline.IsFetching = wasFetching;
        return true;
    }

    private async Task<bool> DoSetDirtyLogAsync(RingDirtyLog dirtyLog)
    {
        QueuePipeline pipeline = _pipeline!;
        bool wasFetching = pipeline.IsFetching;
        await DrainAsync(pipeline);
        _dirtyLog = dirtyLog;
        pipeline.Virtqueue.SetDirtyLog(dirtyLog.Log, dirtyLog.UsedRingAddress);
        pipeline.IsFetching = wasFetching;
        return true;
    }

    // The awaits come back to the reactor's thread, as its scheduler is the current one of every command.
    private async Task DrainAsync(QueuePipeline pipeline)
    {
        pipeline.IsFetching = false;
        if (!pipeline.IsDrained)
        {
            _drained = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            await _drained.Task;
        }
    }

    private unsafe void RegisterMemory(GuestMemory memory)
    {
        if (!_context.RegistersMemory)
        {
            return;
        }

        Iovec[] areas = new Iovec[memory.Regions.Length];
        for (int i = 0; i < areas.Length; i++)
        {
            GuestMemoryRegion region = memory.Regions[i];
            areas[i] = new Iovec((byte*)region.HostAddress, (nuint)region.LengthBytes);
        }

        if (_reactor.Engine.TryRegisterMemory(areas, out string obstacle))
        {
            _registeredMemory = areas;
        }
        else
        {
            Log.MemoryNotRegistered(_logger, _index, obstacle);
        }
    }

    private void UnregisterMemory()
    {
        _reactor.Engine.UnregisterMemory(_registeredMemory);
        _registeredMemory = [];
    }

    private void SetKick(SafeFileHandle? kick)
    {
        _reactor.Engine.Unwatch(_number);
        HasKick = kick != null;
        if (kick != null)
        {
            try
            {
                _reactor.Engine.Watch(_number, kick);
            }
            catch (IOException)
            {
                // A front-end may hand over anything. What cannot be waited on is as good as no kick: the ring is polled.
                HasKick = false;
            }
        }
    }

    private void SetCall(SafeFileHandle? call)
    {
        EventDescriptor? old = _pipeline!.Call;
        _pipeline.Call = call == null ? null : new EventDescriptor(call);
        old?.Dispose();
    }

    private void SetError(SafeFileHandle? error)
    {
        _error?.Dispose();
        _error = error == null ? null : new EventDescriptor(error);
    }

    // What a queue marks its writes in, and under which address those to the ring; null for not at all.
    private readonly record struct RingDirtyLog(DirtyLog? Log, ulong? UsedRingAddress);
}
