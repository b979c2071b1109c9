using System.Threading.Tasks.Dataflow;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Virtio.Blk;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.Benchmarks.Study;

/// <summary>
/// Stock blocks on the thread pool, a message for each request: a slot number, so that messages themselves cost no allocation. Popping still
/// takes all there is under one lock; from there on each request is parsed, submitted, and returned to the driver by itself, at most
/// <see cref="PoolServer.Parallelism"/> at once in the I/O stage. In flight is what the ring has room for.
/// </summary>
internal sealed class PoolRequestsServer : PoolServer
{
    // Fixed at construction.
    private readonly TransformBlock<ushort, ushort> _parse;
    private readonly ActionBlock<ushort> _completion;

    // By slot; each belongs to the stage that holds its message.
    private readonly DescriptorChain[] _chains;

    // Owned by the thread that has the ring.
    private readonly ushort[] _popped;

    /// <inheritdoc cref="PoolServer(Virtqueue, IDisk, IIoEngine, Func{IIoEngine}, BlkLimits)"/>
    public PoolRequestsServer(Virtqueue virtqueue, IDisk disk, IIoEngine engine, Func<IIoEngine> makeEngine, BlkLimits limits)
        : base(virtqueue, disk, engine, makeEngine, limits)
    {
        _chains = new DescriptorChain[virtqueue.QueueSize];
        _popped = new ushort[virtqueue.QueueSize];
        _parse = new TransformBlock<ushort, ushort>(Parse, Options(1));
        var io = new TransformBlock<ushort, ushort>(DoIo, Options(Parallelism));
        _completion = new ActionBlock<ushort>(Complete, Options(1));
        var propagate = new DataflowLinkOptions { PropagateCompletion = true };
        _parse.LinkTo(io, propagate);
        io.LinkTo(_completion, propagate);
    }

    /// <inheritdoc/>
    protected override IDataflowBlock First => _parse;

    /// <inheritdoc/>
    protected override IDataflowBlock Last => _completion;

    /// <inheritdoc/>
    protected override bool TryFetch()
    {
        int count = 0;
        lock (Gate)
        {
            while (count < _popped.Length && Virtqueue.TryPop(out DescriptorChain chain) == PopOutcome.Popped)
            {
                _chains[chain.Slot] = chain;
                _popped[count++] = chain.Slot;
            }

            if (count == 0)
            {
                return false;
            }

            OnPopped();
        }

        foreach (ushort slot in _popped.AsSpan(0, count))
        {
            Require(_parse.Post(slot));
        }

        return true;
    }

    private ushort Parse(ushort slot)
    {
        Book.Parse(in _chains[slot]);
        return slot;
    }

    private ushort DoIo(ushort slot)
    {
        IoLane lane = Lanes.Mine;
        lane.Start(slot);
        lane.Finish();
        return slot;
    }

    private void Complete(ushort slot)
    {
        lock (Gate)
        {
            Return(new ReadOnlySpan<ushort>(in slot));
        }
    }
}
