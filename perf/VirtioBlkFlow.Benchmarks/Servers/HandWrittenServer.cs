using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Virtio.Blk;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.Benchmarks.Servers;

/// <summary>
/// The lower bound: the same virtqueue, parser, limits, disk and engine in one plain loop. It keeps the parsed request of each slot and
/// nothing else: no blocks, no batches, no states, no bound on what is in flight but the ring's size. It reads, writes and flushes.
/// </summary>
internal sealed unsafe class HandWrittenServer : BlkServer, IDiskCompletions
{
    private readonly Virtqueue _virtqueue;
    private readonly IDiskQueue _disk;
    private readonly IIoEngine _engine;
    private readonly BlkLimits _limits;
    private readonly BlkRequest[] _requests = new BlkRequest[FixedChainsDriver.QueueSize];
    private bool _hasUnpublished;

    public HandWrittenServer(FixedChainsDriver driver, IDisk disk, IIoEngine engine, BlkLimits limits)
    {
        _virtqueue = Virtqueue.Create(driver.Setup);
        _engine = engine;
        _limits = limits;
        _disk = disk.OpenQueue(engine, this, FixedChainsDriver.QueueSize);
    }

    public override int InFlightCount => _virtqueue.InFlightCount;

    public override void Turn()
    {
        while (_virtqueue.TryPop(out DescriptorChain chain) == PopOutcome.Popped)
        {
            Start(in chain);
        }

        _engine.Submit();
        Reap();
        if (_hasUnpublished)
        {
            _hasUnpublished = false;
            _virtqueue.PublishUsed();
        }
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
        _virtqueue.Dispose();
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

        DiskRequest io = default;
        BlkStatus status = BlkStatus.VIRTIO_BLK_S_OK;
        switch (request.Type)
        {
            case BlkRequestType.VIRTIO_BLK_T_IN:
                status = _limits.CheckTransfer(request.Sector, request.DataInBytes);
                io.Operation = DiskOperation.Read;
                io.OffsetBytes = request.Sector * BlkRequest.SectorBytes;
                io.Pieces = request.DataIn;
                io.PieceCount = request.DataInCount;
                io.LengthBytes = request.DataInBytes;
                break;
            case BlkRequestType.VIRTIO_BLK_T_OUT:
                status = _limits.ReadOnly ? BlkStatus.VIRTIO_BLK_S_IOERR : _limits.CheckTransfer(request.Sector, request.DataOutBytes);
                io.Operation = DiskOperation.Write;
                io.OffsetBytes = request.Sector * BlkRequest.SectorBytes;
                io.Pieces = request.DataOut;
                io.PieceCount = request.DataOutCount;
                io.LengthBytes = request.DataOutBytes;
                break;
            case BlkRequestType.VIRTIO_BLK_T_FLUSH:
                io.Operation = DiskOperation.Flush;
                break;
            default:
                status = BlkStatus.VIRTIO_BLK_S_UNSUPP;
                break;
        }

        if (status == BlkStatus.VIRTIO_BLK_S_OK)
        {
            _disk.Submit(slot, in io);
        }
        else
        {
            Finish(slot, status, 0);
        }
    }

    private void Reap()
    {
        if (!_engine.HasCompletions)
        {
            return;
        }

        Span<IoCompletion> completions = stackalloc IoCompletion[64];
        int count;
        do
        {
            count = _engine.Reap(completions);
            for (int i = 0; i < count; i++)
            {
                if (completions[i].Kind == IoCompletionKind.Operation)
                {
                    _disk.OnIoCompleted((int)completions[i].Token, completions[i].Result);
                }
            }
        }
        while (count == completions.Length);
    }

    private void Finish(int slot, BlkStatus status, uint dataInWritten)
    {
        uint writtenBytes = _requests[slot].Reply.Finish(status, dataInWritten);
        _virtqueue.AddUsed((ushort)slot, writtenBytes, dataInWritten);
        _hasUnpublished = true;
    }
}
