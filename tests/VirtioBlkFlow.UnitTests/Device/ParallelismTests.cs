using System.Collections.Concurrent;
using System.Threading.Tasks.Dataflow;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.Device.Pipeline;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Virtio.Blk;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Device;

/// <summary>How many batches are in flight, and what they wait for.</summary>
public sealed class ParallelismTests
{
    private const BlkRequestType In = BlkRequestType.VIRTIO_BLK_T_IN;

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(8)]
    public void While_all_batches_are_in_flight_requests_gather_in_the_ring(int parallelism)
    {
        var sizes = new ConcurrentQueue<int>();
        using var disk = new HeldDisk();
        using var rig = new DeviceRig(disk, new BlkDeviceOptions { Parallelism = parallelism, Assembly = Recording(sizes) });
        rig.Queue.Start();
        for (int i = 1; i <= parallelism; i++)
        {
            Publish(rig, 1);
            Eventually.Holds(() => disk.SubmittedCount == i, $"batch {i} is in flight");
        }

        Assert.Equal(Enumerable.Repeat(1, parallelism), sizes);
        // One by one, each with a kick, or so a driver would think.
        for (int i = 0; i < 7; i++)
        {
            Publish(rig, 1);
            rig.LetTurnsPass();
        }

        Assert.Equal(parallelism, disk.SubmittedCount);
        rig.OnReactor(() => disk.End());
        Eventually.Holds(() => disk.SubmittedCount == parallelism + 7, "the rest follows after a completion");
        Assert.Equal(7, sizes.Last());
        Assert.Equal(parallelism + 1, sizes.Count);
        rig.OnReactor(disk.EndAll);
        for (int i = 0; i < parallelism + 7; i++)
        {
            Assert.Equal((byte)BlkStatus.VIRTIO_BLK_S_OK, rig.Queue.Take().Status);
        }

        rig.Queue.Stop();
    }

    [Fact]
    public void A_batch_is_in_flight_until_its_last_request_ends()
    {
        using var disk = new HeldDisk();
        using var rig = new DeviceRig(disk, new BlkDeviceOptions { Parallelism = 1 });
        rig.Queue.Start();
        Publish(rig, 4);
        Eventually.Holds(() => disk.SubmittedCount == 4, "the batch is in flight");
        Publish(rig, 2);
        for (int i = 0; i < 3; i++)
        {
            rig.OnReactor(() => disk.End());
            rig.LetTurnsPass();
            Assert.Equal(4, disk.SubmittedCount);
        }

        rig.OnReactor(() => disk.End());
        Eventually.Holds(() => disk.SubmittedCount == 6, "the next batch follows");
        rig.OnReactor(disk.EndAll);
        rig.Queue.Stop();
    }

    [Theory]
    [InlineData(1)]
    [InlineData(8)]
    public void A_slow_request_does_not_delay_the_others_of_its_batch(int parallelism)
    {
        using var disk = new HeldDisk();
        using var rig = new DeviceRig(disk, new BlkDeviceOptions { Parallelism = parallelism });
        rig.Queue.Start();
        RequestArea slow = rig.Queue.Add(In, 0, 512);
        RequestArea second = rig.Queue.Add(In, 8, 512);
        RequestArea third = rig.Queue.Add(In, 16, 512);
        // An error is decided before the disk is asked; it does not wait either.
        RequestArea failed = rig.Queue.Add(In, ulong.MaxValue, 512);
        rig.Queue.Publish();
        Eventually.Holds(() => disk.SubmittedCount == 3, "the batch is in flight");
        rig.OnReactor(() => disk.End(position: 1));
        rig.OnReactor(() => disk.End(position: 1, DiskOutcome.Failed));
        Assert.Equal((failed, (byte)BlkStatus.VIRTIO_BLK_S_IOERR, 0u), Parts(rig.Queue.Take()));
        Assert.Equal((second, (byte)BlkStatus.VIRTIO_BLK_S_OK, 513u), Parts(rig.Queue.Take()));
        Assert.Equal((third, (byte)BlkStatus.VIRTIO_BLK_S_IOERR, 0u), Parts(rig.Queue.Take()));
        rig.LetTurnsPass();
        Assert.False(rig.Queue.TryTake(out _));
        Assert.Equal(RequestArea.NoStatus, slow.StatusByte);
        rig.OnReactor(() => disk.End());
        Assert.Equal((slow, (byte)BlkStatus.VIRTIO_BLK_S_OK, 513u), Parts(rig.Queue.Take()));
        rig.Queue.Stop();
    }

    [Fact]
    public void Completions_of_one_turn_are_one_burst_with_one_call()
    {
        var reports = new BufferBlock<BurstReport>();
        using var disk = new HeldDisk();
        using var rig = new DeviceRig(disk, new BlkDeviceOptions
        {
            Assembly = stages =>
            {
                stages.Completion.LinkTo(reports);
                return PipelineAssemblies.Direct(stages);
            },
        });
        rig.Queue.Start();
        Publish(rig, 10);
        Publish(rig, 10);
        Eventually.Holds(() => disk.SubmittedCount == 20, "all are in flight");
        rig.OnReactor(disk.EndAll);
        Eventually.Holds(() => reports.Count == 1, "the report arrives");
        rig.LetTurnsPass();
        Assert.Equal(new BurstReport(20, Called: true), Assert.Single(Received(reports)));
        Assert.Equal(1ul, rig.Queue.Call.Take());
        rig.Queue.Stop();
    }

    private static IList<BurstReport> Received(BufferBlock<BurstReport> reports) =>
        reports.TryReceiveAll(out IList<BurstReport>? all) ? all : [];

    private static (RequestArea Area, byte Status, uint UsedBytes) Parts(Answer answer) => (answer.Area, answer.Status, answer.UsedBytes);

    private static void Publish(DeviceRig rig, int count)
    {
        for (int i = 0; i < count; i++)
        {
            rig.Queue.Add(In, 0, 512);
        }

        rig.Queue.Publish();
    }

    private static PipelineAssembly Recording(ConcurrentQueue<int> sizes) => stages =>
    {
        var record = new TransformBlock<RequestBatch, RequestBatch>(
            batch =>
            {
                sizes.Enqueue(batch.Count);
                return batch;
            },
            new ExecutionDataflowBlockOptions { TaskScheduler = stages.Scheduler });
        stages.Notify.LinkTo(record);
        record.LinkTo(stages.Parse);
        stages.Parse.LinkTo(stages.Io);
        stages.Io.LinkTo(stages.Completion);
        return stages.Notify;
    };
}
