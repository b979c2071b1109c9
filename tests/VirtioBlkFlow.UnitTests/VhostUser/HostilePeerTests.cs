using VirtioBlkFlow.VhostUser.Session;
using VirtioBlkFlow.VhostUser.Wire;
using Xunit;

namespace VirtioBlkFlow.UnitTests.VhostUser;

public sealed class HostilePeerTests
{
    [Fact]
    public void Thousands_of_bad_messages_leak_no_descriptor_and_no_mapping()
    {
        const int Seed = 42;
        const int Rounds = 4000;
        var random = new Random(Seed);
        using var file = new TestFiles(0x1000);
        for (var round = 0; round < Rounds;)
        {
            var backend = new RecordingBackend();
            using var frontend = new RawFrontend(backend);
            frontend.Negotiate();

            // A session is used until it ends, which a bad message without NEED_REPLY makes it do.
            for (var alive = true; alive && round < Rounds; round++)
            {
                var payload = new byte[random.Next(4) == 0 ? random.Next(300) : new[] { 0, 8, 40, 12, 72, 16, 20, 24 }[random.Next(8)]];
                random.NextBytes(payload);
                if (payload.Length > 0 && random.Next(2) == 0)
                {
                    Array.Clear(payload, 1, payload.Length - 1); // Small numbers reach deeper.
                }

                var request = (FrontendRequest)random.Next(1, 48);
                var message = RawFrontend.Message(request, payload, random.Next(20) == 0 ? (uint)random.Next(16) : RawFrontend.NeedReply);
                frontend.SendRaw(message, [.. Enumerable.Repeat(file.Handle, random.Next(10))]);
                alive = frontend.TryBarrier();
            }

            _ = frontend.Leave();
            Assert.Equal("Detached", backend.Calls[^1]);
        }

        Assert.True(file.CountDescriptors() == 1, $"descriptors leak, seed {Seed}");
        Assert.True(file.CountMappings() == 0, $"mappings leak, seed {Seed}");
    }

    [Theory]
    [InlineData(FrontendRequest.SET_FEATURES, 4)]
    [InlineData(FrontendRequest.SET_FEATURES, 16)]
    [InlineData(FrontendRequest.GET_FEATURES, 8)]
    [InlineData(FrontendRequest.SET_OWNER, 1)]
    [InlineData(FrontendRequest.SET_VRING_NUM, 7)]
    [InlineData(FrontendRequest.SET_VRING_ADDR, 32)]
    [InlineData(FrontendRequest.SET_MEM_TABLE, 0)]
    [InlineData(FrontendRequest.SET_MEM_TABLE, 7)]
    [InlineData(FrontendRequest.ADD_MEM_REG, 32)]
    [InlineData(FrontendRequest.GET_CONFIG, 11)]
    [InlineData(FrontendRequest.SET_LOG_BASE, 8)]
    [InlineData(FrontendRequest.SET_LOG_FD, 4)]
    [InlineData(FrontendRequest.GET_INFLIGHT_FD, 22)]
    [InlineData(FrontendRequest.SET_INFLIGHT_FD, 32)]
    [InlineData(FrontendRequest.SET_DEVICE_STATE_FD, 4)]
    [InlineData(FrontendRequest.CHECK_DEVICE_STATE, 8)]
    public void Closes_the_connection_over_a_payload_of_the_wrong_size(FrontendRequest request, int bytes)
    {
        using var file = new TestFiles(0x1000);
        using var frontend = new RawFrontend(new RecordingBackend());
        frontend.Negotiate();
        frontend.SendRaw(RawFrontend.Message(request, new byte[bytes], RawFrontend.NeedReply), file.Handle);
        frontend.ExpectClosed();
        Assert.Equal(SessionOutcome.ProtocolViolation, frontend.End());
        Assert.Equal(1, file.CountDescriptors());
    }

    [Fact]
    public void Closes_the_connection_over_a_reply_nobody_asked_for()
    {
        using var frontend = new RawFrontend(new RecordingBackend());
        frontend.SendRaw(RawFrontend.Message(FrontendRequest.GET_FEATURES, [], 5));
        frontend.ExpectClosed();
        Assert.Equal(SessionOutcome.ProtocolViolation, frontend.End());
    }

    [Theory]
    [InlineData(FrontendRequest.SET_LOG_BASE)]
    [InlineData(FrontendRequest.SET_LOG_FD)]
    [InlineData(FrontendRequest.GET_INFLIGHT_FD)]
    [InlineData(FrontendRequest.SET_INFLIGHT_FD)]
    [InlineData(FrontendRequest.SET_DEVICE_STATE_FD)]
    [InlineData(FrontendRequest.IOTLB_MSG)]
    [InlineData(FrontendRequest.CHECK_DEVICE_STATE)]
    [InlineData((FrontendRequest)4711)]
    public void Refuses_what_was_not_offered_or_is_unknown(FrontendRequest request)
    {
        const ProtocolFeatures Few = ProtocolFeatures.REPLY_ACK | ProtocolFeatures.CONFIG;
        using var file = new TestFiles(0x1000);
        using var frontend = new RawFrontend(new RecordingBackend(), new VhostUserSessionOptions { OfferedProtocolFeatures = Few });
        frontend.Negotiate(protocol: Few);
        Assert.NotEqual(0UL, frontend.SendForAck(request, new byte[24], file.Handle));
        Assert.Equal(1, file.CountDescriptors());

        frontend.Send(request, new byte[24], file.Handle);
        frontend.ExpectClosed();
        Assert.Equal(SessionOutcome.ProtocolViolation, frontend.End());
        Assert.Equal(1, file.CountDescriptors());
    }

    [Fact]
    public void Closes_the_connection_over_descriptors_that_come_with_a_question()
    {
        using var file = new TestFiles(0x1000);
        using var frontend = new RawFrontend(new RecordingBackend());
        frontend.Send(FrontendRequest.GET_FEATURES, [], file.Handle);
        frontend.ExpectClosed();
        Assert.Equal(1, file.CountDescriptors());
    }

    [Fact]
    public void A_truncated_message_and_a_close_end_the_session_in_order()
    {
        var backend = new RecordingBackend();
        using var frontend = new RawFrontend(backend);
        frontend.SendRaw(RawFrontend.Message(FrontendRequest.SET_FEATURES, new byte[8]).AsSpan(0, 15));
        Assert.Equal(SessionOutcome.FrontendLeft, frontend.Leave());
        Assert.Equal(["Attached", "Detached"], backend.Calls);
    }

    [Fact]
    public void A_front_end_may_leave_without_reading_its_replies()
    {
        using var frontend = new RawFrontend(new RecordingBackend());
        for (var i = 0; i < 100; i++)
        {
            frontend.Send(FrontendRequest.GET_FEATURES);
        }

        Assert.Equal(SessionOutcome.FrontendLeft, frontend.Leave());
    }
}
