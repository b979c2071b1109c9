using VirtioBlkFlow.Device;
using VirtioBlkFlow.Device.Latency;
using VirtioBlkFlow.Device.Lint;
using VirtioBlkFlow.Device.Pipeline;
using VirtioBlkFlow.Device.Reactor;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Virtio.Blk;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.Benchmarks.Servers;

/// <summary>The real pipeline with its direct assembly. A turn does what a turn of the reactor does, its look for tasks and at the pipeline's health included.</summary>
internal sealed class PipelineServer : BlkServer
{
    private readonly ReactorTaskScheduler _scheduler = new();
    private readonly IIoEngine _engine;
    private readonly QueuePipeline _pipeline;

    public PipelineServer(FixedChainsDriver driver, IDisk disk, IIoEngine engine, BlkLimits limits, StageLatency latency = StageLatency.Sampled)
    {
        _engine = engine;
        _scheduler.Bind();
        Virtqueue virtqueue = Virtqueue.Create(driver.Setup);
        _pipeline = new QueuePipeline(0, virtqueue, driver.Setup.Features, engine, _scheduler, ContextOf(disk, limits, latency));
    }

    public override int InFlightCount => _pipeline.Virtqueue.InFlightCount;

    public override void Turn()
    {
        _scheduler.RunTasks();
        QueuePipeline pipeline = _pipeline;
        pipeline.Fetch();
        _engine.Submit();
        Reap(pipeline);
        pipeline.EmitCompletions();
        if (pipeline.Virtqueue.Defect != RingDefect.None || pipeline.FaultReason != null)
        {
            throw new InvalidOperationException($"The queue is broken: {pipeline.Virtqueue.Defect}", pipeline.FaultReason);
        }
    }

    public override void Dispose() => _pipeline.Dispose();

    /// <summary>What a device with one queue and otherwise default options gives its pipelines.</summary>
    internal static PipelineContext ContextOf(IDisk disk, BlkLimits limits, StageLatency latency = StageLatency.Sampled)
    {
        var served = new ServedLimits(limits);
        return new PipelineContext(
            disk,
            served,
            ReadOnlyMemory<byte>.Empty,
            new WriteCache(CacheMode.Writethrough),
            BlkDeviceOptions.DefaultParallelism,
            JoinsAdjacent: true,
            CallModeration: null,
            RegistersMemory: false,
            PipelineAssemblies.Direct,
            new DeviceLint(new SpecLint(null), served, default, ChecksRequests: false),
            new DeviceMeter(latency, queueCount: 1));
    }

    private void Reap(QueuePipeline pipeline)
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
                    pipeline.Disk.OnIoCompleted((int)completions[i].Token, completions[i].Result);
                }
            }
        }
        while (count == completions.Length);
    }
}
