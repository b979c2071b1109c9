using VirtioBlkFlow.ConformanceTests.Machinery;
using VirtioBlkFlow.ConformanceTests.Rig;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.VhostUser.Wire;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.ConformanceTests.Protocol;

/// <summary>When a ring runs, and what may happen while none does.</summary>
public class RingStateTests
{
    [Fact, Conformance("CORE-01", "VU-14", "VU-15")]
    public void A_ring_with_a_request_in_it_rests_until_it_is_kicked_and_enabled()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(new FrontendOptions { StartQueues = false });
        VhostUserFrontend frontend = session.Frontend;
        FrontendQueue queue = session.Queues[0];
        RequestPlace request = Write(session);
        Func<ulong>[] steps =
        [
            () => frontend.SetVringNum(0, (uint)queue.Ring.QueueSize, needReply: true),
            () => frontend.SetVringBase(0, 0, needReply: true),
            () => frontend.SetVringAddr(queue.Address(), needReply: true),
            () => frontend.SetVringCall(0, queue.Call, needReply: true),
            () => frontend.SetVringErr(0, queue.Error, needReply: true),
            () => frontend.SetVringKick(0, queue.Kick, needReply: true),
        ];
        foreach (Func<ulong> step in steps)
        {
            Assert.Equal(0ul, step());
            AssertUntouched(device, session);
        }

        queue.Call.Take();
        queue.Kick.Signal();
        AssertUntouched(device, session);
        Assert.Equal(0ul, frontend.SetVringEnable(0, enable: true, needReply: true));
        request.TakeUsed();
        Assert.Equal(0, request.StatusByte);
        // And from now on at each kick.
        Assert.Equal(0, request.Write(8, 512).Status);
    }

    [Fact, Conformance("VU-19")]
    public void A_stopped_ring_keeps_whether_it_is_enabled()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(new FrontendOptions { StartQueues = false });
        FrontendQueue queue = session.Queues[0];
        Assert.Equal(0ul, session.Frontend.SetVringEnable(0, enable: true, needReply: true));
        queue.Start(session.Frontend, enable: false);
        session.VerifyRoundTrip(device.Image, sector: 8);
        // Stopped without a word about enabling; and started the same way.
        queue.Stop(session.Frontend, disable: false);
        queue.Start(session.Frontend, enable: false);
        session.VerifyRoundTrip(device.Image, sector: 16);
        queue.Stop(session.Frontend, disable: true);
        queue.Start(session.Frontend, enable: false);
        RequestPlace request = Write(session);
        queue.Kick.Signal();
        Assert.Equal(0ul, session.Frontend.GetVringBase(0) - queue.SplitRing.NextUsed);
        Assert.Equal(RequestPlace.NotWritten, request.StatusByte);
    }

    [Fact, Conformance("VU-20")]
    public void A_disabled_ring_has_no_side_effects_and_then_each_request_once()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open();
        FrontendQueue queue = session.Queues[0];
        Assert.Equal(0ul, session.Frontend.SetVringEnable(0, enable: false, needReply: true));
        int before = device.Disk.Steps.Count;
        RequestPlace request = Write(session);
        queue.Kick.Signal();
        device.LetTurnsPass();
        Assert.NotEqual(0ul, session.Frontend.GetFeatures());
        device.LetTurnsPass();
        Assert.Equal(before, device.Disk.Steps.Count);
        Assert.Equal(0, queue.SplitRing.Raw.UsedIndex);
        Assert.Equal(new byte[512], device.Image.Read(0, 512));

        Assert.Equal(0ul, session.Frontend.SetVringEnable(0, enable: true, needReply: true));
        request.TakeUsed();
        Assert.Equal(request.Data[..512].ToArray(), device.Image.Read(0, 512));
        device.LetTurnsPass();
        Assert.Equal(1, queue.SplitRing.Raw.UsedIndex);
        Assert.Single(device.Disk.Steps.Skip(before), step => step is { Kind: IoKind.Write, HasEnded: false });
    }

    [Fact, Conformance("VU-21")]
    public void Features_without_bit_30_enable_every_ring()
    {
        using ServedDevice device = new();
        using VhostUserFrontend frontend = device.Connect();
        ulong features = frontend.GetFeatures() & ~ProtocolLimits.VHOST_USER_F_PROTOCOL_FEATURES;
        using Frontend.Memory.SharedMemory memory = Frontend.Memory.SharedMemory.OfSize(4 << 20);
        frontend.SetOwner();
        frontend.SetFeatures(features);
        frontend.SetMemTable(memory);
        List<FrontendQueue> queues = [];
        for (int i = 0; i < 2; i++)
        {
            FrontendQueue queue = new(memory, i, 64, (Virtio.VirtioFeatures)features);
            queues.Add(queue);
            queue.Start(frontend, acknowledge: false, enable: false);
            BlkDriver driver = new(memory, queue, new BlkDriverOptions());
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Flush());
        }

        queues.ForEach(queue => queue.Dispose());
    }

    [Theory, Conformance("VU-22")]
    [InlineData(true)]
    [InlineData(false)]
    public void Features_with_bit_30_neither_enable_nor_disable(bool enabled)
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(new FrontendOptions { StartQueues = false });
        session.Queues[0].Start(session.Frontend, enable: enabled);
        RequestPlace request = Write(session);
        for (int i = 0; i < 20; i++)
        {
            Assert.Equal(0ul, session.Frontend.SetFeatures(session.Negotiation.Features, needReply: true));
        }

        session.Queues[0].Kick.Signal();
        if (enabled)
        {
            request.TakeUsed();
        }
        else
        {
            AssertUntouched(device, session);
        }
    }

    [Fact, Conformance("VU-23", "VU-52")]
    public async Task What_may_change_while_rings_run_changes_without_a_loss()
    {
        using ServedDevice device = new();
        ShadowDisk shadow = new(4);
        using FrontendSession session = device.Open();
        FrontendQueue queue = session.Queues[0];
        // It looks at the ring, so that replacing its call cannot keep it waiting.
        BlkDriver driver = new(session.Memory, queue, new BlkDriverOptions { QueueDepth = 16, Wait = CompletionWait.Poll });
        VerifiedTraffic traffic = new(driver, shadow, 0, shadow.SectorCount, seed: 23);
        bool enough = false;
        Task loading = Task.Run(() => traffic.RunWhile(() => !Volatile.Read(ref enough)));
        try
        {
            for (int round = 0; round < 50; round++)
            {
                traffic.WaitForProgress();
                using EventDescriptor other = new();
                Assert.Equal(0ul, session.Frontend.SetVringCall(0, other, needReply: true));
                Assert.Equal(0ul, session.Frontend.SetVringErr(0, other, needReply: true));
                Assert.Equal(0ul, session.Frontend.SetVringKick(0, queue.Kick, needReply: true));
                Assert.Equal(0ul, session.Frontend.SetMemTable(session.Memory, needReply: true));
                Assert.Equal(0ul, session.Frontend.SetFeatures(session.Negotiation.Features, needReply: true));
            }
        }
        finally
        {
            Volatile.Write(ref enough, true);
            await loading;
        }

        shadow.AssertEqualTo(device.Image);
    }

    [Fact, Conformance("VU-26", "VU-27")]
    public void While_suspended_questions_are_answered_and_nothing_is_sent()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(new FrontendOptions { StartQueues = false });
        using RawChannel channel = new(session.Frontend);
        // A ring that breaks before the driver is ready must be told of when it is; but then no ring runs.
        session.Queues[0].Start(session.Frontend);
        session.Queues[0].SplitRing.Raw.AvailableIndex = 1000;
        session.Queues[0].Kick.Signal();
        Assert.True(session.Queues[0].Error.Wait(Deadline.In(Await.DeadlineMs)));
        Await.Until(() => session.Frontend.GetStatus().HasFlag(DeviceStatus.DEVICE_NEEDS_RESET), "DEVICE_NEEDS_RESET");
        session.Queues[0].Stop(session.Frontend);
        session.Frontend.SetStatus(DeviceStatus.ACKNOWLEDGE | DeviceStatus.DRIVER | DeviceStatus.FEATURES_OK | DeviceStatus.DRIVER_OK, needReply: true);
        Assert.NotEqual(0ul, session.Frontend.GetFeatures());
        Assert.NotNull(session.Frontend.GetConfig(0, 96));
        Assert.True(session.Frontend.GetStatus().HasFlag(DeviceStatus.DEVICE_NEEDS_RESET));
        Assert.Equal(0u, session.Frontend.GetVringBase(1));
        Assert.False(channel.HasMessage);
        // A ring runs again: now it comes.
        using FrontendQueue next = new(session.Memory, 1, 64, session.Negotiation.RingFeatures);
        next.Start(session.Frontend);
        Assert.Equal((uint)BackendRequest.CONFIG_CHANGE_MSG, channel.Receive().Request);
    }

    [Fact, Conformance("VU-51")]
    public void RESET_OWNER_loses_nothing()
    {
        using ServedDevice device = new();
        ShadowDisk shadow = new(4);
        using FrontendSession session = device.Open();
        VerifiedTraffic traffic = new(session.Drivers[0], shadow, 0, shadow.SectorCount, seed: 51);
        for (int round = 0; round < 10; round++)
        {
            traffic.Run(50);
            Assert.Equal(0ul, session.Frontend.ResetOwner(needReply: true));
            Assert.Equal(0ul, session.Frontend.SetOwner(needReply: true));
            Assert.Equal(0ul, session.Frontend.SetVringEnable(0, enable: true, needReply: true));
        }

        traffic.Run(50);
        shadow.AssertEqualTo(device.Image);
    }

    [Fact, Conformance("VU-56", "VU-60")]
    public void A_ring_stopped_and_started_with_its_base_goes_on_without_a_gap()
    {
        using ServedDevice device = new();
        ShadowDisk shadow = new(4);
        using FrontendSession session = device.Open();
        VerifiedTraffic traffic = new(session.Drivers[0], shadow, 0, shadow.SectorCount, seed: 60);
        FrontendQueue queue = session.Queues[0];
        for (int round = 0; round < 300; round++)
        {
            traffic.Run(5);
            uint next = session.Frontend.GetVringBase(0);
            // All of it: the upper half of a split ring's base is 0.
            Assert.Equal(queue.SplitRing.NextAvailable, next);
            queue.Start(session.Frontend, nextAvailable: (ushort)next);
        }

        shadow.AssertEqualTo(device.Image);
    }

    [Fact, Conformance("VU-56")]
    public void The_base_counts_what_was_fetched_and_not_what_was_offered()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open();
        FrontendQueue queue = session.Queues[0];
        RequestPlace request = new(session);
        Assert.Equal(0, request.Flush().Status);
        Assert.Equal(0ul, session.Frontend.SetVringEnable(0, enable: false, needReply: true));
        request.Prepare(BlkRequestType.VIRTIO_BLK_T_FLUSH);
        request.Send(request.Header, request.Status);
        Assert.Equal(1u, session.Frontend.GetVringBase(0));
        queue.Start(session.Frontend, nextAvailable: 1);
        request.TakeUsed();
        Assert.Equal(0, request.StatusByte);
    }

    [Fact, Conformance("VU-61", "VU-62")]
    public void A_ring_without_kick_and_call_is_polled_by_both_sides()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(new FrontendOptions { QueueCount = 0 });
        using FrontendQueue queue = new(session.Memory, 0, 64, session.Negotiation.RingFeatures);
        BlkDriver driver = new(session.Memory, queue, new BlkDriverOptions { QueueDepth = 4, Wait = CompletionWait.Poll });
        VhostUserFrontend frontend = session.Frontend;
        Assert.Equal(0ul, frontend.SetVringNum(0, 64, needReply: true));
        Assert.Equal(0ul, frontend.SetVringBase(0, 0, needReply: true));
        Assert.Equal(0ul, frontend.SetVringAddr(queue.Address(), needReply: true));
        Assert.Equal(0ul, frontend.SetVringKick(0, null, needReply: true));
        Assert.Equal(0ul, frontend.SetVringCall(0, null, needReply: true));
        Assert.Equal(0ul, frontend.SetVringEnable(0, enable: true, needReply: true));
        ShadowDisk shadow = new(4);
        VerifiedTraffic traffic = new(driver, shadow, 0, shadow.SectorCount, seed: 61);
        traffic.Run(200);
        Assert.Equal(0ul, queue.Call.Take());
        shadow.AssertEqualTo(device.Image);
    }

    private static RequestPlace Write(FrontendSession session)
    {
        RequestPlace request = new(session);
        request.Prepare(BlkRequestType.VIRTIO_BLK_T_OUT).Data[..512].Fill(0x3c);
        request.Publish(request.Header, request.Out(512), request.Status);
        return request;
    }

    private static void AssertUntouched(ServedDevice device, FrontendSession session)
    {
        device.LetTurnsPass();
        Assert.NotEqual(0ul, session.Frontend.GetFeatures());
        device.LetTurnsPass();
        Assert.Equal(0, session.Queues[0].SplitRing.Raw.UsedIndex);
        Assert.Equal(0ul, session.Queues[0].Call.Take());
        Assert.Empty(device.Disk.Steps);
    }
}
