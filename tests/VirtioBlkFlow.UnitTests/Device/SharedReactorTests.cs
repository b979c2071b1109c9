using Microsoft.Extensions.Logging.Abstractions;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.Device.Reactor;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.VhostUser;
using VirtioBlkFlow.Virtio.Blk;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Device;

/// <summary>Fewer reactors than queues: of one device, and of several.</summary>
public sealed class SharedReactorTests
{
    private const BlkRequestType In = BlkRequestType.VIRTIO_BLK_T_IN;

    public static TheoryData<IoEngineKind, PollMode> EnginesAndModes => RunningDeviceTests.EnginesAndModes;

    [Theory]
    [MemberData(nameof(EnginesAndModes))]
    public void Queues_that_share_reactors_serve_each_its_own_requests(IoEngineKind engine, PollMode mode)
    {
        const int QueueCount = 5;
        using ReactorPool pool = PoolOf(2, engine, mode);
        // A disk for each queue, so that what reaches the wrong one is seen.
        List<(TemporaryImage Image, DeviceRig Rig)> devices = [];
        try
        {
            for (int i = 0; i < QueueCount; i++)
            {
                var image = new TemporaryImage();
                var rig = new DeviceRig(image.Open(), new BlkDeviceOptions { Cache = CacheMode.Writeback, Reactors = pool });
                devices.Add((image, rig));
                Assert.True(rig.Device.TrySetFeatures(rig.Device.OfferedFeatures));
                rig.Queue.Start();
            }

            Eventually.Returns(
                () => Parallel.ForEach(
                    devices,
                    new ParallelOptions { MaxDegreeOfParallelism = QueueCount },
                    (device, _, i) => new VerifiedLoad(device.Rig.Queue, seed: (int)i + 1).Run(1500, 16)),
                "the load ends");
            string[] threads = [.. devices.Select(device => device.Rig.OnReactor(() => Thread.CurrentThread.Name!)).Distinct().Order()];
            Assert.Equal(["reactor-0", "reactor-1"], threads);
            devices.ForEach(device => device.Rig.Queue.Stop());
        }
        finally
        {
            foreach ((TemporaryImage image, DeviceRig rig) in devices)
            {
                rig.Dispose();
                image.Dispose();
            }
        }
    }

    [Fact]
    public void A_queue_whose_disk_hangs_keeps_neither_requests_nor_commands_of_its_neighbour_waiting()
    {
        using ReactorPool pool = PoolOf(1, IoEngineKind.IoUring, PollMode.Adaptive);
        using var held = new HeldDisk();
        using var hung = new DeviceRig(held, new BlkDeviceOptions { Reactors = pool });
        using var image = new TemporaryImage();
        using var rig = new DeviceRig(image.Open(), new BlkDeviceOptions { Reactors = pool });
        hung.Queue.Start();
        hung.Queue.Add(In, 0, 512);
        hung.Queue.Publish();
        Eventually.Holds(() => held.SubmittedCount == 1, "the request hangs");
        Task<ushort> stopping = Task.Run(hung.Queue.Stop);
        for (ushort round = 0; round < 3; round++)
        {
            // The second queue to enter has the larger number, and the share of the engine that goes with it.
            rig.Queue.Start(round);
            Assert.Equal((byte)BlkStatus.VIRTIO_BLK_S_OK, rig.Queue.Do(In, 0, 512).Status);
            Assert.Equal(round + 1, Eventually.Returns(rig.Queue.Stop, "the neighbour stops"));
        }

        Assert.False(stopping.IsCompleted);
        Task.Factory.StartNew(held.EndAll, CancellationToken.None, TaskCreationOptions.None, hung.SchedulerOf(0));
        Assert.Equal(1, Eventually.Result(stopping, "the hung queue stops"));
    }

    [Fact]
    public void A_queue_goes_to_the_reactor_with_the_fewest()
    {
        using ReactorPool pool = PoolOf(3, IoEngineKind.IoUring, PollMode.Never);
        List<ReactorLease> leases = [.. Enumerable.Range(0, 7).Select(_ => pool.Lease())];
        Assert.Equal([3, 2, 2], leases.GroupBy(lease => lease.Reactor).Select(group => group.Count()));
        QueueReactor freed = leases[1].Reactor;
        leases.Where(lease => lease.Reactor == freed).ToList().ForEach(lease => lease.Dispose());
        Assert.Equal([freed, freed], Enumerable.Range(0, 2).Select(_ => pool.Lease().Reactor));
    }

    [Fact]
    public void A_pinned_reactor_runs_on_its_processor_only()
    {
        int processor = Enumerable.Range(0, Processors.MaxCount).Last(Processors.IsUsable);
        using var image = new TemporaryImage();
        using var rig = new DeviceRig(image.Open(), new BlkDeviceOptions { Processors = [processor] }, queueCount: 2);
        foreach (DriverQueue queue in rig.Queues)
        {
            queue.Start();
            Assert.Equal((byte)BlkStatus.VIRTIO_BLK_S_OK, queue.Do(In, 0, 512).Status);
            string[] allowed = rig.OnReactor(() => File.ReadAllLines("/proc/thread-self/status"), queue.Index);
            Assert.Contains($"Cpus_allowed_list:\t{processor}", allowed);
            queue.Stop();
        }

        Assert.False(Processors.IsUsable(-1));
        Assert.False(Processors.IsUsable(Processors.MaxCount));
    }

    [Fact]
    public void A_processor_that_is_not_there_is_refused()
    {
        int missing = Enumerable.Range(0, Processors.MaxCount).First(processor => !Processors.IsUsable(processor));
        using var image = new TemporaryImage();
        using var rig = new DeviceRig(image.Open(), new BlkDeviceOptions { Processors = [missing] });
        var refusal = Assert.Throws<VhostUserRefusedException>(() => rig.Queue.Start());
        Assert.Contains($"Processor {missing}", refusal.Message, StringComparison.Ordinal);
    }

    private static ReactorPool PoolOf(int count, IoEngineKind engine, PollMode mode) =>
        new([.. Enumerable.Repeat(new ReactorOptions(engine, mode, Processor: null), count)], NullLogger.Instance);
}
