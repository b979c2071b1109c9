using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Ring;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Virtio;

/// <summary>
/// Two threads that really sleep: a driver that kicks only when it must, a device that calls only when it must. A lost wake-up
/// shows as a wait that meets its deadline, not as a hang.
/// </summary>
public sealed class WakeUpRaceTests
{
    private const int Requests = 60_000;
    private const int DeadlineMs = 10_000;

    [Theory]
    [InlineData(VirtioFeatures.None, 1, 1)]
    [InlineData(VirtioFeatures.None, 64, 2)]
    [InlineData(VirtioFeatures.VIRTIO_RING_F_EVENT_IDX, 1, 3)]
    [InlineData(VirtioFeatures.VIRTIO_RING_F_EVENT_IDX, 64, 4)]
    [InlineData(VirtioFeatures.VIRTIO_F_RING_PACKED, 1, 5)]
    [InlineData(VirtioFeatures.VIRTIO_F_RING_PACKED, 63, 6)]
    [InlineData(VirtioFeatures.VIRTIO_F_RING_PACKED | VirtioFeatures.VIRTIO_RING_F_EVENT_IDX, 1, 7)]
    [InlineData(VirtioFeatures.VIRTIO_F_RING_PACKED | VirtioFeatures.VIRTIO_RING_F_EVENT_IDX, 63, 8)]
    public async Task No_wake_up_is_lost(VirtioFeatures features, int queueSize, int seed)
    {
        using var pair = new VirtqueuePair(queueSize, features);
        using var kick = new EventDescriptor();
        using var call = new EventDescriptor();
        using var stop = new CancellationTokenSource();
        Task<string?> device = Task.Factory.StartNew(
            () => RunDevice(pair.Device, kick, call, new Random(seed), stop.Token), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        Task<string?> driver = Task.Factory.StartNew(
            () => RunDriver(pair, kick, call, new Random(seed + 100)), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        string? driverResult = await driver;
        stop.Cancel();
        kick.Signal();
        string? deviceResult = await device;
        Assert.Null(driverResult);
        Assert.Null(deviceResult);
    }

    private static string? RunDriver(VirtqueuePair pair, EventDescriptor kick, EventDescriptor call, Random random)
    {
        IVirtqueueDriver ring = pair.Driver;
        int added = 0;
        int taken = 0;
        while (taken < Requests)
        {
            for (int burst = random.Next(1, 9); burst > 0 && added < Requests && ring.TryAdd([DriverBuffer.Writable(0, 1)], out _); burst--)
            {
                added++;
            }

            if (ring.Publish())
            {
                kick.Signal();
            }

            Pause(random);
            ring.SuppressCalls();
            while (ring.TryTakeUsed(out _, out _))
            {
                taken++;
            }

            if (taken < added && !ring.RequestCalls())
            {
                if (!call.Wait(Deadline.In(DeadlineMs)))
                {
                    return $"The driver waits for a call: {added} added, {taken} taken.";
                }

                call.Take();
            }
        }

        return null;
    }

    private static string? RunDevice(Virtqueue queue, EventDescriptor kick, EventDescriptor call, Random random, CancellationToken stop)
    {
        while (!stop.IsCancellationRequested)
        {
            queue.SuppressKicks();
            int used = 0;
            while (queue.TryPop(out DescriptorChain chain) == PopOutcome.Popped)
            {
                queue.AddUsed(chain.Slot, 1, 0);
                used++;
            }

            if (used > 0 && queue.PublishUsed())
            {
                call.Signal();
            }

            Pause(random);
            if (!queue.RequestKicks())
            {
                if (!kick.Wait(Deadline.In(DeadlineMs)))
                {
                    return $"The device waits for a kick: {queue.Position}.";
                }

                kick.Take();
            }
        }

        return null;
    }

    // Moves the two threads against each other; about as long as the windows to hit.
    private static void Pause(Random random)
    {
        if (random.Next(4) == 0)
        {
            Thread.SpinWait(random.Next(200));
        }
    }
}
