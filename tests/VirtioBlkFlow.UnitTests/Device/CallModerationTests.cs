using VirtioBlkFlow.Device;
using VirtioBlkFlow.Device.Reactor;
using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.Virtio.Blk;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Device;

/// <summary>Calls wait for more completions: never longer than they may, and never when nothing more can come.</summary>
public sealed class CallModerationTests
{
    private const int Long = CallModeration.MaxMicroseconds;

    public static TheoryData<PollMode> Modes => [.. Enum.GetValues<PollMode>()];

    [Fact]
    public void A_call_waits_for_its_number_of_completions()
    {
        using var disk = new HeldDisk();
        using var rig = new DeviceRig(disk, new BlkDeviceOptions { CallModeration = new CallModeration(Long, 3) });
        HoldRequests(rig, disk, 8);
        int calls = 0;
        for (int ended = 1; ended < 8; ended++)
        {
            rig.OnReactor(() => disk.End());
            rig.LetTurnsPass();
            calls += rig.Queue.Call.Wait(Deadline.In(0)) ? (int)rig.Queue.Call.Take() : 0;
            // The driver sees what was completed in any case.
            Assert.True(rig.Queue.TryTake(out _));
            Assert.False(rig.Queue.Ring.RequestCalls());
            Assert.Equal(ended / 3, calls);
        }

        rig.OnReactor(() => disk.End());
        rig.Queue.Take();
        rig.Queue.Stop();
    }

    [Fact]
    public void The_last_completion_calls_at_once()
    {
        using var disk = new HeldDisk();
        using var rig = new DeviceRig(disk, new BlkDeviceOptions { CallModeration = new CallModeration(Long, 100) });
        HoldRequests(rig, disk, 2);
        rig.OnReactor(() => disk.End());
        rig.LetTurnsPass();
        Assert.False(rig.Queue.Call.Wait(Deadline.In(0)));
        rig.OnReactor(() => disk.End());
        Assert.True(rig.Queue.Call.Wait(Deadline.In(DriverQueue.PatienceMs)));
        Assert.Equal(1ul, rig.Queue.Call.Take());
        rig.Queue.Stop();
    }

    [Theory]
    [MemberData(nameof(Modes))]
    public void A_call_waits_no_longer_than_it_may(PollMode mode)
    {
        using var disk = new HeldDisk();
        using var rig = new DeviceRig(disk, new BlkDeviceOptions { CallModeration = new CallModeration(5000, 100), Polling = mode });
        HoldRequests(rig, disk, 2);
        rig.OnReactor(() => disk.End());
        // Nothing else happens in this queue: only the time can bring this call.
        Assert.True(rig.Queue.Call.Wait(Deadline.In(DriverQueue.PatienceMs)));
        rig.OnReactor(disk.EndAll);
        rig.Queue.Stop();
    }

    [Fact]
    public void A_driver_that_wants_no_calls_gets_none()
    {
        using var disk = new HeldDisk();
        using var rig = new DeviceRig(disk, new BlkDeviceOptions { CallModeration = new CallModeration(1, 2) });
        rig.Queue.Start();
        // The first completion of all calls in any case.
        rig.Queue.Add(BlkRequestType.VIRTIO_BLK_T_IN, 0, 512);
        rig.Queue.Publish();
        Eventually.Holds(() => disk.SubmittedCount == 1, "the first is in flight");
        rig.OnReactor(() => disk.End());
        Assert.True(rig.Queue.Call.Wait(Deadline.In(DriverQueue.PatienceMs)));
        rig.Queue.Call.Take();
        rig.Queue.Take();
        for (int i = 0; i < 4; i++)
        {
            rig.Queue.Add(BlkRequestType.VIRTIO_BLK_T_IN, 8 * (ulong)(i % 2), 512);
        }

        // Its wish is for the fourth completion; what comes before must not count as wanted.
        Assert.False(rig.Queue.Ring.RequestCalls(afterChains: 3));
        rig.Queue.Publish();
        Eventually.Holds(() => disk.SubmittedCount == 5, "all are in flight");
        rig.OnReactor(() => disk.End());
        rig.LetTurnsPass();
        Assert.False(rig.Queue.Call.Wait(Deadline.In(0)));
        rig.OnReactor(disk.EndAll);
        Assert.True(rig.Queue.Call.Wait(Deadline.In(DriverQueue.PatienceMs)));
        rig.Queue.Stop();
    }

    [Theory]
    [MemberData(nameof(Modes))]
    public void Serves_under_load(PollMode mode)
    {
        using var image = new TemporaryImage();
        using var rig = new DeviceRig(
            image.Open(), new BlkDeviceOptions { Cache = CacheMode.Writeback, CallModeration = new CallModeration(50, 8), Polling = mode });
        Assert.True(rig.Device.TrySetFeatures(rig.Device.OfferedFeatures));
        rig.Queue.Start();
        var load = new VerifiedLoad(rig.Queue);
        load.Run(3000, 32);
        load.Run(200, 1);
        rig.Queue.Stop();
    }

    private static void HoldRequests(DeviceRig rig, HeldDisk disk, int count)
    {
        rig.Queue.Start();
        for (int i = 0; i < count; i++)
        {
            // Not adjacent.
            rig.Queue.Add(BlkRequestType.VIRTIO_BLK_T_IN, 8 * (ulong)(i % 2), 512);
        }

        rig.Queue.Publish();
        Eventually.Holds(() => disk.SubmittedCount == count, "all are in flight");
        Assert.False(rig.Queue.Ring.RequestCalls());
    }
}
