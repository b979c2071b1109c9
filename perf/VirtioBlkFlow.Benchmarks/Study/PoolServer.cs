using System.Threading.Tasks.Dataflow;
using VirtioBlkFlow.Benchmarks.Servers;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Virtio.Blk;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.Benchmarks.Study;

/// <summary>
/// What the variants on the thread pool have in common: parse → I/O → completion are stock blocks on the default scheduler; the thread that
/// has the ring pops and posts, and waits for kicks. The ring is thus used by two threads at a time. Its available side is that one thread's
/// alone; what popping and returning share (states and pieces of chains, the count in flight), and the used side, is guarded by one lock,
/// taken once for all that is popped and once for each message that is returned.
/// </summary>
internal abstract class PoolServer : QueueServer
{
    /// <summary>Messages in the I/O stage at once: as many as the pipeline has batches.</summary>
    protected const int Parallelism = BlkDeviceOptions.DefaultParallelism;

    // So long without an answer is a lost message.
    private const int PatienceMs = 30_000;

    // Fixed at construction.
    private readonly IIoEngine _engine;
    // It does not spin: whoever waits in a turn is the harness, whose CPU time is not to be a device's.
    private readonly ManualResetEventSlim _idle = new(initialState: true, spinCount: 0);

    // Guarded by Gate.
    private EventDescriptor? _call;

    /// <param name="virtqueue">The ring; becomes the server's.</param>
    /// <param name="disk">Where the sectors are.</param>
    /// <param name="engine">Of the thread that has the ring: what it sleeps in. It does no I/O.</param>
    /// <param name="makeEngine">Makes an engine for the I/O of the calling thread.</param>
    /// <param name="limits">What requests are checked against.</param>
    protected PoolServer(Virtqueue virtqueue, IDisk disk, IIoEngine engine, Func<IIoEngine> makeEngine, BlkLimits limits)
        : base(virtqueue)
    {
        _engine = engine;
        Book = new RequestBook(virtqueue.QueueSize, limits);
        Lanes = new IoLanes(disk, Book, virtqueue.QueueSize, makeEngine);
    }

    /// <summary>
    /// Whether a turn that took something ends only when all of it is answered, and sleeps meanwhile: for a caller without kicks and calls,
    /// who would have to look at the ring and burn CPU time. Else a turn returns at once.
    /// </summary>
    public bool TurnWaits { get; set; } = true;

    /// <inheritdoc/>
    public override int InFlightCount
    {
        get
        {
            lock (Gate)
            {
                return Virtqueue.InFlightCount;
            }
        }
    }

    /// <inheritdoc/>
    // Used under the lock, so that one that was taken back is not used any more.
    public override EventDescriptor? Call
    {
        get => _call;
        set
        {
            lock (Gate)
            {
                _call = value;
            }
        }
    }

    /// <summary>Guards what popping and returning share.</summary>
    protected Lock Gate { get; } = new();

    /// <summary>The requests.</summary>
    protected RequestBook Book { get; }

    /// <summary>The pool threads' ways to the disk.</summary>
    protected IoLanes Lanes { get; }

    /// <summary>First stage on the pool.</summary>
    protected abstract IDataflowBlock First { get; }

    /// <summary>Last stage.</summary>
    protected abstract IDataflowBlock Last { get; }

    /// <inheritdoc/>
    public override bool TryTurn()
    {
        // Signals only end a sleep, and there is nothing else on this engine.
        bool progressed = false;
        if (_engine.HasCompletions)
        {
            Span<IoCompletion> signals = stackalloc IoCompletion[64];
            progressed = _engine.Reap(signals) > 0;
        }

        if (!HasWork || !TryFetch())
        {
            return progressed;
        }

        if (TurnWaits && !_idle.Wait(PatienceMs))
        {
            throw new TimeoutException("Requests got no answer.", Last.Completion.Exception);
        }

        return true;
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        First.Complete();
        // Whether they failed was said before; here it counts that no thread is in them.
        _ = Task.WaitAny(Last.Completion);
        Lanes.Dispose();
        _idle.Dispose();
        Virtqueue.Dispose();
    }

    /// <summary>How stages do their work.</summary>
    protected static ExecutionDataflowBlockOptions Options(int parallelism) =>
        new() { MaxDegreeOfParallelism = parallelism, SingleProducerConstrained = true, EnsureOrdered = false };

    /// <summary>Pops and posts.</summary>
    /// <returns>Whether there was anything.</returns>
    protected abstract bool TryFetch();

    /// <summary>Requests are about to be posted. Under the lock.</summary>
    protected void OnPopped() => _idle.Reset();

    /// <summary>Returns requests to the driver. Under the lock, on a pool thread.</summary>
    protected void Return(ReadOnlySpan<ushort> slots)
    {
        Book.Return(Virtqueue, slots);
        if (Virtqueue.PublishUsed())
        {
            _call?.Signal();
        }

        if (Virtqueue.InFlightCount == 0)
        {
            _idle.Set();
        }
    }

    /// <summary>Ends the sleep of the thread that has the ring.</summary>
    protected void Wake() => _engine.Wake();

    /// <summary>A message was posted, or not.</summary>
    protected void Require(bool isAccepted)
    {
        if (!isAccepted)
        {
            throw new InvalidOperationException("A stage has failed.", Last.Completion.Exception);
        }
    }
}
