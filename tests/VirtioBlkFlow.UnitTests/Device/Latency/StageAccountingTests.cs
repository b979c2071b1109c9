using System.Diagnostics;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.Device.Latency;
using VirtioBlkFlow.Device.Reactor;
using VirtioBlkFlow.Virtio.Blk;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Device.Latency;

/// <summary>Each request is counted once in each stage, and its time goes to the stage it was in.</summary>
public sealed class StageAccountingTests
{
    private const BlkRequestType In = BlkRequestType.VIRTIO_BLK_T_IN;

    private static readonly BlkDeviceOptions s_all = new() { StageLatency = StageLatency.All };

    [Theory]
    [InlineData(PollMode.Adaptive, 1)]
    [InlineData(PollMode.Adaptive, 32)]
    [InlineData(PollMode.Always, 7)]
    [InlineData(PollMode.Never, 32)]
    public void Each_request_is_counted_once_in_each_stage(PollMode mode, int depth)
    {
        const int Requests = 3000;
        using var image = new TemporaryImage();
        using var rig = new DeviceRig(image.Open(), s_all with { Polling = mode, Cache = CacheMode.Writeback });
        Assert.True(rig.Device.TrySetFeatures(rig.Device.OfferedFeatures));
        rig.Queue.Start();
        new VerifiedLoad(rig.Queue).Run(Requests, depth);
        // What needs no disk goes through all stages too.
        Assert.Equal((byte)BlkStatus.VIRTIO_BLK_S_IOERR, rig.Queue.Do(In, ulong.MaxValue / 1024, 512).Status);
        rig.Queue.Do(BlkRequestType.VIRTIO_BLK_T_GET_ID, 0, 20);
        RequireEachStageHas(rig, Requests + 2);
        rig.Queue.Stop();
        RequireEachStageHas(rig, Requests + 2);
    }

    [Fact]
    public void Requests_that_end_one_by_one_are_counted_as_they_end()
    {
        using var disk = new HeldDisk();
        using var rig = new DeviceRig(disk, s_all);
        rig.Queue.Start();
        Publish(rig, 5);
        Publish(rig, 3);
        Eventually.Holds(() => disk.SubmittedCount == 8, "all are submitted");
        rig.LetTurnsPass();
        Assert.Equal(8u, Stage(rig, LatencyStage.Parse).Count);
        Assert.Equal(0u, Stage(rig, LatencyStage.Kernel).Count);
        // From both batches, in the wrong order.
        int ended = 0;
        foreach (int position in new[] { 6, 0, 3, 4, 0, 1, 1, 0 })
        {
            rig.OnReactor(() => disk.End(position));
            ended++;
            Eventually.Holds(() => Stage(rig, LatencyStage.Call).Count == (ulong)ended, $"{ended} are returned");
            Assert.Equal((ulong)ended, Stage(rig, LatencyStage.Kernel).Count);
            Assert.Equal((ulong)ended, Stage(rig, LatencyStage.Completion).Count);
        }

        RequireEachStageHas(rig, 8);
        rig.Queue.Stop();
    }

    [Fact]
    public void The_time_a_disk_takes_is_the_kernels()
    {
        using var disk = new HeldDisk();
        using var rig = new DeviceRig(disk, s_all);
        rig.Queue.Start();
        Publish(rig, 1);
        Eventually.Holds(() => disk.SubmittedCount == 1, "it is submitted");
        long held = Elapse(rig, () => rig.OnReactor(() => disk.End()));
        rig.Queue.Take();
        RequireEachStageHas(rig, 1);
        RequireLongest(rig, LatencyStage.Kernel, held);
        rig.Queue.Stop();
    }

    [Fact]
    public void The_time_until_a_batch_is_free_is_that_of_waiting_for_a_slot()
    {
        using var disk = new HeldDisk();
        using var rig = new DeviceRig(disk, s_all with { Parallelism = 1 });
        rig.Queue.Start();
        Publish(rig, 1);
        Eventually.Holds(() => disk.SubmittedCount == 1, "the first is submitted");
        rig.LetTurnsPass();
        Publish(rig, 2);
        long waited = Elapse(rig, () => rig.OnReactor(() => disk.End()));
        Eventually.Holds(() => disk.SubmittedCount == 3, "the others follow");
        LatencyHistogram slot = Stage(rig, LatencyStage.Slot);
        Assert.Equal(2u, slot.Count - slot.CountUpTo(0));
        Assert.True(slot.MaxNanoseconds >= waited, $"Waited for {waited} ns, and counted as {slot.MaxNanoseconds} ns.");
        // The first had a slot at once; the others had not to wait for anything else.
        LatencyHistogram ring = Stage(rig, LatencyStage.Ring);
        Assert.InRange(ring.CountUpTo(0), 2u, 3u);
        rig.OnReactor(disk.EndAll);
        rig.Queue.Stop();
    }

    [Fact]
    public void The_time_for_which_the_thread_is_busy_is_the_rings()
    {
        using var disk = new HeldDisk();
        using var rig = new DeviceRig(disk, s_all);
        rig.Queue.Start();
        using var busy = new ManualResetEventSlim();
        using var release = new ManualResetEventSlim();
        Task task = Task.Run(() => rig.OnReactor(() =>
        {
            busy.Set();
            Assert.True(release.Wait(Eventually.PatienceMs));
        }));
        Assert.True(busy.Wait(Eventually.PatienceMs));
        Publish(rig, 3);
        long start = Stopwatch.GetTimestamp();
        Thread.Yield();
        long waited = Stopwatch.GetTimestamp() - start;
        release.Set();
        Eventually.Ends(task, "the thread is busy no more");
        Eventually.Holds(() => disk.SubmittedCount == 3, "they are popped");
        rig.OnReactor(disk.EndAll);
        RequireEachStageHas(rig, 3);
        RequireLongest(rig, LatencyStage.Ring, waited);
        Assert.Equal(3u, Stage(rig, LatencyStage.Slot).CountUpTo(0));
        rig.Queue.Stop();
    }

    [Fact]
    public void Batches_that_end_a_sleep_are_all_in_the_sample()
    {
        using var disk = new HeldDisk();
        using var rig = new DeviceRig(disk, new BlkDeviceOptions { Polling = PollMode.Never });
        rig.Queue.Start();
        ulong sleeps = rig.OnReactor(() => Sleeps(rig));
        for (int i = 1; i <= 20; i++)
        {
            Eventually.Holds(() => Sleeps(rig) > sleeps, "the thread has gone to sleep");
            Publish(rig, i);
            Eventually.Holds(() => disk.SubmittedCount == i * (i + 1) / 2, "a batch is submitted");
            sleeps = rig.OnReactor(() =>
            {
                disk.EndAll();
                return Sleeps(rig);
            });
            for (int j = 0; j < i; j++)
            {
                rig.Queue.Take();
            }
        }

        RequireEachStageHas(rig, 210);
        rig.Queue.Stop();
    }

    [Fact]
    public void Switched_off_nothing_is_kept_but_counters()
    {
        using var image = new TemporaryImage();
        using var rig = new DeviceRig(image.Open(), new BlkDeviceOptions { StageLatency = StageLatency.Off, Cache = CacheMode.Writeback });
        Assert.True(rig.Device.TrySetFeatures(rig.Device.OfferedFeatures));
        rig.Queue.Start();
        new VerifiedLoad(rig.Queue).Run(500, 8);
        rig.Queue.Stop();
        QueueMeasurement queue = Assert.Single(rig.Device.Measure());
        Assert.Null(queue.Stages);
        Assert.Equal(500u, queue.Counts.TotalRequests);
    }

    // A little of real time, and a lower bound of it: from a moment after the beginning to one before the end.
    private static long Elapse(DeviceRig rig, Action end)
    {
        long start = Stopwatch.GetTimestamp();
        rig.LetTurnsPass();
        long elapsed = Stopwatch.GetTimestamp() - start;
        end();
        return elapsed;
    }

    private static ulong Sleeps(DeviceRig rig) => Assert.Single(rig.Device.Measure()).Thread.Sleeps;

    private static void Publish(DeviceRig rig, int requests)
    {
        for (int i = 0; i < requests; i++)
        {
            rig.Queue.Add(In, 0, 512);
        }

        rig.Queue.Publish();
    }

    private static LatencyHistogram Stage(DeviceRig rig, LatencyStage stage) => Assert.Single(rig.Device.Measure()).Stages![(int)stage];

    // The driver sees a request before the last stages are counted.
    private static void RequireEachStageHas(DeviceRig rig, int requests)
    {
        Eventually.Holds(() => Stage(rig, LatencyStage.Call).Count >= (ulong)requests, "the last stage is counted");
        foreach (LatencyStage stage in Enum.GetValues<LatencyStage>())
        {
            Assert.Equal((stage, (ulong)requests), (stage, Stage(rig, stage).Count));
        }
    }

    private static void RequireLongest(DeviceRig rig, LatencyStage expected, long atLeastNanoseconds)
    {
        long longest = Stage(rig, expected).MaxNanoseconds;
        Assert.True(longest >= atLeastNanoseconds, $"At least {atLeastNanoseconds} ns, and counted as {longest} ns.");
    }
}
