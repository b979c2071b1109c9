using VirtioBlkFlow.ConformanceTests.Machinery;
using VirtioBlkFlow.ConformanceTests.Rig;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.VhostUser.Connection;
using VirtioBlkFlow.VhostUser.Wire;
using VirtioBlkFlow.Virtio.Blk;
using static VirtioBlkFlow.ConformanceTests.Rig.WireBytes;

namespace VirtioBlkFlow.ConformanceTests.Protocol;

/// <summary>How requests are framed, answered and acknowledged.</summary>
public class MessageTests
{
    // Every request with a reply of its own that needs nothing else.
    private static readonly (FrontendRequest Request, byte[] Payload, int ReplyBytes)[] s_questions =
    [
        (FrontendRequest.GET_FEATURES, [], 8),
        (FrontendRequest.GET_PROTOCOL_FEATURES, [], 8),
        (FrontendRequest.GET_QUEUE_NUM, [], 8),
        (FrontendRequest.GET_MAX_MEM_SLOTS, [], 8),
        (FrontendRequest.GET_STATUS, [], 8),
        (FrontendRequest.GET_CONFIG, [.. Of(new ConfigHeader(0, 96, 0)), .. new byte[96]], 12 + 96),
        (FrontendRequest.GET_VRING_BASE, Of(new VringState(1, 0)), 8),
    ];

    [Theory, Conformance("VU-01", "VU-02", "VU-03", "VU-06", "VU-80")]
    [InlineData(MessageFlags.Version1)]
    [InlineData(MessageFlags.Version1 | MessageFlags.NeedReply)]
    public void A_question_has_one_answer_and_its_header_is_exact(MessageFlags flags)
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(new FrontendOptions { StartQueues = false });
        foreach ((FrontendRequest request, byte[] payload, int replyBytes) in s_questions)
        {
            session.Frontend.SendRaw(new MessageHeader((uint)request, flags, (uint)payload.Length), payload);
            // Number and flags are compared where it is received.
            ReceivedMessage reply = session.Frontend.ReceiveReply(request);
            Assert.Equal([.. Of((uint)request), 5, 0, 0, 0, .. Of(replyBytes)], Of(reply.Header));
            Assert.Equal(replyBytes, reply.Payload.Length);
            // Had there been two, the second would come before this one's.
            Assert.NotEqual(0ul, session.Frontend.GetFeatures());
            Assert.False(session.Frontend.HasUnreadReply);
        }
    }

    [Fact, Conformance("VU-04", "VU-05", "VU-09")]
    public void The_first_questions_are_answered_and_what_is_none_is_not()
    {
        using ServedDevice device = new();
        using VhostUserFrontend frontend = device.Connect();
        ulong offered = frontend.GetFeatures();
        ProtocolFeatures protocol = frontend.GetProtocolFeatures();
        frontend.SetProtocolFeatures(protocol);
        frontend.SetOwner();
        frontend.SetFeatures(offered);
        frontend.SetVringNum(0, 64);
        Assert.Equal(offered, frontend.GetFeatures());
        Assert.False(frontend.HasUnreadReply);
    }

    [Fact, Conformance("VU-09")]
    public void NEED_REPLY_that_was_not_negotiated_is_not_answered()
    {
        using ServedDevice device = new();
        using VhostUserFrontend frontend = device.Connect();
        frontend.Send(FrontendRequest.SET_OWNER, needReply: true);
        Assert.NotEqual(0ul, frontend.GetFeatures());
        Assert.False(frontend.HasUnreadReply);
    }

    [Fact, Conformance("VU-79")]
    public void Every_request_that_wants_it_is_acknowledged_as_it_went()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(new FrontendOptions { StartQueues = false });
        VhostUserFrontend frontend = session.Frontend;
        FrontendQueue queue = session.Queues[0];
        // Good ones.
        Assert.Equal(0ul, frontend.SetOwner(needReply: true));
        Assert.Equal(0ul, frontend.SetFeatures(session.Negotiation.Features, needReply: true));
        Assert.Equal(0ul, frontend.SetProtocolFeatures(session.Negotiation.ProtocolFeatures, needReply: true));
        Assert.Equal(0ul, frontend.SetStatus(DeviceStatus.ACKNOWLEDGE, needReply: true));
        Assert.Equal(0ul, frontend.SetConfig(BlkConfig.WritebackOffset, [0], needReply: true));
        Assert.Equal(0ul, frontend.ResetOwner(needReply: true));
        queue.Start(frontend, acknowledge: true);
        Assert.Equal(0ul, frontend.SetMemTable(session.Memory, needReply: true));
        // Bad ones, each refused, and the connection goes on.
        Assert.NotEqual(0ul, frontend.SetFeatures(1ul << 63, needReply: true));
        Assert.NotEqual(0ul, frontend.SetProtocolFeatures((ProtocolFeatures)(1ul << 63), needReply: true));
        Assert.NotEqual(0ul, frontend.SetVringNum(1, 3, needReply: true));
        Assert.NotEqual(0ul, frontend.SetVringNum(9, 64, needReply: true));
        Assert.NotEqual(0ul, frontend.SetVringBase(0, 7, needReply: true));
        Assert.NotEqual(0ul, frontend.SetVringAddr(queue.Address() with { Index = 1, DescriptorTable = 3 }, needReply: true));
        Assert.NotEqual(0ul, frontend.SetVringEnable(9, enable: true, needReply: true));
        Assert.NotEqual(0ul, frontend.SetVringKick(9, queue.Kick, needReply: true));
        Assert.NotEqual(0ul, frontend.SetVringCall(9, queue.Call, needReply: true));
        Assert.NotEqual(0ul, frontend.SetVringErr(9, queue.Error, needReply: true));
        Assert.NotEqual(0ul, frontend.SetConfig(0, [0], needReply: true));
        Assert.NotEqual(0ul, frontend.AddMemReg(session.Memory.Regions[0], needReply: true));
        session.VerifyRoundTrip(device.Image, sector: 8);
        Assert.False(frontend.HasUnreadReply);
    }

    [Fact, Conformance("VU-10")]
    public void Descriptors_come_with_the_first_byte_of_a_message_cut_anywhere()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open();
        FrontendQueue queue = session.Queues[0];
        using EventDescriptor call = new();
        byte[] message = [.. Of(new MessageHeader((uint)FrontendRequest.SET_VRING_CALL, MessageFlags.Version1, 8)), .. Of(0ul)];
        session.Frontend.SendRaw(message.AsSpan(0, 1), [call.Handle]);
        for (int i = 1; i < message.Length; i++)
        {
            session.Frontend.SendRaw(message.AsSpan(i, 1));
        }

        Assert.NotEqual(0ul, session.Frontend.GetFeatures());
        call.Take();
        RequestPlace request = new(session);
        queue.Ring.RequestCalls();
        Assert.Equal(0, request.Flush().Status);
        Assert.True(call.Wait(Deadline.In(Await.DeadlineMs)), "The call does not go to the descriptor that was sent.");
    }

    [Fact, Conformance("VU-11", "VU-50")]
    public void An_error_ends_its_connection_and_the_next_is_served()
    {
        using ServedDevice device = new();
        Action<VhostUserFrontend>[] errors =
        [
            frontend => frontend.SendRaw(new byte[12]),
            frontend => frontend.SendRaw(new MessageHeader(2, MessageFlags.Version1, uint.MaxValue)),
            frontend => frontend.SetVringNum(77, 64),
            // In-band notifications alone.
            frontend => frontend.SetProtocolFeatures((ProtocolFeatures)(1ul << 14)),
        ];
        foreach (Action<VhostUserFrontend> error in errors)
        {
            using (VhostUserFrontend frontend = device.Connect())
            {
                Assert.NotEqual(0ul, frontend.GetFeatures());
                error(frontend);
                Assert.True(frontend.WaitForClose(Deadline.In(Await.DeadlineMs)));
            }

            using FrontendSession next = device.Open();
            next.VerifyRoundTripSmall(device.Image, sector: 8);
        }
    }

    [Theory, Conformance("VU-28", "VU-29", "VU-64")]
    [InlineData(1)]
    [InlineData(5)]
    [InlineData(256)]
    public void The_number_of_queues_is_what_can_be_had(int queueCount)
    {
        using ServedDevice device = new(new ServedOptions { Device = new BlkDeviceOptions { QueueCount = queueCount } });
        using FrontendSession session = device.Open(new FrontendOptions { QueueCount = 0 });
        Assert.True(session.Negotiation.ProtocolFeatures.HasFlag(ProtocolFeatures.MQ));
        Assert.Equal(queueCount, session.Negotiation.QueueCount);
        // The last one is found by the low 8 bits, and serves.
        session.PlaceQueue(queueCount - 1, 64, new Frontend.Blk.BlkDriverOptions());
        session.Queues[0].Start(session.Frontend);
        session.VerifyRoundTripSmall(device.Image, sector: 8);
        if (queueCount < 256)
        {
            Assert.NotEqual(0ul, session.Frontend.SetVringKick((uint)queueCount, session.Queues[0].Kick, needReply: true));
        }
    }

    [Fact, Conformance("VU-65")]
    public void The_back_end_channel_is_acknowledged_and_refused_without_a_descriptor()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open();
        using (RawChannel channel = new(session.Frontend))
        {
            Assert.NotEqual(0ul, session.Frontend.Ask(FrontendRequest.SET_BACKEND_REQ_FD, []));
        }

        session.VerifyRoundTrip(device.Image, sector: 8);
    }

    [Fact, Conformance("VU-66", "VU-43")]
    public void What_needs_a_feature_that_is_not_offered_is_refused()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open();
        ulong offered = (ulong)session.Frontend.GetProtocolFeatures();
        // CROSS_ENDIAN; descriptors on the back-end's channel; page faults; crypto, IOTLB and vhost-user-net's own.
        foreach (int bit in new[] { 2, 4, 6, 7, 8, 10, 11 })
        {
            Assert.True((offered & (1ul << bit)) == 0, $"Protocol feature {bit} is offered.");
        }

        Assert.NotEqual(0ul, session.Frontend.Ask(FrontendRequest.SET_VRING_ENDIAN, Of(new VringState(0, 1))));
    }

    [Theory, Conformance("VU-12")]
    [InlineData(ProtocolFeatures.CONFIG)]
    [InlineData(ProtocolFeatures.BACKEND_REQ)]
    public void Nothing_is_sent_that_was_not_negotiated(ProtocolFeatures left)
    {
        using ServedDevice device = new();
        NegotiationOptions negotiation = new() { ProtocolFeatures = new NegotiationOptions().ProtocolFeatures & ~left };
        using FrontendSession session = device.Open(new FrontendOptions { Negotiation = negotiation });
        using RawChannel channel = new(session.Frontend);
        session.Queues[0].SplitRing.Raw.AvailableIndex = 1000;
        session.Queues[0].Kick.Signal();
        Await.Until(() => session.Frontend.GetStatus().HasFlag(DeviceStatus.DEVICE_NEEDS_RESET), "DEVICE_NEEDS_RESET");
        // What it would send it has sent by then: status and message are one step.
        Assert.False(channel.HasMessage);
    }
}
