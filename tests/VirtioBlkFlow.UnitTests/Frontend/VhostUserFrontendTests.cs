using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.VhostUser.Connection;
using VirtioBlkFlow.VhostUser.Wire;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Frontend;

/// <summary>What goes over the wire, seen from a peer that only listens and answers what the test says.</summary>
public sealed class VhostUserFrontendTests : IDisposable
{
    private const int ShortMs = 100;

    private readonly VhostUserFrontend _frontend;
    private readonly VhostUserConnection _peer;
    private readonly ReceivedMessage _message = new();

    public VhostUserFrontendTests()
    {
        (SafeFileHandle frontend, SafeFileHandle backend) = VhostUserFrontend.CreateSocketPair();
        _frontend = new VhostUserFrontend(frontend, ShortMs);
        _peer = new VhostUserConnection(backend);
    }

    public void Dispose()
    {
        _frontend.Dispose();
        _peer.Dispose();
        _message.Dispose();
    }

    [Fact]
    public void Requests_without_a_reply_go_out_as_the_protocol_lays_them_out()
    {
        using var memory = new SharedMemory(
            new SharedRegionOptions(0, 8192) { UserAddress = 0x1000, MmapOffset = 4096 }, new SharedRegionOptions(0x10000, 4096) { UserAddress = 0x9000 });
        using var fd = new EventDescriptor();
        using var channel = new BackendChannel();
        Expect(() => _frontend.SetOwner(), FrontendRequest.SET_OWNER, []);
        Expect(() => _frontend.ResetOwner(), FrontendRequest.RESET_OWNER, []);
        Expect(() => _frontend.SetFeatures(0x1234), FrontendRequest.SET_FEATURES, Words(0x1234));
        Expect(() => _frontend.SetProtocolFeatures(ProtocolFeatures.CONFIG), FrontendRequest.SET_PROTOCOL_FEATURES, Words(1 << 9));
        Expect(
            () => _frontend.SetMemTable(memory), FrontendRequest.SET_MEM_TABLE, Words(2, 0, 8192, 0x1000, 4096, 0x10000, 4096, 0x9000, 0), descriptors: 2);
        Expect(() => _frontend.AddMemReg(memory.Regions[0]), FrontendRequest.ADD_MEM_REG, Words(0, 0, 8192, 0x1000, 4096), descriptors: 1);
        Expect(() => _frontend.RemMemReg(memory.Regions[0]), FrontendRequest.REM_MEM_REG, Words(0, 0, 8192, 0x1000, 4096));
        Expect(() => _frontend.SetVringNum(3, 256), FrontendRequest.SET_VRING_NUM, Words(3 | (256UL << 32)));
        Expect(() => _frontend.SetVringBase(3, 65530), FrontendRequest.SET_VRING_BASE, Words(3 | (65530UL << 32)));
        Expect(() => _frontend.SetVringEnable(3, enable: true), FrontendRequest.SET_VRING_ENABLE, Words(3 | (1UL << 32)));
        Expect(() => _frontend.SetVringAddr(new VringAddress(3, 1, 10, 20, 30, 40)), FrontendRequest.SET_VRING_ADDR, Words(3 | (1UL << 32), 10, 20, 30, 40));
        Expect(() => _frontend.SetVringKick(3, fd), FrontendRequest.SET_VRING_KICK, Words(3), descriptors: 1);
        Expect(() => _frontend.SetVringCall(3, fd), FrontendRequest.SET_VRING_CALL, Words(3), descriptors: 1);
        Expect(() => _frontend.SetVringErr(3, null), FrontendRequest.SET_VRING_ERR, Words(0x103));
        Expect(() => _frontend.SetLogFd(fd), FrontendRequest.SET_LOG_FD, [], descriptors: 1);
        Expect(() => _frontend.SetConfig(32, [1]), FrontendRequest.SET_CONFIG, [32, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
        Expect(() => _frontend.SetStatus(DeviceStatus.DRIVER_OK), FrontendRequest.SET_STATUS, Words(4));
        Expect(() => _frontend.ResetDevice(), FrontendRequest.RESET_DEVICE, []);
        Expect(() => _frontend.VringKick(3), FrontendRequest.VRING_KICK, Words(3));
        Expect(() => _frontend.SetBackendReqFd(channel), FrontendRequest.SET_BACKEND_REQ_FD, [], descriptors: 1);
        Expect(
            () => _frontend.SetInflightFd(new InflightArea(4096, 0, 2, 256), fd.Handle), FrontendRequest.SET_INFLIGHT_FD, Words(4096, 0, 2 | (256 << 16)), descriptors: 1);
    }

    [Fact]
    public void Queries_return_what_the_reply_holds()
    {
        Answer(FrontendRequest.GET_FEATURES, Words(0x4000_0000), () => Assert.Equal(0x4000_0000u, _frontend.GetFeatures()));
        Answer(FrontendRequest.GET_PROTOCOL_FEATURES, Words(8), () => Assert.Equal(ProtocolFeatures.REPLY_ACK, _frontend.GetProtocolFeatures()));
        Answer(FrontendRequest.GET_QUEUE_NUM, Words(4), () => Assert.Equal(4u, _frontend.GetQueueNum()));
        Answer(FrontendRequest.GET_MAX_MEM_SLOTS, Words(509), () => Assert.Equal(509u, _frontend.GetMaxMemSlots()));
        Answer(FrontendRequest.GET_STATUS, Words(15), () => Assert.Equal((DeviceStatus)15, _frontend.GetStatus()));
        Answer(FrontendRequest.GET_VRING_BASE, Words(1 | (77UL << 32)), () => Assert.Equal(77u, _frontend.GetVringBase(1)));
        Answer(FrontendRequest.GET_CONFIG, [8, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 5, 6], () => Assert.Equal([5, 6], _frontend.GetConfig(8, 2)));
        Answer(FrontendRequest.GET_CONFIG, [], () => Assert.Null(_frontend.GetConfig(8, 2)));
        Answer(FrontendRequest.SET_LOG_BASE, Words(0), () => Assert.Equal(0u, _frontend.SetLogBase(new LogArea(4096, 0), AnyDescriptor())));
        Answer(FrontendRequest.CHECK_DEVICE_STATE, Words(0), () => Assert.Equal(0u, _frontend.CheckDeviceState()));
        Answer(
            FrontendRequest.SET_DEVICE_STATE_FD, Words(0x100), () => Assert.Equal(0x100u, _frontend.SetDeviceStateFd(new DeviceStateTransfer(0, 0), AnyDescriptor())));
    }

    [Fact]
    public void An_area_for_requests_in_flight_comes_with_its_descriptor()
    {
        SafeFileHandle descriptor = AnyDescriptor();
        _peer.SendReply((uint)FrontendRequest.GET_INFLIGHT_FD, Words(4096, 0, 2 | (256 << 16)), [descriptor]);
        (InflightArea area, SafeFileHandle? handle) = _frontend.GetInflightFd(2, 256);
        Assert.Equal(new InflightArea(4096, 0, 2, 256), area);
        Assert.NotNull(handle);
        handle.Dispose();
    }

    [Fact]
    public void An_acknowledgement_is_asked_for_with_the_flag_and_returned()
    {
        _peer.SendReply((uint)FrontendRequest.SET_OWNER, Words(7));
        Assert.Equal(7u, _frontend.SetOwner(needReply: true));
        Assert.Equal(ReceiveOutcome.Message, _peer.Receive(_message));
        Assert.Equal(MessageFlags.Version1 | MessageFlags.NeedReply, _message.Header.Flags);
    }

    [Fact]
    public void A_silent_back_end_is_a_timeout_and_not_a_hang() => Assert.Throws<TimeoutException>(() => _frontend.GetFeatures());

    [Fact]
    public void A_back_end_that_falls_silent_within_a_message_is_noticed()
    {
        (SafeFileHandle frontendSocket, SafeFileHandle backendSocket) = VhostUserFrontend.CreateSocketPair();
        using var frontend = new VhostUserFrontend(frontendSocket, ShortMs);
        using var backend = new VhostUserFrontend(backendSocket, ShortMs);
        backend.SendRaw([1, 0, 0]);
        Assert.Throws<BackendClosedException>(() => frontend.GetFeatures());
    }

    [Fact]
    public void A_closed_connection_is_told_apart_from_silence()
    {
        Assert.False(_frontend.WaitForClose(Deadline.In(0)));
        _peer.Dispose();
        Assert.Throws<BackendClosedException>(() => _frontend.GetFeatures());
        Assert.True(_frontend.WaitForClose(Deadline.In(ShortMs)));
    }

    [Theory]
    [InlineData((uint)FrontendRequest.SET_FEATURES, 0x5u, 8)]
    [InlineData((uint)FrontendRequest.GET_FEATURES, 0xdu, 8)]
    [InlineData((uint)FrontendRequest.GET_FEATURES, 0x1u, 8)]
    [InlineData((uint)FrontendRequest.GET_FEATURES, 0x6u, 8)]
    [InlineData((uint)FrontendRequest.GET_FEATURES, 0x5u, 4)]
    public void A_reply_that_is_not_exactly_one_is_the_back_ends_fault(uint request, uint flags, int payloadBytes)
    {
        _peer.Send(request, (MessageFlags)flags, new byte[payloadBytes]);
        Assert.Throws<BackendProtocolException>(() => _frontend.GetFeatures());
    }

    [Fact]
    public void A_raw_message_may_lie_about_its_size_and_carry_descriptors()
    {
        using var fd = new EventDescriptor();
        _frontend.SendRaw(new MessageHeader(4242, (MessageFlags)0x1, 16), [1, 2, 3, 4], [fd.Handle, fd.Handle]);
        _frontend.SendRaw([5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
        Assert.Equal(ReceiveOutcome.Message, _peer.Receive(_message));
        Assert.Equal((4242u, 2, 16), (_message.Header.Request, _message.DescriptorCount, _message.Payload.Length));
        Assert.False(_frontend.HasUnreadReply);
        _peer.SendReply(1, []);
        Assert.True(_frontend.HasUnreadReply);
    }

    [Fact]
    public void A_request_of_the_back_end_is_received_and_acknowledged()
    {
        using var channel = new BackendChannel();
        _frontend.SetBackendReqFd(channel);
        Assert.Equal(ReceiveOutcome.Message, _peer.Receive(_message));
        using var backend = new VhostUserConnection(_message.TakeDescriptor(0));
        Assert.Null(channel.WaitForRequest(Deadline.In(0)));
        backend.Send((uint)BackendRequest.CONFIG_CHANGE_MSG, MessageFlags.Version1 | MessageFlags.NeedReply, []);
        Assert.Equal(BackendRequest.CONFIG_CHANGE_MSG, channel.WaitForRequest(Deadline.In(ShortMs), acknowledgement: 3));
        Assert.Equal(ReceiveOutcome.Message, backend.Receive(_message));
        Assert.Equal(MessageHeader.ReplyFlags, _message.Header.Flags);
        Assert.True(_message.TryReadPayload(out ulong acknowledgement));
        Assert.Equal(3u, acknowledgement);
        Assert.Throws<InvalidOperationException>(() => _frontend.SetBackendReqFd(channel));
    }

    private static byte[] Words(params ulong[] words) => MemoryMarshal.AsBytes(words.AsSpan()).ToArray();

    // Any descriptor will do: it is only sent.
    private static SafeFileHandle AnyDescriptor() => File.OpenHandle("/dev/null");

    private void Expect(Action send, FrontendRequest request, byte[] payload, int descriptors = 0)
    {
        send();
        Assert.Equal(ReceiveOutcome.Message, _peer.Receive(_message));
        Assert.Equal((uint)request, _message.Header.Request);
        Assert.Equal(MessageFlags.Version1, _message.Header.Flags);
        Assert.Equal(payload, _message.Payload.ToArray());
        Assert.Equal(descriptors, _message.DescriptorCount);
    }

    // The reply may lie in the socket before the request: the front-end does not read ahead.
    private void Answer(FrontendRequest request, byte[] payload, Action query)
    {
        _peer.SendReply((uint)request, payload);
        query();
        Assert.Equal(ReceiveOutcome.Message, _peer.Receive(_message));
        Assert.Equal((uint)request, _message.Header.Request);
    }
}
