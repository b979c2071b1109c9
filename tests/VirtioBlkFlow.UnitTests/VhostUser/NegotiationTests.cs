using VirtioBlkFlow.VhostUser.Session;
using VirtioBlkFlow.VhostUser.Wire;
using Xunit;

namespace VirtioBlkFlow.UnitTests.VhostUser;

public sealed class NegotiationTests : IDisposable
{
    private readonly RecordingBackend _backend = new();
    private readonly RawFrontend _frontend;

    public NegotiationTests() => _frontend = new RawFrontend(_backend);

    [Fact]
    public void Answers_questions_before_anything_is_negotiated()
    {
        Assert.Equal(_backend.OfferedFeatures | RawFrontend.Bit30 | (1UL << 26), _frontend.AskU64(FrontendRequest.GET_FEATURES));
        Assert.Equal((ulong)VhostUserSessionOptions.Supported, _frontend.AskU64(FrontendRequest.GET_PROTOCOL_FEATURES));
        Assert.Equal(4UL, _frontend.AskU64(FrontendRequest.GET_QUEUE_NUM));
        Assert.Equal(509UL, _frontend.AskU64(FrontendRequest.GET_MAX_MEM_SLOTS));
        Assert.Equal(0UL, _frontend.AskU64(FrontendRequest.GET_STATUS));
    }

    [Fact]
    public void Numbers_protocol_features_as_the_document_does()
    {
        Assert.Equal(
            (1UL << 0) | (1UL << 1) | (1UL << 3) | (1UL << 5) | (1UL << 9) | (1UL << 12) | (1UL << 13) | (1UL << 15)
                | (1UL << 16) | (1UL << 19) | (1UL << 20),
            (ulong)VhostUserSessionOptions.Supported);
        Assert.Equal(40u, (uint)FrontendRequest.GET_STATUS);
        Assert.Equal(24u, (uint)FrontendRequest.GET_CONFIG);
        Assert.Equal(34u, (uint)FrontendRequest.RESET_DEVICE);
    }

    [Fact]
    public void Offers_only_what_it_was_told_to()
    {
        var options = new VhostUserSessionOptions { OfferedProtocolFeatures = ProtocolFeatures.MQ | ProtocolFeatures.REPLY_ACK };
        using var frontend = new RawFrontend(new RecordingBackend(), options);
        Assert.Equal(9UL, frontend.AskU64(FrontendRequest.GET_PROTOCOL_FEATURES));
        Assert.Equal(0UL, frontend.AskU64(FrontendRequest.GET_FEATURES) & ProtocolLimits.VHOST_F_LOG_ALL);
        frontend.Send(FrontendRequest.GET_STATUS);
        frontend.ExpectClosed();
        Assert.Throws<ArgumentException>(() => new VhostUserSessionOptions { OfferedProtocolFeatures = ProtocolFeatures.PAGEFAULT });
        Assert.Throws<ArgumentException>( // CORE-04
            () => new VhostUserSessionOptions { OfferedProtocolFeatures = ProtocolFeatures.GET_VRING_BASE_INFLIGHT });
    }

    [Fact]
    public void Hands_features_to_the_device_without_bit_30()
    {
        _frontend.Send(FrontendRequest.SET_FEATURES, RecordingBackend.Version1 | RawFrontend.Bit30);
        _frontend.Barrier();
        Assert.Contains("Features 100000000", _backend.Calls);
    }

    [Fact]
    public void Refuses_features_that_were_not_offered_with_an_acknowledgement()
    {
        _frontend.Negotiate();
        Assert.NotEqual(0UL, _frontend.SendForAck(FrontendRequest.SET_FEATURES, 1UL << 40));
        Assert.Equal(0UL, _frontend.SendForAck(FrontendRequest.SET_FEATURES, RecordingBackend.Version1 | RawFrontend.Bit30));
    }

    [Fact]
    public void Refuses_features_the_device_cannot_serve_by_leaving_FEATURES_OK_out()
    {
        _backend.AcceptsFeatures = features => (features & RecordingBackend.Version1) != 0;
        _frontend.Negotiate();
        _frontend.Send(FrontendRequest.SET_FEATURES, RawFrontend.Bit30);
        _frontend.Send(FrontendRequest.SET_STATUS, 11UL);
        Assert.Equal(3UL, _frontend.AskU64(FrontendRequest.GET_STATUS));

        _frontend.Send(FrontendRequest.SET_FEATURES, RecordingBackend.Version1 | RawFrontend.Bit30);
        _frontend.Send(FrontendRequest.SET_STATUS, 11UL);
        Assert.Equal(11UL, _frontend.AskU64(FrontendRequest.GET_STATUS));
    }

    [Fact]
    public void Closes_the_connection_over_features_it_cannot_refuse_otherwise()
    {
        _frontend.Send(FrontendRequest.SET_FEATURES, 1UL << 40);
        _frontend.ExpectClosed();
        Assert.Equal(SessionOutcome.ProtocolViolation, _frontend.End());
    }

    [Theory] // VU-50
    [InlineData(ProtocolFeatures.INBAND_NOTIFICATIONS)]
    [InlineData(ProtocolFeatures.INBAND_NOTIFICATIONS | ProtocolFeatures.REPLY_ACK)]
    [InlineData(ProtocolFeatures.INBAND_NOTIFICATIONS | ProtocolFeatures.BACKEND_REQ)]
    public void Closes_the_connection_over_in_band_notifications_without_what_they_need(ProtocolFeatures features)
    {
        // REPLY_ACK is negotiated before, so an acknowledgement could be asked for: it is closed nevertheless.
        _frontend.Negotiate();
        _frontend.SendRaw(RawFrontend.Message(FrontendRequest.SET_PROTOCOL_FEATURES, RawFrontend.Bytes((ulong)features), RawFrontend.NeedReply));
        _frontend.ExpectClosed();
    }

    [Fact]
    public void Refuses_in_band_notifications_that_were_not_offered()
    {
        _frontend.Negotiate();
        const ProtocolFeatures Features = ProtocolFeatures.INBAND_NOTIFICATIONS | ProtocolFeatures.REPLY_ACK | ProtocolFeatures.BACKEND_REQ;
        Assert.NotEqual(0UL, _frontend.SendForAck(FrontendRequest.SET_PROTOCOL_FEATURES, (ulong)Features));
    }

    [Fact] // VU-59
    public void Takes_GET_VRING_BASE_INFLIGHT_only_together_with_INFLIGHT_SHMFD()
    {
        _frontend.Negotiate();
        Assert.NotEqual(0UL, _frontend.SendForAck(
            FrontendRequest.SET_PROTOCOL_FEATURES, (ulong)(VhostUserSessionOptions.Supported & ~ProtocolFeatures.INFLIGHT_SHMFD)));
        Assert.Equal(0UL, _frontend.SendForAck(FrontendRequest.SET_PROTOCOL_FEATURES, (ulong)VhostUserSessionOptions.Supported));
    }

    [Fact]
    public void Resets_on_status_0()
    {
        _frontend.Negotiate();
        _frontend.Send(FrontendRequest.SET_STATUS, 15UL);
        Assert.Equal(15UL, _frontend.AskU64(FrontendRequest.GET_STATUS));
        _frontend.Send(FrontendRequest.SET_STATUS, 0UL);
        Assert.Equal(0UL, _frontend.AskU64(FrontendRequest.GET_STATUS));
        Assert.Contains("Reset", _backend.Calls);
    }

    [Fact]
    public void Resets_the_device_as_often_as_asked_even_before_set_up()
    {
        _frontend.Negotiate();
        for (var i = 0; i < 3; i++)
        {
            _frontend.Send(FrontendRequest.RESET_DEVICE);
        }

        _frontend.Barrier();
        Assert.Equal(3, _backend.Calls.Count(call => call == "Reset"));

        // Protocol features outlive it.
        Assert.Equal(0UL, _frontend.SendForAck(FrontendRequest.RESET_DEVICE, []));
    }

    [Fact]
    public void Ignores_RESET_OWNER()
    {
        _frontend.Negotiate();
        _frontend.Send(FrontendRequest.RESET_OWNER);
        Assert.Equal(0UL, _frontend.SendForAck(FrontendRequest.RESET_OWNER, []));
    }

    [Fact]
    public void Gives_no_acknowledgement_unless_it_was_negotiated()
    {
        _frontend.SendRaw(RawFrontend.Message(FrontendRequest.SET_OWNER, [], RawFrontend.NeedReply));
        _frontend.Barrier(); // Reads a reply to GET_FEATURES, and so none to SET_OWNER.
    }

    [Fact]
    public void Acknowledges_the_request_that_negotiates_acknowledgements() =>
        Assert.Equal(0UL, _frontend.SendForAck(FrontendRequest.SET_PROTOCOL_FEATURES, (ulong)ProtocolFeatures.REPLY_ACK));

    [Theory]
    [InlineData(FrontendRequest.GET_FEATURES)]
    [InlineData(FrontendRequest.GET_PROTOCOL_FEATURES)]
    [InlineData(FrontendRequest.GET_QUEUE_NUM)]
    [InlineData(FrontendRequest.GET_MAX_MEM_SLOTS)]
    [InlineData(FrontendRequest.GET_STATUS)]
    public void Gives_one_reply_to_a_question_that_asks_for_an_acknowledgement_too(FrontendRequest request)
    {
        _frontend.Negotiate();
        _frontend.SendRaw(RawFrontend.Message(request, [], RawFrontend.NeedReply));
        Assert.Equal(8, _frontend.ReceiveReply(request).Length);
        _frontend.Barrier();
    }

    [Fact]
    public void Gives_one_reply_to_every_request_there_is_when_it_asks_for_one()
    {
        // Whatever the number and whether it is served: one reply or the end, never two replies and never silence.
        foreach (var request in Enum.GetValues<FrontendRequest>().Append((FrontendRequest)45).Append((FrontendRequest)0xffff_ffff))
        {
            using var frontend = new RawFrontend(new RecordingBackend());
            frontend.Negotiate();
            frontend.Barrier();
            var payload = request switch
            {
                FrontendRequest.SET_PROTOCOL_FEATURES => RawFrontend.Bytes((ulong)VhostUserSessionOptions.Supported),
                FrontendRequest.SET_VRING_ADDR => RawFrontend.Bytes(default(VringAddress)),
                FrontendRequest.ADD_MEM_REG or FrontendRequest.REM_MEM_REG => RawFrontend.Bytes(default(SingleMemoryRegion)),
                FrontendRequest.GET_CONFIG or FrontendRequest.SET_CONFIG => [.. RawFrontend.Bytes(new ConfigHeader(32, 1, 0)), 1],
                FrontendRequest.SET_OWNER or FrontendRequest.RESET_OWNER or FrontendRequest.RESET_DEVICE
                    or FrontendRequest.SET_BACKEND_REQ_FD or FrontendRequest.CHECK_DEVICE_STATE => [],
                FrontendRequest.SET_LOG_BASE => RawFrontend.Bytes(default(LogDescription)),
                FrontendRequest.GET_INFLIGHT_FD or FrontendRequest.SET_INFLIGHT_FD => new byte[24],
                _ when request.ToString().StartsWith("GET_", StringComparison.Ordinal) && request != FrontendRequest.GET_VRING_BASE => [],
                _ => new byte[8],
            };
            frontend.SendRaw(RawFrontend.Message(request, payload, RawFrontend.NeedReply));
            if (request == FrontendRequest.NONE)
            {
                frontend.ExpectClosed();
                Assert.Equal(SessionOutcome.FrontendLeft, frontend.End());
                continue;
            }

            frontend.ReceiveReply(request);
            frontend.Barrier();
            Assert.False(frontend.HasSomethingToRead(), $"{request} has a second reply");
        }
    }

    public void Dispose() => _frontend.Dispose();
}
