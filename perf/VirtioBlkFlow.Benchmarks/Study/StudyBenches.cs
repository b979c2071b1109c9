using VirtioBlkFlow.Benchmarks.Servers;
using VirtioBlkFlow.Device.Reactor;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Virtio.Blk;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.Benchmarks.Study;

/// <summary>The variants with a driver on the calling thread. Each was validated when it is handed out.</summary>
internal static class StudyBenches
{
    /// <summary>With a disk that costs nothing.</summary>
    public static Bench OnNull(Variant variant, int depth) => variant switch
    {
        Variant.HandWritten => Bench.NullHand(depth),
        Variant.OurBlocks => Bench.NullPipeline(depth),
        Variant.StockBlocks => OnNull<ForStockBlocks>(variant, depth),
        Variant.PoolBatches => OnNull<ForPoolBatches>(variant, depth),
        _ => OnNull<ForPoolRequests>(variant, depth),
    };

    /// <summary>With reads of a file in the page cache, by io_uring.</summary>
    public static Bench OnFile(Variant variant, int depth, TestFile file)
    {
        switch (variant)
        {
            case Variant.HandWritten:
                return Bench.FileHand(depth, file);
            case Variant.OurBlocks:
                return Bench.FilePipeline(depth, file);
            default:
                IDisk disk = file.Open();
                return Bench.Of(depth, disk, Bench.MakeUring(), TestFile.IsRight, (virtqueue, engine) => ServeHere(variant, virtqueue, disk, engine, Bench.MakeUring));
        }
    }

    /// <summary>Any of the variants but the pipeline, which has a device of its own.</summary>
    /// <param name="variant">Which.</param>
    /// <param name="virtqueue">The ring; becomes the server's.</param>
    /// <param name="disk">Where the sectors are.</param>
    /// <param name="engine">Of the calling thread.</param>
    /// <param name="makeEngine">Makes an engine for the I/O of the calling thread.</param>
    /// <param name="scheduler">Runs tasks on the calling thread.</param>
    /// <param name="limits">What requests are checked against.</param>
    public static QueueServer Serve(
        Variant variant, Virtqueue virtqueue, IDisk disk, IIoEngine engine, Func<IIoEngine> makeEngine, ReactorTaskScheduler scheduler, BlkLimits limits) => variant switch
        {
            Variant.HandWritten => new HandWrittenServer(virtqueue, disk, engine, limits),
            Variant.StockBlocks => new StockBlocksServer(virtqueue, disk, engine, limits, scheduler),
            Variant.PoolBatches => new PoolBatchesServer(virtqueue, disk, engine, makeEngine, limits),
            Variant.PoolRequests => new PoolRequestsServer(virtqueue, disk, engine, makeEngine, limits),
            _ => throw new ArgumentOutOfRangeException(nameof(variant)),
        };

    private static Bench OnNull<TUser>(Variant variant, int depth)
        where TUser : struct
    {
        var disk = new NullDisk<TUser>();
        return Bench.Of(depth, disk, new NullEngine(), null, (virtqueue, engine) => ServeHere(variant, virtqueue, disk, engine, () => new NullEngine()));
    }

    private static QueueServer ServeHere(Variant variant, Virtqueue virtqueue, IDisk disk, IIoEngine engine, Func<IIoEngine> makeEngine)
    {
        var scheduler = new ReactorTaskScheduler();
        scheduler.Bind();
        return Serve(variant, virtqueue, disk, engine, makeEngine, scheduler, Bench.LimitsOf(disk));
    }
}
