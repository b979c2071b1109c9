using VirtioBlkFlow.ConformanceTests.Machinery;
using VirtioBlkFlow.ConformanceTests.Rig;
using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.VhostUser.Wire;
using VirtioBlkFlow.Virtio.Blk;
using static VirtioBlkFlow.ConformanceTests.Rig.WireBytes;

namespace VirtioBlkFlow.ConformanceTests.Hardening;

/// <summary>Messages no front-end may send, and front-ends that die.</summary>
public class HostileFrontendTests
{
    [Fact, Conformance("HARD-15")]
    public void A_request_that_is_unknown_is_refused_and_one_of_the_wrong_size_ends_the_connection()
    {
        using ServedDevice device = new();
        using (FrontendSession session = device.Open())
        {
            foreach (uint unknown in new uint[] { 999, 0x8000_0000, (uint)FrontendRequest.NET_SET_MTU })
            {
                using TracedDescriptor traced = new();
                Assert.NotEqual(0ul, session.Frontend.Ask((FrontendRequest)unknown, new byte[16], traced.Handle));
                traced.AssertNobodyHoldsIt();
            }

            session.VerifyRoundTrip(device.Image, sector: 8);
        }

        (FrontendRequest Request, uint SaidBytes, int SentBytes)[] wrong =
        [
            (FrontendRequest.SET_FEATURES, 4, 4),
            (FrontendRequest.SET_FEATURES, 16, 16),
            (FrontendRequest.GET_FEATURES, 8, 8),
            (FrontendRequest.SET_VRING_ADDR, 0, 0),
            (FrontendRequest.SET_MEM_TABLE, 4097, 0),
            (FrontendRequest.SET_FEATURES, uint.MaxValue, 0),
            (FrontendRequest.SET_CONFIG, 11, 11),
        ];
        foreach ((FrontendRequest request, uint saidBytes, int sentBytes) in wrong)
        {
            using FrontendSession session = device.Open();
            using TracedDescriptor traced = new();
            session.Frontend.SendRaw(new MessageHeader((uint)request, MessageFlags.Version1, saidBytes), new byte[sentBytes], [traced.Handle]);
            Assert.True(session.Frontend.WaitForClose(Deadline.In(Await.DeadlineMs)), $"{request} of {saidBytes} bytes is accepted.");
            traced.AssertNobodyHoldsIt();
        }
    }

    [Fact, Conformance("HARD-16")]
    public void Descriptors_too_many_or_too_few_are_refused_and_closed()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open();
        MemoryRegion region = new(0x10_0000_0000, 4096, 0x10_0000_0000, 0);
        foreach ((FrontendRequest request, byte[] payload, int count) in new[]
        {
            (FrontendRequest.SET_VRING_KICK, Of(0ul), 2),
            (FrontendRequest.SET_VRING_KICK, Of(0ul), 0),
            (FrontendRequest.SET_VRING_CALL, Of(0x100ul), 1),
            (FrontendRequest.SET_VRING_ERR, Of(0ul), 0),
            (FrontendRequest.SET_STATUS, Of(0ul), 1),
            (FrontendRequest.SET_OWNER, [], 3),
            (FrontendRequest.SET_MEM_TABLE, Table(region), 2),
            (FrontendRequest.SET_MEM_TABLE, Table(region, region), 1),
            (FrontendRequest.ADD_MEM_REG, Of(new SingleMemoryRegion(0, region)), 2),
            (FrontendRequest.ADD_MEM_REG, Of(new SingleMemoryRegion(0, region)), 0),
        })
        {
            TracedDescriptor[] traced = [.. Enumerable.Range(0, count).Select(_ => new TracedDescriptor())];
            Assert.NotEqual(0ul, session.Frontend.Ask(request, payload, [.. traced.Select(one => one.Handle)]));
            foreach (TracedDescriptor one in traced)
            {
                one.AssertNobodyHoldsIt();
                one.Dispose();
            }
        }

        session.VerifyRoundTrip(device.Image, sector: 8);
        // So many that the kernel cuts them off.
        TracedDescriptor[] many = [.. Enumerable.Range(0, 100).Select(_ => new TracedDescriptor())];
        session.Frontend.SendRaw(new MessageHeader((uint)FrontendRequest.SET_OWNER, MessageFlags.Version1, 0), [], [.. many.Select(one => one.Handle)]);
        Assert.True(session.Frontend.WaitForClose(Deadline.In(Await.DeadlineMs)));
        foreach (TracedDescriptor one in many)
        {
            one.AssertNobodyHoldsIt();
            one.Dispose();
        }
    }

    [Theory, Conformance("HARD-17")]
    [InlineData(2u)]
    [InlineData(255u)]
    [InlineData(256u)]
    [InlineData(uint.MaxValue)]
    public void A_ring_that_is_not_there_is_refused_everywhere(uint index)
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open();
        VhostUserFrontend frontend = session.Frontend;
        Assert.NotEqual(0ul, frontend.SetVringNum(index, 64, needReply: true));
        Assert.NotEqual(0ul, frontend.SetVringBase(index, 0, needReply: true));
        Assert.NotEqual(0ul, frontend.SetVringEnable(index, enable: true, needReply: true));
        Assert.NotEqual(0ul, frontend.SetVringAddr(session.Queues[0].Address() with { Index = index }, needReply: true));
        if (index < 256)
        {
            // Only 8 bits there.
            Assert.NotEqual(0ul, frontend.SetVringKick(index, session.Queues[0].Kick, needReply: true));
            Assert.NotEqual(0ul, frontend.SetVringCall(index, session.Queues[0].Call, needReply: true));
            Assert.NotEqual(0ul, frontend.SetVringErr(index, session.Queues[0].Error, needReply: true));
        }

        session.VerifyRoundTrip(device.Image, sector: 8);
        // No way to say no.
        frontend.Send(FrontendRequest.GET_VRING_BASE, Of(new VringState(index, 0)));
        Assert.True(frontend.WaitForClose(Deadline.In(Await.DeadlineMs)));
    }

    [Fact, Conformance("HARD-18")]
    public void Addresses_that_are_misaligned_are_refused_and_those_outside_memory_start_nothing()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(new FrontendOptions { StartQueues = false });
        VhostUserFrontend frontend = session.Frontend;
        FrontendQueue queue = session.Queues[0];
        VringAddress good = queue.Address();
        Assert.NotEqual(0ul, frontend.SetVringAddr(good with { DescriptorTable = good.DescriptorTable + 8 }, needReply: true));
        Assert.NotEqual(0ul, frontend.SetVringAddr(good with { AvailableRing = good.AvailableRing + 1 }, needReply: true));
        Assert.NotEqual(0ul, frontend.SetVringAddr(good with { UsedRing = good.UsedRing + 2 }, needReply: true));
        RequestPlace request = new(session);
        request.Prepare(BlkRequestType.VIRTIO_BLK_T_FLUSH);
        request.Send(request.Header, request.Status);
        ulong end = session.Memory.Regions[0].UserAddress + session.Memory.Regions[0].LengthBytes;
        queue.Start(frontend);
        request.TakeUsed();
        queue.Stop(frontend);
        foreach (VringAddress bad in new[]
        {
            good with { DescriptorTable = end }, good with { DescriptorTable = end - 64 }, good with { UsedRing = end - 16 }, good with { AvailableRing = end - 16 },
            good with { DescriptorTable = ulong.MaxValue - 15 }, good with { UsedRing = ulong.MaxValue - 3 }, good with { AvailableRing = 0 },
        })
        {
            request.Prepare(BlkRequestType.VIRTIO_BLK_T_FLUSH);
            Assert.Equal(0ul, frontend.SetVringAddr(bad, needReply: true));
            Assert.Equal(0ul, frontend.SetVringKick(0, queue.Kick, needReply: true));
            Assert.Equal(0ul, frontend.SetVringEnable(0, enable: true, needReply: true));
            queue.Kick.Signal();
            device.LetTurnsPass();
            Assert.Equal(RequestPlace.NotWritten, request.StatusByte);
            Assert.Equal(1u, frontend.GetVringBase(0));
        }

        queue.Start(frontend);
        session.VerifyRoundTrip(device.Image, sector: 8);
    }

    [Fact, Conformance("HARD-19")]
    public void Sizes_that_no_ring_has_and_changes_of_a_running_one_are_refused()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open();
        foreach (uint size in new uint[] { 0, 3, 65536, 65535, 32769, uint.MaxValue })
        {
            Assert.NotEqual(0ul, session.Frontend.SetVringNum(1, size, needReply: true));
        }

        Assert.NotEqual(0ul, session.Frontend.SetVringNum(0, 64, needReply: true));
        session.VerifyRoundTrip(device.Image, sector: 8);
    }

    [Fact, Conformance("HARD-20")]
    public void Regions_that_cannot_be_are_refused_and_the_old_ones_stay()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open();
        Microsoft.Win32.SafeHandles.SafeFileHandle file = session.Memory.Regions[0].Handle;
        MemoryRegion old = VhostUserFrontend.Describe(session.Memory.Regions[0]);
        MemoryRegion good = new(0x10_0000_0000, 1 << 16, 0x10_0000_0000, 0);
        foreach (MemoryRegion bad in new[]
        {
            good with { LengthBytes = 0 },
            good with { LengthBytes = 1ul << 63 },
            good with { GuestAddress = ulong.MaxValue - 4096 },
            good with { UserAddress = ulong.MaxValue - 4096 },
            good with { MmapOffset = ulong.MaxValue - 4095 },
            good with { MmapOffset = 1ul << 30 },
            good with { GuestAddress = old.GuestAddress + 4096 },
        })
        {
            Assert.NotEqual(0ul, session.Frontend.Ask(FrontendRequest.ADD_MEM_REG, Of(new SingleMemoryRegion(0, bad)), file));
            Assert.NotEqual(0ul, session.Frontend.Ask(FrontendRequest.SET_MEM_TABLE, Table(old, bad), file, file));
            session.VerifyRoundTripSmall(device.Image, sector: 8);
        }

        using EventDescriptor unmappable = new();
        Assert.NotEqual(0ul, session.Frontend.Ask(FrontendRequest.ADD_MEM_REG, Of(new SingleMemoryRegion(0, good)), unmappable.Handle));
        MemoryRegion[] many = [.. Enumerable.Range(0, 9).Select(i => good with { GuestAddress = good.GuestAddress + ((ulong)i << 20), UserAddress = good.UserAddress + ((ulong)i << 20) })];
        Assert.NotEqual(0ul, session.Frontend.Ask(FrontendRequest.SET_MEM_TABLE, Table(many), [.. Enumerable.Repeat(file, 9)]));
        session.VerifyRoundTrip(device.Image, sector: 8);
    }

    [Fact, Conformance("HARD-23")]
    public async Task A_front_end_that_dies_anywhere_leaves_nothing_behind()
    {
        const int Rounds = 100;
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new DaemonOptions(image) { QueueCount = 2 });
        ProcessFootprint? before = null;
        for (int round = 0; round < Rounds * 2; round++)
        {
            if (round == Rounds)
            {
                before = ProcessFootprint.OfIdle(daemon);
            }

            using FrontendSession session = FrontendSession.Open(daemon.SocketPath);
            session.VerifyRoundTripSmall(image, sector: (ulong)round);
            switch (round % 3)
            {
                case 0:
                    // In the midst of a header, of a payload with a descriptor.
                    session.Frontend.SendRaw(new byte[] { 2, 0, 0, 0, 1 });
                    break;
                case 1:
                    session.Frontend.SendRaw(
                        new MessageHeader((uint)FrontendRequest.SET_VRING_CALL, MessageFlags.Version1, 8), new byte[4], [session.Queues[0].Call.Handle]);
                    break;
                default:
                    while (session.Drivers[0].TrySubmit(BlkRequestType.VIRTIO_BLK_T_IN, 0, 4096, tag: 0))
                    {
                    }

                    session.Drivers[0].Kick();
                    break;
            }
        }

        before!.AssertStaysAfter(Rounds, daemon);
        await daemon.StopAsync();
    }
}
