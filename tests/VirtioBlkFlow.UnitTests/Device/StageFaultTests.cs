using System.Threading.Tasks.Dataflow;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.Device.Pipeline;
using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.Virtio.Blk;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Device;

/// <summary>A stage that fails takes its queue down, and nothing else.</summary>
public sealed class StageFaultTests
{
    private static readonly DataflowLinkOptions s_propagate = new() { PropagateCompletion = true };

    [Fact]
    public void A_linked_block_that_throws_breaks_its_queue_and_no_other()
    {
        using var image = new TemporaryImage();
        using var rig = new DeviceRig(
            image.Open(),
            new BlkDeviceOptions { Assembly = stages => stages.QueueIndex == 0 ? ThrowingBetweenParseAndIo(stages) : PipelineAssemblies.Direct(stages) },
            queueCount: 2);
        rig.Queues[0].Start();
        rig.Queues[1].Start();
        rig.Queues[0].Add(BlkRequestType.VIRTIO_BLK_T_IN, 0, 512);
        rig.Queues[0].Publish();
        AssertBroken(rig, 0);
        Assert.Equal((byte)BlkStatus.VIRTIO_BLK_S_OK, rig.Queues[1].Do(BlkRequestType.VIRTIO_BLK_T_IN, 0, 512).Status);
        Assert.Equal(1, Eventually.Returns(rig.Queues[0].Stop, "the broken queue stops"));
        Assert.Equal(1, Eventually.Returns(rig.Queues[1].Stop, "the other queue stops"));
    }

    [Fact]
    public void A_stage_that_throws_breaks_its_queue_once()
    {
        using var disk = new HeldDisk { ThrowsOnSubmit = true };
        using var rig = new DeviceRig(disk);
        rig.Queue.Start();
        for (int i = 0; i < 5; i++)
        {
            rig.Queue.Add(BlkRequestType.VIRTIO_BLK_T_IN, 0, 512);
            rig.Queue.Publish();
        }

        AssertBroken(rig, 0);
        rig.LetTurnsPass();
        Assert.Equal([0], rig.Broken);
        Assert.Equal(1ul, rig.Queue.Error.Take());
        // What the disk never took is not waited for.
        Eventually.Returns(rig.Queue.Stop, "the broken queue stops");
    }

    [Fact]
    public void Requests_of_a_batch_that_the_disk_never_took_are_not_waited_for()
    {
        using var disk = new HeldDisk { ThrowsOnSubmit = true };
        using var rig = new DeviceRig(disk);
        for (int i = 0; i < 5; i++)
        {
            rig.Queue.Add(BlkRequestType.VIRTIO_BLK_T_IN, 0, 512);
        }

        // All of them in one batch, as they are there before the queue starts.
        rig.Queue.Publish();
        rig.Queue.Start();
        AssertBroken(rig, 0);
        Assert.Equal(5, Eventually.Returns(rig.Queue.Stop, "the broken queue stops"));
    }

    [Fact]
    public void Stopping_a_faulted_queue_waits_for_what_the_disk_still_has()
    {
        using var disk = new HeldDisk();
        PipelineStages? stages = null;
        using var rig = new DeviceRig(disk, new BlkDeviceOptions
        {
            Assembly = all =>
            {
                stages = all;
                return PipelineAssemblies.Direct(all);
            },
        });
        rig.Queue.Start();
        rig.Queue.Add(BlkRequestType.VIRTIO_BLK_T_IN, 0, 512);
        rig.Queue.Publish();
        Eventually.Holds(() => disk.SubmittedCount == 1, "the disk has the request");
        stages!.Parse.Fault(new InvalidDataException("from outside"));
        AssertBroken(rig, 0);
        Task<ushort> stop = Task.Run(rig.Queue.Stop);
        rig.LetTurnsPass();
        Assert.False(stop.IsCompleted);
        Assert.False(stages.Io.Completion.IsCompleted);
        rig.OnReactor(() => disk.End());
        Eventually.Ends(stop, "the queue stops");
        // The completion stage was sound: the request was answered.
        Assert.True(rig.Queue.TryTake(out Answer answer));
        Assert.Equal((byte)BlkStatus.VIRTIO_BLK_S_OK, answer.Status);
        Eventually.Holds(() => stages.Io.Completion.IsFaulted, "the fault went on to the next stage");
    }

    [Fact]
    public void A_batch_that_arrives_after_the_end_of_a_faulted_queue_is_dropped()
    {
        using var disk = new HeldDisk();
        using var hold = new ManualResetEventSlim();
        using var arrived = new ManualResetEventSlim();
        PipelineStages? stages = null;
        using var rig = new DeviceRig(disk, new BlkDeviceOptions
        {
            Assembly = all =>
            {
                stages = all;
                var slow = new TransformBlock<RequestBatch, RequestBatch>(batch =>
                {
                    arrived.Set();
                    hold.Wait(Eventually.PatienceMs);
                    return batch;
                });
                all.Notify.LinkTo(all.Parse);
                all.Parse.LinkTo(slow);
                slow.LinkTo(all.Io);
                all.Io.LinkTo(all.Completion);
                return all.Notify;
            },
        });
        rig.Queue.Start();
        RequestArea area = rig.Queue.Add(BlkRequestType.VIRTIO_BLK_T_OUT, 0, 512);
        rig.Queue.Publish();
        Assert.True(arrived.Wait(Eventually.PatienceMs));
        stages!.Notify.Fault(new InvalidDataException("from outside"));
        AssertBroken(rig, 0);
        Eventually.Returns(rig.Queue.Stop, "the queue stops");
        hold.Set();
        // A second run of the queue proves that turns have passed.
        rig.Queue.Start(1);
        rig.LetTurnsPass();
        Assert.Equal(0, disk.SubmittedCount);
        Assert.False(rig.Queue.Ring.HasUsed);
        Assert.Equal(RequestArea.NoStatus, area.StatusByte);
        rig.Queue.Stop();
    }

    [Fact]
    public void A_batch_that_is_let_go_while_a_faulted_queue_ends_is_dropped()
    {
        using var disk = new HeldDisk();
        FlushingEntry? entry = null;
        PipelineStages? stages = null;
        using var rig = new DeviceRig(disk, new BlkDeviceOptions
        {
            Assembly = all =>
            {
                stages = all;
                all.Notify.LinkTo(all.Parse);
                all.Io.LinkTo(all.Completion);
                entry = new FlushingEntry(all);
                return entry;
            },
        });
        rig.Queue.Start();
        rig.Queue.Add(BlkRequestType.VIRTIO_BLK_T_OUT, 0, 512);
        rig.Queue.Publish();
        Eventually.Holds(() => rig.OnReactor(entry!.TryHold), "a batch waits before the I/O stage");
        stages!.Notify.Fault(new InvalidDataException("from outside"));
        AssertBroken(rig, 0);
        Eventually.Returns(rig.Queue.Stop, "the queue stops");
        rig.Queue.Start(1);
        rig.LetTurnsPass();
        Assert.Equal(0, disk.SubmittedCount);
        rig.Queue.Stop();
    }

    [Fact]
    public void A_queue_that_failed_can_be_started_anew()
    {
        using var image = new TemporaryImage();
        bool fail = true;
        using var rig = new DeviceRig(image.Open(), new BlkDeviceOptions
        {
            Assembly = stages => fail ? ThrowingBetweenParseAndIo(stages) : PipelineAssemblies.Direct(stages),
        });
        rig.Queue.Start();
        rig.Queue.Add(BlkRequestType.VIRTIO_BLK_T_IN, 0, 512);
        rig.Queue.Publish();
        AssertBroken(rig, 0);
        ushort next = Eventually.Returns(rig.Queue.Stop, "the queue stops");
        fail = false;
        rig.Queue.Start(next);
        Assert.Equal((byte)BlkStatus.VIRTIO_BLK_S_OK, rig.Queue.Do(BlkRequestType.VIRTIO_BLK_T_IN, 0, 512).Status);
        rig.Queue.Stop();
    }

    private static NotifyBlock ThrowingBetweenParseAndIo(PipelineStages stages)
    {
        var throwing = new TransformBlock<RequestBatch, RequestBatch>(
            RequestBatch (_) => throw new InvalidDataException("The linked block throws."));
        stages.Notify.LinkTo(stages.Parse, s_propagate);
        stages.Parse.LinkTo(throwing, s_propagate);
        throwing.LinkTo(stages.Io, s_propagate);
        stages.Io.LinkTo(stages.Completion, s_propagate);
        return stages.Notify;
    }

    private static void AssertBroken(DeviceRig rig, int queue)
    {
        Assert.True(rig.Queues[queue].Error.Wait(Deadline.In(Eventually.PatienceMs)), "The error descriptor was not signalled.");
        Eventually.Holds(() => rig.Broken.Contains(queue), "the queue is reported as broken");
    }

    /// <summary>An entry that holds a batch back, and lets it go when it is told of the end, as a stock BatchBlock does.</summary>
    private sealed class FlushingEntry(PipelineStages stages) : ITargetBlock<QueueKick>
    {
        private RequestBatch? _held;

        public Task Completion => stages.Notify.Completion;

        public bool TryHold() => _held != null || stages.Parse.TryReceive(null, out _held!);

        public DataflowMessageStatus OfferMessage(
            DataflowMessageHeader messageHeader, QueueKick messageValue, ISourceBlock<QueueKick>? source, bool consumeToAccept) =>
            ((ITargetBlock<QueueKick>)stages.Notify).OfferMessage(messageHeader, messageValue, source, consumeToAccept);

        public void Complete()
        {
            if (_held != null)
            {
                stages.Io.Post(_held);
            }
        }

        public void Fault(Exception exception) => Complete();
    }
}
