using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Virtio.Blk;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.Benchmarks.Servers;

/// <summary>
/// The lower bound: the same virtqueue, parser, limits, disk and engine in one plain loop. It keeps the parsed request of each slot and
/// nothing else: no blocks, no batches, no states, no bound on what is in flight but the ring's size. It reads, writes and flushes.
/// </summary>
internal sealed class HandWrittenServer : QueueServer, IDiskCompletions
{
    private readonly IDiskQueue _disk;
    private readonly IIoEngine _engine;
    private readonly BlkLimits _limits;
    private readonly BlkRequest[] _requests;
    private bool _hasUnpublished;

    public HandWrittenServer(Virtqueue virtqueue, IDisk disk, IIoEngine engine, BlkLimits limits)
        : base(virtqueue)
    {
        _engine = engine;
        _limits = limits;
        _requests = new BlkRequest[virtqueue.QueueSize];
        _disk = disk.OpenQueue(engine, this, virtqueue.QueueSize);
    }

    // Here once more, as the loop that is the bound pays for no second call through its class.
    public override void Turn() => TryTurn();

    public override bool TryTurn()
    {
        bool progressed = false;
        if (IsFetching)
        {
            while (Virtqueue.TryPop(out DescriptorChain chain) == PopOutcome.Popped)
            {
                progressed = true;
                Start(in chain);
            }
        }

        _engine.Submit();
        progressed |= Reap(_engine, _disk);
        if (_hasUnpublished)
        {
            _hasUnpublished = false;
            if (Virtqueue.PublishUsed())
            {
                Call?.Signal();
            }
        }

        return progressed;
    }

    void IDiskCompletions.OnCompleted(int slot, DiskOutcome outcome)
    {
        ref BlkRequest request = ref _requests[slot];
        uint dataInWritten = request.Type == BlkRequestType.VIRTIO_BLK_T_IN && outcome == DiskOutcome.Done ? request.DataInBytes : 0;
        Finish(slot, outcome == DiskOutcome.Done ? BlkStatus.VIRTIO_BLK_S_OK : BlkStatus.VIRTIO_BLK_S_IOERR, dataInWritten);
    }

    public override void Dispose()
    {
        _disk.Dispose();
        Virtqueue.Dispose();
    }

    private void Start(in DescriptorChain chain)
    {
        int slot = chain.Slot;
        ref BlkRequest request = ref _requests[slot];
        if (!BlkRequest.TryParse(in chain, out request, out _))
        {
            Finish(slot, BlkStatus.VIRTIO_BLK_S_IOERR, 0);
            return;
        }

        BlkStatus status = RequestPlan.Of(in request, _limits, out DiskRequest io);
        if (status == BlkStatus.VIRTIO_BLK_S_OK)
        {
            _disk.Submit(slot, in io);
        }
        else
        {
            Finish(slot, status, 0);
        }
    }

    private void Finish(int slot, BlkStatus status, uint dataInWritten)
    {
        uint writtenBytes = _requests[slot].Reply.Finish(status, dataInWritten);
        Virtqueue.AddUsed((ushort)slot, writtenBytes, dataInWritten);
        _hasUnpublished = true;
    }
}
