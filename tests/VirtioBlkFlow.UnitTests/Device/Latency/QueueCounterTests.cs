using VirtioBlkFlow.Device;
using VirtioBlkFlow.Device.Latency;
using VirtioBlkFlow.Device.Reactor;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio.Blk;
using Xunit;
using static VirtioBlkFlow.Virtio.Blk.BlkRequestType;

namespace VirtioBlkFlow.UnitTests.Device.Latency;

/// <summary>What a queue counts of what it does.</summary>
public sealed class QueueCounterTests
{
    [Fact]
    public void Requests_are_counted_by_type_bytes_by_direction_and_errors_by_status()
    {
        using var image = new TemporaryImage();
        using var rig = new DeviceRig(image.Open(), new BlkDeviceOptions { Cache = CacheMode.Writeback });
        Assert.True(rig.Device.TrySetFeatures(rig.Device.OfferedFeatures));
        rig.Queue.Start();
        rig.Queue.Do(VIRTIO_BLK_T_IN, 0, 4096);
        rig.Queue.Do(VIRTIO_BLK_T_IN, 0, 512);
        rig.Queue.Do(VIRTIO_BLK_T_OUT, 8, 2048);
        rig.Queue.Do(VIRTIO_BLK_T_FLUSH, 0);
        rig.Queue.Do(VIRTIO_BLK_T_GET_ID, 0, 20);
        // Beyond the end; of a type that there is not, below and above what has a counter; no request at all.
        rig.Queue.Do(VIRTIO_BLK_T_IN, 1 << 30, 512);
        rig.Queue.Do(VIRTIO_BLK_T_OUT, 1 << 30, 512);
        rig.Queue.Do((BlkRequestType)27, 0);
        rig.Queue.Do((BlkRequestType)0xffff_ffff, 0);
        RequestArea area = rig.Queue.TakeArea();
        rig.Queue.AddChain(area, [DriverBuffer.Readable(area.DataAddress, 3), area.Status]);
        rig.Queue.Publish();
        rig.Queue.Take();
        rig.Queue.Stop();
        QueueCounts counts = Assert.Single(rig.Device.Measure()).Counts;
        Assert.Equal(3u, counts.RequestsOf(VIRTIO_BLK_T_IN));
        Assert.Equal(2u, counts.RequestsOf(VIRTIO_BLK_T_OUT));
        Assert.Equal(1u, counts.RequestsOf(VIRTIO_BLK_T_FLUSH));
        Assert.Equal(1u, counts.RequestsOf(VIRTIO_BLK_T_GET_ID));
        Assert.Equal(0u, counts.RequestsOf(VIRTIO_BLK_T_DISCARD));
        Assert.Equal(1u, counts.RequestsOf((BlkRequestType)27));
        Assert.Equal(2u, counts.RequestsOf((BlkRequestType)0xffff_ffff));
        Assert.Equal(10u, counts.TotalRequests);
        Assert.Equal(4096u + 512, counts.BytesRead);
        Assert.Equal(2048u, counts.BytesWritten);
        Assert.Equal(3u, counts.ErrorsOf(BlkStatus.VIRTIO_BLK_S_IOERR));
        Assert.Equal(2u, counts.ErrorsOf(BlkStatus.VIRTIO_BLK_S_UNSUPP));
        Assert.Equal(0u, counts.ErrorsOf(BlkStatus.VIRTIO_BLK_S_OK));
        Assert.Equal(5u, counts.TotalErrors);
    }

    [Fact]
    public void Batches_bursts_kicks_and_calls_are_counted()
    {
        using var disk = new HeldDisk();
        using var rig = new DeviceRig(disk, new BlkDeviceOptions { Polling = PollMode.Never });
        rig.Queue.Start();
        for (int i = 0; i < 5; i++)
        {
            rig.Queue.Add(VIRTIO_BLK_T_IN, 0, 512);
            rig.Queue.Add(VIRTIO_BLK_T_IN, 0, 512);
        }

        rig.Queue.Publish();
        Eventually.Holds(() => disk.SubmittedCount == 10, "they are submitted");
        rig.OnReactor(disk.EndAll);
        for (int i = 0; i < 10; i++)
        {
            rig.Queue.Take();
        }

        // The driver sleeps on the call after each burst, and the device on the kick, in turns.
        const int Rounds = 6;
        for (int i = 0; i < Rounds; i++)
        {
            Assert.False(rig.Queue.Ring.RequestCalls());
            rig.Queue.Add(VIRTIO_BLK_T_IN, 0, 512);
            rig.Queue.Publish();
            Eventually.Holds(() => disk.SubmittedCount == 11 + i, "it is submitted");
            rig.OnReactor(disk.EndAll);
            rig.Queue.Take();
        }

        rig.Queue.Stop();
        QueueMeasurement queue = Assert.Single(rig.Device.Measure());
        Assert.Equal(1u + Rounds, queue.Counts.Batches);
        Assert.Equal(1u + Rounds, queue.Counts.Bursts);
        Assert.InRange(queue.Counts.Calls, (ulong)Rounds, 1u + Rounds);
        // One for what stands in the descriptor at the start, whatever comes later; some may have been seen together.
        Assert.InRange(queue.Counts.Kicks, 1u, 1u + Rounds);
        Assert.Equal(0u, queue.Thread.Spins);
        Assert.InRange(queue.Thread.Sleeps, (ulong)Rounds, ulong.MaxValue);
        Assert.InRange(queue.Thread.SystemCalls, queue.Thread.Sleeps, ulong.MaxValue);
    }

    [Fact]
    public void Counters_go_on_over_a_stop_and_another_front_end()
    {
        using var image = new TemporaryImage();
        using var rig = new DeviceRig(image.Open(), new BlkDeviceOptions { StageLatency = StageLatency.All }, queueCount: 2);
        Assert.Empty(rig.Device.Measure());
        rig.Queue.Start();
        rig.Queue.Do(VIRTIO_BLK_T_IN, 0, 512);
        ushort next = rig.Queue.Stop();
        rig.Queue.Start(next);
        rig.Queue.Do(VIRTIO_BLK_T_IN, 0, 512);
        next = rig.Queue.Stop();
        QueueMeasurement before = Assert.Single(rig.Device.Measure());
        Assert.Equal(2u, before.Counts.TotalRequests);
        Assert.Equal(2u, before.Stages![(int)LatencyStage.Call].Count);
        rig.Device.Detached();
        rig.Device.Attached(rig);
        rig.Queue.Start(next);
        rig.Queue.Do(VIRTIO_BLK_T_IN, 0, 512);
        rig.Queue.Stop();
        QueueMeasurement after = Assert.Single(rig.Device.Measure());
        Assert.Equal(0, after.Queue);
        Assert.Equal(3u, after.Counts.TotalRequests);
        Assert.Equal(3u, after.Stages![(int)LatencyStage.Call].Count);
        Assert.True(after.Thread.SystemCalls > before.Thread.SystemCalls, $"{after.Thread.SystemCalls} system calls after {before.Thread.SystemCalls}.");
    }

    [Fact]
    public void Spins_are_counted_with_those_that_found_something()
    {
        using var image = new TemporaryImage();
        using var rig = new DeviceRig(image.Open(), new BlkDeviceOptions { Polling = PollMode.Always });
        rig.Queue.Start();
        rig.Queue.Do(VIRTIO_BLK_T_IN, 0, 512);
        // Without a queue to look at, before its start and after its stop, there is nothing to spin for.
        ulong sleeps = Assert.Single(rig.Device.Measure()).Thread.Sleeps;
        for (int i = 0; i < 10; i++)
        {
            rig.Queue.Do(VIRTIO_BLK_T_IN, 0, 512);
        }

        rig.OnReactor(static () => { });
        Assert.Equal(sleeps, Assert.Single(rig.Device.Measure()).Thread.Sleeps);
        rig.Queue.Stop();
        ThreadCounts thread = Assert.Single(rig.Device.Measure()).Thread;
        // A spin for ever ends when there is something, and each command is something too.
        Assert.InRange(thread.FruitfulSpins, 1u, ulong.MaxValue);
        Assert.Equal(thread.Spins, thread.FruitfulSpins);
    }
}
