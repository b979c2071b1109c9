using System.Threading.Tasks.Dataflow;
using VirtioBlkFlow.Benchmarks.Servers;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.Device.Pipeline;
using VirtioBlkFlow.Device.Reactor;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Virtio.Blk;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.Benchmarks.Study;

/// <summary>
/// The pipeline's four stages as stock Dataflow blocks on the reactor's scheduler: kick → notify → parse → I/O → completion, a message for
/// each batch. All of it runs on the thread that has the ring, so nothing is guarded. A batch takes part in the I/O stage as a task that ends
/// with its last request, at most <see cref="BlkDeviceOptions.DefaultParallelism"/> at once; while none is free, requests stay in the ring,
/// as in the pipeline. What can be saved without own blocks is saved: batches are used again, a batch that ends while it is submitted needs no
/// new task, and a turn runs the tasks of all hops, not one of them.
/// </summary>
internal sealed class StockBlocksServer : QueueServer, IDiskCompletions
{
    private const int Parallelism = BlkDeviceOptions.DefaultParallelism;

    // Fixed at construction.
    private readonly ReactorTaskScheduler _scheduler;
    private readonly IIoEngine _engine;
    private readonly IDiskQueue _disk;
    private readonly RequestBook _book;
    private readonly Batch[] _batches;
    private readonly TransformBlock<QueueKick, Batch> _notify;
    private readonly ActionBlock<Batch> _completion;

    // Owned by the thread that has the ring.
    private readonly Stack<Batch> _free;
    private readonly byte[] _batchOfSlot;
    private bool _kickIsPending;
    private long _turn;

    /// <param name="virtqueue">The ring; becomes the server's.</param>
    /// <param name="disk">Where the sectors are.</param>
    /// <param name="engine">Does the I/O; of the calling thread.</param>
    /// <param name="limits">What requests are checked against.</param>
    /// <param name="scheduler">Bound to the calling thread.</param>
    public StockBlocksServer(Virtqueue virtqueue, IDisk disk, IIoEngine engine, BlkLimits limits, ReactorTaskScheduler scheduler)
        : base(virtqueue)
    {
        _scheduler = scheduler;
        _engine = engine;
        _book = new RequestBook(virtqueue.QueueSize, limits);
        _batches = [.. Enumerable.Range(0, Parallelism).Select(number => new Batch((byte)number, virtqueue.QueueSize))];
        _free = new Stack<Batch>(_batches);
        _batchOfSlot = new byte[virtqueue.QueueSize];
        _disk = disk.OpenQueue(engine, this, virtqueue.QueueSize);
        var one = new ExecutionDataflowBlockOptions { TaskScheduler = scheduler, SingleProducerConstrained = true, EnsureOrdered = false };
        var several = new ExecutionDataflowBlockOptions
        {
            TaskScheduler = scheduler,
            SingleProducerConstrained = true,
            EnsureOrdered = false,
            MaxDegreeOfParallelism = Parallelism,
        };
        _notify = new TransformBlock<QueueKick, Batch>(Notify, one);
        var parse = new TransformBlock<Batch, Batch>(Parse, one);
        var io = new TransformBlock<Batch, Batch>(DoIoAsync, several);
        _completion = new ActionBlock<Batch>(Complete, one);
        var propagate = new DataflowLinkOptions { PropagateCompletion = true };
        _notify.LinkTo(parse, propagate);
        parse.LinkTo(io, propagate);
        io.LinkTo(_completion, propagate);
    }

    /// <inheritdoc/>
    protected override bool CanFetch => base.CanFetch && !_kickIsPending && _free.Count > 0;

    /// <inheritdoc/>
    public override bool TryTurn()
    {
        bool progressed = RunTasks();
        if (HasWork)
        {
            _kickIsPending = true;
            progressed = true;
            if (!_notify.Post(new QueueKick(++_turn)))
            {
                throw new InvalidOperationException("A stage has failed.", _completion.Completion.Exception);
            }

            RunTasks();
        }

        _engine.Submit();
        if (Reap(_engine, _disk))
        {
            progressed = true;
            RunTasks();
        }

        return progressed;
    }

    void IDiskCompletions.OnCompleted(int slot, DiskOutcome outcome)
    {
        _book.End(slot, outcome);
        Batch batch = _batches[_batchOfSlot[slot]];
        if (--batch.Outstanding == 0)
        {
            // The stage goes on here and now, on this thread.
            batch.Waiting!.SetResult(batch);
        }
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        _disk.Dispose();
        Array.ForEach(_batches, batch => batch.Dispose());
        Virtqueue.Dispose();
    }

    // A hop between blocks is a task of its own: those that come of running the others are run too.
    private bool RunTasks()
    {
        bool any = false;
        while (_scheduler.RunTasks())
        {
            any = true;
        }

        return any;
    }

    private Batch Notify(QueueKick kick)
    {
        _kickIsPending = false;
        Batch batch = _free.Pop();
        batch.PopFrom(Virtqueue);
        return batch;
    }

    private Batch Parse(Batch batch)
    {
        batch.ParseInto(_book);
        return batch;
    }

    private Task<Batch> DoIoAsync(Batch batch)
    {
        // Ours until all are submitted: one that ends at once must not end the batch.
        batch.Outstanding = 1;
        foreach (ushort slot in batch.Slots)
        {
            if (_book.NeedsDisk(slot))
            {
                batch.Outstanding++;
                _batchOfSlot[slot] = batch.Number;
                _disk.Submit(slot, in _book.IoOf(slot));
            }
        }

        if (--batch.Outstanding == 0)
        {
            return batch.Ended;
        }

        batch.Waiting = new TaskCompletionSource<Batch>();
        return batch.Waiting.Task;
    }

    private void Complete(Batch batch)
    {
        _book.Return(Virtqueue, batch.Slots);
        _free.Push(batch);
        if (Virtqueue.PublishUsed())
        {
            Call?.Signal();
        }
    }
}
