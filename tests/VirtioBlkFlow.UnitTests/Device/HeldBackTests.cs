using VirtioBlkFlow.Device;
using VirtioBlkFlow.Device.Reactor;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.Memory;
using VirtioBlkFlow.Disks.Null;
using VirtioBlkFlow.Disks.Wrapping;
using VirtioBlkFlow.Virtio.Blk;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Device;

/// <summary>Disks that let requests wait, on a reactor that does not wait with them.</summary>
public sealed class HeldBackTests
{
    private const int Requests = 16;

    public static TheoryData<IoEngineKind, PollMode> EnginesAndModes => RunningDeviceTests.EnginesAndModes;

    [Theory]
    [MemberData(nameof(EnginesAndModes))]
    public void Requests_that_wait_for_their_time_are_served_at_it(IoEngineKind engine, PollMode mode)
    {
        var delay = new FaultRule { Rate = 0.5, Delay = DelayDistribution.Uniform(TimeSpan.Zero, TimeSpan.FromMicroseconds(300)) };
        IDisk disk = new ThrottleDisk(
            FaultDisk.Open(MemoryDisk.Open(new MemoryDiskOptions(4 << 20)), new FaultDiskOptions(1, [delay])),
            new ThrottleGroup(new ThrottleLimits { Iops = 20_000, BurstRequests = 2 }));
        using var rig = new DeviceRig(disk, new BlkDeviceOptions { Engine = engine, Polling = mode });
        rig.Queue.Start();
        var load = new VerifiedLoad(rig.Queue);
        load.Run(200, 1);
        load.Run(600, 32);
        rig.Queue.Stop();
    }

    [Theory]
    [InlineData("a limit of one byte a second", BlkStatus.VIRTIO_BLK_S_OK)]
    [InlineData("long delays", BlkStatus.VIRTIO_BLK_S_OK)]
    [InlineData("hangs", BlkStatus.VIRTIO_BLK_S_IOERR)]
    [InlineData("requests that are held", BlkStatus.VIRTIO_BLK_S_IOERR)]
    [InlineData("hangs that are tried again and held", BlkStatus.VIRTIO_BLK_S_IOERR)]
    public void A_queue_stops_whatever_its_disk_holds_back(string what, BlkStatus status)
    {
        using IDisk disk = Holding(what);
        using var rig = new DeviceRig(disk);
        rig.Queue.Start();
        for (int i = 0; i < Requests; i++)
        {
            rig.Queue.Add(BlkRequestType.VIRTIO_BLK_T_IN, 0, 4096);
        }

        rig.Queue.Publish();
        rig.LetTurnsPass();
        Assert.Equal(Requests, Eventually.Returns(rig.Queue.Stop, $"the queue stops in spite of {what}"));
        for (int i = 0; i < Requests; i++)
        {
            Assert.True(rig.Queue.TryTake(out Answer answer));
            Assert.Equal((byte)status, answer.Status);
        }
    }

    private static IDisk Holding(string what) => what switch
    {
        "a limit of one byte a second" => new ThrottleDisk(Null(), new ThrottleGroup(new ThrottleLimits { BytesPerSecond = 1, BurstBytes = 1 })),
        "long delays" => NullDisk.Open(new NullDiskOptions(1 << 30, Delay: DelayDistribution.Fixed(TimeSpan.FromHours(1)))),
        "hangs that are tried again and held" => ErrorPolicyDisk.Open(
            FaultDisk.Open(Null(), new FaultDiskOptions(1, [new FaultRule { Hangs = true }])),
            new ErrorPolicyOptions(Retries: 3, RetryDelay: TimeSpan.FromHours(1), Then: LastResort.Hold)),
        "hangs" => FaultDisk.Open(Null(), new FaultDiskOptions(1, [new FaultRule { Hangs = true }])),
        _ => ErrorPolicyDisk.Open(
            FaultDisk.Open(Null(), new FaultDiskOptions(1, [new FaultRule { Outcome = DiskOutcome.NoSpace }])),
            new ErrorPolicyOptions(Retries: 1, RetryDelay: TimeSpan.FromHours(1), Then: LastResort.HoldNoSpace)),
    };

    private static NullDisk Null() => NullDisk.Open(new NullDiskOptions(1 << 30));
}
