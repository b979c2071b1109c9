using System.Threading.Tasks.Dataflow;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.Device.Pipeline;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Virtio.Blk;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Device;

/// <summary>Stock blocks before, between and after the four stages of a queue that runs.</summary>
public sealed class PipelineLinkTests
{
    private const int Requests = 2000;
    private static readonly DataflowLinkOptions s_propagate = new() { PropagateCompletion = true };

    public static TheoryData<string, int, IoEngineKind> Cases
    {
        get
        {
            var cases = new TheoryData<string, int, IoEngineKind>();
            foreach (string name in s_assemblies.Keys)
            {
                cases.Add(name, 1, IoEngineKind.IoUring);
                cases.Add(name, 32, IoEngineKind.IoUring);
            }

            cases.Add("every_hop_buffered", 32, IoEngineKind.Threads);
            return cases;
        }
    }

    private static readonly SortedDictionary<string, PipelineAssembly> s_assemblies = new(StringComparer.Ordinal)
    {
        ["direct"] = PipelineAssemblies.Direct,
        ["buffer_before_notify"] = stages =>
        {
            var entry = new BufferBlock<QueueKick>();
            entry.LinkTo(stages.Notify, s_propagate);
            PipelineAssemblies.Direct(stages);
            return entry;
        },
        ["full_buffer_before_notify"] = stages =>
        {
            var entry = new BufferBlock<QueueKick>(new DataflowBlockOptions { BoundedCapacity = 1 });
            entry.LinkTo(stages.Notify, s_propagate);
            PipelineAssemblies.Direct(stages);
            return entry;
        },
        ["buffer_between_notify_and_parse"] = stages =>
            Between(stages, new BufferBlock<RequestBatch>(), null, null),
        ["bounded_buffer_between_parse_and_io"] = stages =>
            Between(stages, null, new BufferBlock<RequestBatch>(new DataflowBlockOptions { BoundedCapacity = 1 }), null),
        ["transform_on_the_thread_pool_between_parse_and_io"] = stages =>
            Between(stages, null, new TransformBlock<RequestBatch, RequestBatch>(batch => batch), null),
        ["parallel_transform_between_notify_and_parse"] = stages =>
            Between(
                stages,
                new TransformBlock<RequestBatch, RequestBatch>(batch => batch, new ExecutionDataflowBlockOptions { MaxDegreeOfParallelism = 4, EnsureOrdered = false }),
                null,
                null),
        ["transform_on_the_reactor_between_io_and_completion"] = stages =>
            Between(
                stages,
                null,
                null,
                new TransformBlock<CompletionBurst, CompletionBurst>(burst => burst, new ExecutionDataflowBlockOptions { TaskScheduler = stages.Scheduler })),
        ["bounded_buffer_between_io_and_completion"] = stages =>
            Between(stages, null, null, new BufferBlock<CompletionBurst>(new DataflowBlockOptions { BoundedCapacity = 1 })),
        ["every_hop_buffered"] = stages =>
        {
            var entry = new BufferBlock<QueueKick>();
            entry.LinkTo(stages.Notify, s_propagate);
            Between(stages, new BufferBlock<RequestBatch>(), new BufferBlock<RequestBatch>(), new BufferBlock<CompletionBurst>());
            return entry;
        },
        ["join_that_reserves_between_parse_and_io"] = stages =>
        {
            // A batch goes on only together with a permit, and each passage gives one back: the join reserves, then consumes both.
            var permits = new BufferBlock<int>();
            var join = new JoinBlock<RequestBatch, int>(new GroupingDataflowBlockOptions { Greedy = false });
            var unpack = new TransformBlock<Tuple<RequestBatch, int>, RequestBatch>(pair =>
            {
                permits.Post(pair.Item2);
                return pair.Item1;
            });
            permits.Post(1);
            stages.Notify.LinkTo(stages.Parse, s_propagate);
            stages.Parse.LinkTo(join.Target1, s_propagate);
            permits.LinkTo(join.Target2);
            join.LinkTo(unpack, s_propagate);
            unpack.LinkTo(stages.Io, s_propagate);
            stages.Io.LinkTo(stages.Completion, s_propagate);
            return stages.Notify;
        },
    };

    [Theory]
    [MemberData(nameof(Cases))]
    public void Each_request_completes_once_with_the_right_data(string assembly, int depth, IoEngineKind engine)
    {
        using var image = new TemporaryImage();
        using var rig = new DeviceRig(image.Open(), new BlkDeviceOptions { Assembly = s_assemblies[assembly], Engine = engine, Cache = CacheMode.Writeback });
        Negotiate(rig);
        rig.Queue.Start();
        var load = new VerifiedLoad(rig.Queue);
        load.Run(Requests, depth);
        Assert.Equal(Requests, load.Completed);
        Assert.Equal((ushort)Requests, Eventually.Returns(rig.Queue.Stop, "the queue stops"));
        Assert.Empty(rig.Broken);
    }

    [Fact]
    public void A_broadcast_with_a_tap_feeds_the_next_stage_and_the_tap()
    {
        int tapped = 0;
        using var image = new TemporaryImage();
        using var rig = new DeviceRig(image.Open(), new BlkDeviceOptions
        {
            Cache = CacheMode.Writeback,
            Assembly = stages =>
            {
                // On the reactor's own thread and linked last, so that the batch is still what it was when it is counted.
                var broadcast = new BroadcastBlock<RequestBatch>(null, new DataflowBlockOptions { TaskScheduler = stages.Scheduler });
                var counts = new TransformBlock<RequestBatch, int>(
                    batch => batch.Count, new ExecutionDataflowBlockOptions { TaskScheduler = stages.Scheduler });
                var tap = new ActionBlock<int>(count => Interlocked.Add(ref tapped, count));
                stages.Notify.LinkTo(broadcast, s_propagate);
                broadcast.LinkTo(counts, s_propagate);
                counts.LinkTo(tap, s_propagate);
                broadcast.LinkTo(stages.Parse, s_propagate);
                stages.Parse.LinkTo(stages.Io, s_propagate);
                stages.Io.LinkTo(stages.Completion, s_propagate);
                return stages.Notify;
            },
        });
        Negotiate(rig);
        rig.Queue.Start();
        new VerifiedLoad(rig.Queue).Run(Requests, 32);
        Eventually.Holds(() => Volatile.Read(ref tapped) == Requests, $"the tap saw {Requests} requests");
        rig.Queue.Stop();
    }

    [Theory]
    [InlineData(1)]
    [InlineData(32)]
    public void Reports_at_the_end_add_up_to_all_requests(int depth)
    {
        int reported = 0;
        int calls = 0;
        var reports = new ActionBlock<BurstReport>(report =>
        {
            reported += report.Completions;
            calls += report.Called ? 1 : 0;
        });
        using var image = new TemporaryImage();
        using var rig = new DeviceRig(image.Open(), new BlkDeviceOptions { Cache = CacheMode.Writeback, Assembly = With(reports) });
        Negotiate(rig);
        rig.Queue.Start();
        new VerifiedLoad(rig.Queue).Run(Requests, depth);
        rig.Queue.Stop();
        // The end of the queue is the end of the reports.
        Eventually.Ends(reports.Completion, "the reports complete");
        Assert.Equal(Requests, reported);
        Assert.InRange(calls, 1, Requests);
    }

    [Fact]
    public void Reports_can_be_received_from_a_buffer()
    {
        var reports = new BufferBlock<BurstReport>();
        using var image = new TemporaryImage();
        using var rig = new DeviceRig(image.Open(), new BlkDeviceOptions { Cache = CacheMode.Writeback, Assembly = With(reports) });
        Negotiate(rig);
        rig.Queue.Start();
        new VerifiedLoad(rig.Queue).Run(Requests, 32);
        rig.Queue.Stop();
        int reported = 0;
        while (Eventually.Returns(() => reports.OutputAvailableAsync().GetAwaiter().GetResult(), "a report or the end"))
        {
            reported += reports.Receive().Completions;
        }

        Assert.Equal(Requests, reported);
    }

    [Fact]
    public void Every_stage_completes_when_its_queue_stops_and_the_device_goes_away()
    {
        for (int i = 0; i < 30; i++)
        {
            PipelineStages? stages = null;
            using var image = new TemporaryImage();
            using var rig = new DeviceRig(image.Open(), new BlkDeviceOptions
            {
                Assembly = all =>
                {
                    stages = all;
                    return s_assemblies["every_hop_buffered"](all);
                },
            });
            rig.Queue.Start();
            rig.Queue.Do(BlkRequestType.VIRTIO_BLK_T_FLUSH, 0);
            rig.Queue.Stop();
            rig.Detach();
            Eventually.Ends(
                Task.WhenAll(stages!.Notify.Completion, stages.Parse.Completion, stages.Io.Completion, stages.Completion.Completion),
                "all four stages complete");
        }
    }

    private static PipelineAssembly With(ITargetBlock<BurstReport> reports) => stages =>
    {
        stages.Completion.LinkTo(reports, s_propagate);
        return PipelineAssemblies.Direct(stages);
    };

    // Null stands for a direct link.
    private static NotifyBlock Between(
        PipelineStages stages,
        IPropagatorBlock<RequestBatch, RequestBatch>? afterNotify,
        IPropagatorBlock<RequestBatch, RequestBatch>? afterParse,
        IPropagatorBlock<CompletionBurst, CompletionBurst>? afterIo)
    {
        Link(stages.Notify, afterNotify, stages.Parse);
        Link(stages.Parse, afterParse, stages.Io);
        Link(stages.Io, afterIo, stages.Completion);
        return stages.Notify;
    }

    private static void Link<T>(ISourceBlock<T> source, IPropagatorBlock<T, T>? between, ITargetBlock<T> target)
    {
        if (between == null)
        {
            source.LinkTo(target, s_propagate);
            return;
        }

        source.LinkTo(between, s_propagate);
        between.LinkTo(target, s_propagate);
    }

    // Writeback, so that thousands of writes are not thousands of syncs.
    private static void Negotiate(DeviceRig rig) => Assert.True(rig.Device.TrySetFeatures(rig.Device.OfferedFeatures));
}
