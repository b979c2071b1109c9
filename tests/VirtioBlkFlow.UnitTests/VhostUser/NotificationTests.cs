using VirtioBlkFlow.VhostUser.Wire;
using Xunit;

namespace VirtioBlkFlow.UnitTests.VhostUser;

public sealed class NotificationTests : IDisposable
{
    private const ulong User = 0x5000_0000;
    private readonly TestFiles _ram = new(0x4000);
    private readonly RecordingBackend _backend = new();
    private readonly RawFrontend _frontend;
    private readonly RawFrontend _channel;
    private readonly TestFiles _unused = new(0);

    public NotificationTests()
    {
        _frontend = new RawFrontend(_backend);
        _frontend.Negotiate();
        _channel = OpenChannel();
        Assert.Equal(0UL, _frontend.SendForAck(FrontendRequest.ADD_MEM_REG, new SingleMemoryRegion(0, new MemoryRegion(0, 0x4000, User, 0)), _ram.Handle));
    }

    [Fact]
    public void A_configuration_change_is_one_message_without_payload_and_without_NEED_REPLY()
    {
        StartVring(0);
        _backend.Frontend!.NotifyConfigChanged();
        Assert.Equal(new MessageHeader(2, MessageFlags.Version1, 0), _channel.ReceiveHeader());
        Assert.False(_channel.HasSomethingToRead());
    }

    [Fact]
    public void While_no_queue_runs_changes_wait_and_become_one_message()
    {
        _backend.Frontend!.NotifyConfigChanged();
        _backend.Frontend!.NotifyConfigChanged();
        _frontend.Barrier();
        Assert.False(_channel.HasSomethingToRead());

        StartVring(0);
        Assert.Equal((uint)BackendRequest.CONFIG_CHANGE_MSG, _channel.ReceiveHeader()!.Value.Request);
        Assert.False(_channel.HasSomethingToRead());
    }

    [Fact]
    public void After_the_last_queue_has_stopped_nothing_is_sent_any_more()
    {
        StartVring(0);
        _frontend.Send(FrontendRequest.SET_VRING_ENABLE, new VringState(0, 0));
        _frontend.Barrier();
        _backend.Frontend!.NotifyConfigChanged();
        Assert.False(_channel.HasSomethingToRead());
    }

    [Fact]
    public void Without_CONFIG_nothing_is_sent()
    {
        StartVring(0);
        _frontend.Send(FrontendRequest.SET_PROTOCOL_FEATURES, (ulong)ProtocolFeatures.BACKEND_REQ);
        _frontend.Barrier();
        _backend.Frontend!.NotifyConfigChanged();
        Assert.False(_channel.HasSomethingToRead());
    }

    [Fact]
    public void A_broken_queue_sets_NEEDS_RESET_and_is_told_of_once()
    {
        StartVring(0);
        _frontend.Send(FrontendRequest.SET_STATUS, 15UL);
        _frontend.Barrier();
        _backend.Frontend!.ReportQueueBroken(0);
        _backend.Frontend!.ReportQueueBroken(0);
        Assert.Equal((uint)BackendRequest.CONFIG_CHANGE_MSG, _channel.ReceiveHeader()!.Value.Request);
        Assert.False(_channel.HasSomethingToRead());
        Assert.Equal(15UL | 64, _frontend.AskU64(FrontendRequest.GET_STATUS));

        // The driver cannot take it back but by a reset.
        _frontend.Send(FrontendRequest.SET_STATUS, 15UL);
        Assert.Equal(15UL | 64, _frontend.AskU64(FrontendRequest.GET_STATUS));
        _frontend.Send(FrontendRequest.SET_STATUS, 0UL);
        Assert.Equal(0UL, _frontend.AskU64(FrontendRequest.GET_STATUS));
    }

    [Fact]
    public void A_queue_that_breaks_before_DRIVER_OK_is_told_of_then()
    {
        StartVring(0);
        _backend.Frontend!.ReportQueueBroken(0);
        Assert.False(_channel.HasSomethingToRead());
        _frontend.Send(FrontendRequest.SET_STATUS, 15UL);
        _frontend.Barrier();
        Assert.Equal((uint)BackendRequest.CONFIG_CHANGE_MSG, _channel.ReceiveHeader()!.Value.Request);
    }

    [Fact]
    public void A_front_end_that_does_not_read_its_channel_blocks_nobody()
    {
        StartVring(0);
        for (var i = 0; i < 5000; i++)
        {
            _backend.Frontend!.NotifyConfigChanged();
        }

        _frontend.Barrier();
    }

    [Fact]
    public void A_channel_the_front_end_has_closed_does_no_harm()
    {
        StartVring(0);
        _channel.Dispose();
        _backend.Frontend!.NotifyConfigChanged();
        _backend.Frontend!.NotifyConfigChanged();
        _frontend.Barrier();

        // What could not be said is said on the next channel.
        using var next = OpenChannel();
        Assert.Equal((uint)BackendRequest.CONFIG_CHANGE_MSG, next.ReceiveHeader()!.Value.Request);
    }

    [Fact]
    public void A_device_may_report_while_its_queue_is_being_stopped()
    {
        StartVring(0);
        _backend.WhileStopping = () => _backend.Frontend!.ReportQueueBroken(0);
        _frontend.Send(FrontendRequest.GET_VRING_BASE, new VringState(0, 0));
        _frontend.ReceiveReply(FrontendRequest.GET_VRING_BASE);
    }

    [Fact]
    public void Does_nothing_after_the_session()
    {
        StartVring(0);
        _frontend.Leave();
        _backend.Frontend!.NotifyConfigChanged();
        _backend.Frontend!.ReportQueueBroken(0);
        _channel.ExpectClosed();
    }

    [Fact]
    public void Refuses_a_channel_without_a_descriptor()
    {
        Assert.NotEqual(0UL, _frontend.SendForAck(FrontendRequest.SET_BACKEND_REQ_FD, []));
        Assert.NotEqual(0UL, _frontend.SendForAck(FrontendRequest.SET_BACKEND_REQ_FD, [], _unused.Handle, _unused.Handle));
        Assert.Equal(1, _unused.CountDescriptors());
    }

    public void Dispose()
    {
        _frontend.Dispose();
        _channel.Dispose();
        _ram.Dispose();
        _unused.Dispose();
    }

    private RawFrontend OpenChannel()
    {
        var (ours, theirs) = RawFrontend.NewPair();
        using (theirs)
        {
            Assert.Equal(0UL, _frontend.SendForAck(FrontendRequest.SET_BACKEND_REQ_FD, [], theirs));
        }

        return new RawFrontend(ours);
    }

    private void StartVring(uint index) => _frontend.StartVring(index, TestFiles.VringAt(index, User));
}
