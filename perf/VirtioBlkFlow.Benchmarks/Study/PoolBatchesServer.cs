using System.Threading.Tasks.Dataflow;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Virtio.Blk;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.Benchmarks.Study;

/// <summary>
/// Stock blocks on the thread pool, a message for each batch. At most <see cref="PoolServer.Parallelism"/> batches are in flight; while none
/// is free, requests stay in the ring, as in the pipeline.
/// </summary>
internal sealed class PoolBatchesServer : PoolServer
{
    // Fixed at construction.
    private readonly Batch[] _batches;
    private readonly TransformBlock<Batch, Batch> _parse;
    private readonly ActionBlock<Batch> _completion;

    // Guarded by Gate; the count is also looked at without.
    private readonly Stack<Batch> _free;
    private int _freeCount;
    private bool _isWaitingForBatch;

    /// <inheritdoc cref="PoolServer(Virtqueue, IDisk, IIoEngine, Func{IIoEngine}, BlkLimits)"/>
    public PoolBatchesServer(Virtqueue virtqueue, IDisk disk, IIoEngine engine, Func<IIoEngine> makeEngine, BlkLimits limits)
        : base(virtqueue, disk, engine, makeEngine, limits)
    {
        _batches = [.. Enumerable.Range(0, Parallelism).Select(number => new Batch((byte)number, virtqueue.QueueSize))];
        _free = new Stack<Batch>(_batches);
        _freeCount = _batches.Length;
        _parse = new TransformBlock<Batch, Batch>(Parse, Options(1));
        var io = new TransformBlock<Batch, Batch>(DoIo, Options(Parallelism));
        _completion = new ActionBlock<Batch>(Complete, Options(1));
        var propagate = new DataflowLinkOptions { PropagateCompletion = true };
        _parse.LinkTo(io, propagate);
        io.LinkTo(_completion, propagate);
    }

    /// <inheritdoc/>
    protected override IDataflowBlock First => _parse;

    /// <inheritdoc/>
    protected override IDataflowBlock Last => _completion;

    /// <inheritdoc/>
    protected override bool CanFetch => base.CanFetch && Volatile.Read(ref _freeCount) > 0;

    /// <inheritdoc/>
    // While no batch is free a kick is of no use: the next that is returned ends the sleep.
    public override bool RequestKicks()
    {
        lock (Gate)
        {
            if (_freeCount == 0)
            {
                _isWaitingForBatch = true;
                return false;
            }
        }

        return base.RequestKicks();
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        base.Dispose();
        Array.ForEach(_batches, batch => batch.Dispose());
    }

    /// <inheritdoc/>
    protected override bool TryFetch()
    {
        Batch batch;
        lock (Gate)
        {
            batch = _free.Peek();
            batch.PopFrom(Virtqueue);
            if (batch.Count == 0)
            {
                return false;
            }

            _free.Pop();
            _freeCount--;
            OnPopped();
        }

        Require(_parse.Post(batch));
        return true;
    }

    private Batch Parse(Batch batch)
    {
        batch.ParseInto(Book);
        return batch;
    }

    private Batch DoIo(Batch batch)
    {
        IoLane lane = Lanes.Mine;
        foreach (ushort slot in batch.Slots)
        {
            lane.Start(slot);
        }

        lane.Finish();
        return batch;
    }

    private void Complete(Batch batch)
    {
        bool wake;
        lock (Gate)
        {
            Return(batch.Slots);
            _free.Push(batch);
            _freeCount++;
            wake = _isWaitingForBatch;
            _isWaitingForBatch = false;
        }

        if (wake)
        {
            Wake();
        }
    }
}
