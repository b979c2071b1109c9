using VirtioBlkFlow.ConformanceTests.Machinery;
using VirtioBlkFlow.ConformanceTests.Rig;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.VhostUser.Wire;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.ConformanceTests.Core;

/// <summary>The device status, resets, and what happens before and after.</summary>
public class StatusAndResetTests
{
    private const DeviceStatus Ready = DeviceStatus.ACKNOWLEDGE | DeviceStatus.DRIVER | DeviceStatus.FEATURES_OK | DeviceStatus.DRIVER_OK;

    // Small, because guest memory is not given back.
    private static readonly FrontendOptions s_small = new() { Driver = new BlkDriverOptions { MaxTransferBytes = 4096 } };

    [Fact, Conformance("CORE-02", "CORE-03", "VU-63", "VU-78")]
    public void A_broken_ring_shows_in_the_status_and_is_notified_once()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(new FrontendOptions { QueueCount = 2 });
        using RawChannel channel = new(session.Frontend);
        session.Queues[0].SplitRing.Raw.AvailableIndex = 1000;
        session.Queues[0].Kick.Signal();
        Assert.True(session.Queues[0].Error.Wait(Frontend.Deadline.In(Await.DeadlineMs)));
        Await.Until(() => session.Frontend.GetStatus().HasFlag(DeviceStatus.DEVICE_NEEDS_RESET), "DEVICE_NEEDS_RESET");
        MessageHeader message = channel.Receive();
        Assert.Equal(new MessageHeader((uint)BackendRequest.CONFIG_CHANGE_MSG, MessageFlags.Version1, 0), message);

        // The same once more, on the other queue: the driver has been told.
        session.Queues[1].SplitRing.Raw.AvailableIndex = 1000;
        session.Queues[1].Kick.Signal();
        Assert.True(session.Queues[1].Error.Wait(Frontend.Deadline.In(Await.DeadlineMs)));
        device.LetTurnsPass(1);
        Assert.Equal(Ready | DeviceStatus.DEVICE_NEEDS_RESET, session.Frontend.GetStatus());
        Assert.False(channel.HasMessage);
    }

    [Fact, Conformance("CORE-08")]
    public void Features_that_were_accepted_are_accepted_after_every_reset()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(s_small);
        for (int round = 0; round < 100; round++)
        {
            session.VerifyRoundTripSmall(device.Image, (ulong)round);
            Assert.Equal(0ul, session.Frontend.ResetDevice(needReply: true));
            session.PlaceQueues();
            Assert.Equal(0ul, session.Frontend.SetFeatures(session.Negotiation.Features, needReply: true));
            session.Negotiation.StartQueues(session.Frontend, [.. session.Queues]);
        }
    }

    [Theory, Conformance("CORE-09", "VU-76")]
    [InlineData(true)]
    [InlineData(false)]
    public void A_reset_clears_the_status(bool byMessage)
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open();
        foreach (DeviceStatus status in new[] { DeviceStatus.ACKNOWLEDGE, DeviceStatus.ACKNOWLEDGE | DeviceStatus.DRIVER, Ready, Ready | DeviceStatus.FAILED })
        {
            Assert.Equal(0ul, session.Frontend.SetStatus(status, needReply: true));
            Assert.Equal(status, session.Frontend.GetStatus());
        }

        Assert.Equal(0ul, byMessage ? session.Frontend.ResetDevice(needReply: true) : session.Frontend.SetStatus(DeviceStatus.Reset, needReply: true));
        Assert.Equal(DeviceStatus.Reset, session.Frontend.GetStatus());
    }

    [Fact, Conformance("CORE-10", "VU-71")]
    public async Task After_a_reset_memory_is_not_touched_and_nothing_is_notified()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open();
        device.Disk.Hold(operation => operation == DiskOperation.Read);
        BlkDriver driver = session.Drivers[0];
        while (driver.TrySubmit(BlkRequestType.VIRTIO_BLK_T_IN, 0, 4096, tag: 0))
        {
        }

        driver.Kick();
        Await.Until(() => device.Disk.HeldCount == driver.QueueDepth, "all requests reach the disk");
        Task<ulong> reset = Task.Run(() => session.Frontend.ResetDevice(needReply: true));
        device.LetTurnsPass();
        Assert.False(reset.IsCompleted, "The reset is acknowledged while requests are in flight.");
        device.Release();
        Assert.Equal(0ul, await reset);

        AssertSilent(device, session, session.Queues[0]);
        // Again, and again without anything set up: no harm.
        Assert.Equal(0ul, session.Frontend.ResetDevice(needReply: true));
        session.PlaceQueues();
        Assert.Equal(0ul, session.Frontend.SetFeatures(session.Negotiation.Features, needReply: true));
        session.Negotiation.StartQueues(session.Frontend, [.. session.Queues]);
        session.VerifyRoundTrip(device.Image, sector: 8);
    }

    [Fact, Conformance("CORE-13", "VU-17", "VU-18", "VU-24", "VU-25", "VU-57")]
    public async Task After_a_queue_is_stopped_memory_is_not_touched_and_nothing_is_notified()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open();
        device.Disk.Hold(operation => operation == DiskOperation.Read);
        BlkDriver driver = session.Drivers[0];
        while (driver.TrySubmit(BlkRequestType.VIRTIO_BLK_T_IN, 0, 4096, tag: 0))
        {
        }

        driver.Kick();
        Await.Until(() => device.Disk.HeldCount == driver.QueueDepth, "all requests reach the disk");
        Task<uint> stop = Task.Run(() => session.Queues[0].Stop(session.Frontend));
        device.LetTurnsPass();
        Assert.False(stop.IsCompleted, "The queue is said to be stopped while requests are in flight.");
        device.Release();
        Assert.Equal((uint)driver.QueueDepth, await stop);
        Assert.Equal(driver.QueueDepth, session.Queues[0].SplitRing.Raw.UsedIndex);

        AssertSilent(device, session, session.Queues[0]);
        // Enabled, but stopped: the kick it had is not its kick any more.
        Assert.Equal(0ul, session.Frontend.SetVringEnable(0, enable: true, needReply: true));
        AssertSilent(device, session, session.Queues[0]);
    }

    [Fact, Conformance("CORE-14", "CORE-15")]
    public void A_queue_that_comes_back_begins_anew_with_its_new_size_and_places()
    {
        using ServedDevice device = new();
        ShadowDisk shadow = new(4);
        using FrontendSession session = device.Open(new FrontendOptions { QueueCount = 0 });
        foreach (int size in new[] { 256, 64, 1024 })
        {
            BlkDriverOptions options = new() { QueueDepth = 16, MaxTransferBytes = 8192 };
            (FrontendQueue queue, BlkDriver driver) = session.PlaceQueue(0, size, options);
            queue.Start(session.Frontend, nextAvailable: 0);
            driver.GetId(out _);
            Assert.Equal(1, queue.SplitRing.Raw.UsedIndex);
            Assert.Equal(0u, queue.SplitRing.Raw.ReadUsedElement(0).Id);
            new VerifiedTraffic(driver, shadow, 0, shadow.SectorCount, seed: size).Run(1000);
            queue.Stop(session.Frontend);
        }

        shadow.AssertEqualTo(device.Image);
    }

    // With a new request in the ring and a kick for it, too.
    private static void AssertSilent(ServedDevice device, FrontendSession session, FrontendQueue queue)
    {
        queue.Call.Take();
        RequestPlace request = new(session.Memory, queue);
        request.Send(request.Header, request.In(512), request.Status);
        byte[] before = session.Memory.Span(0, (int)session.Memory.Regions[0].LengthBytes).ToArray();
        device.LetTurnsPass();
        Assert.NotEqual(0ul, session.Frontend.GetFeatures());
        device.LetTurnsPass();
        Assert.True(session.Memory.Span(0, before.Length).SequenceEqual(before), "Guest memory has changed.");
        Assert.Equal(0ul, queue.Call.Take());
    }
}
