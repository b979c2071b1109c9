using System.Runtime.InteropServices;
using VirtioBlkFlow.VhostUser;
using VirtioBlkFlow.VhostUser.Session;
using VirtioBlkFlow.VhostUser.Wire;
using Xunit;

namespace VirtioBlkFlow.UnitTests.VhostUser;

/// <summary>SET_LOG_BASE, SET_LOG_FD, VHOST_F_LOG_ALL and VHOST_VRING_F_LOG: what reaches the device, and when.</summary>
public sealed class DirtyLogTests : IDisposable
{
    private const ulong User = 0x7000_0000;
    private const ulong Features = RecordingBackend.Version1 | RawFrontend.Bit30;
    private const ulong LoggingFeatures = Features | ProtocolLimits.VHOST_F_LOG_ALL;
    private readonly TestFiles _ram = new(0x10000);
    private readonly TestFiles _log = new(0x2000);
    private readonly RecordingBackend _backend = new();
    private readonly RawFrontend _frontend;

    public DirtyLogTests()
    {
        _frontend = new RawFrontend(_backend);
        _frontend.Negotiate();
        _frontend.Send(
            FrontendRequest.SET_MEM_TABLE,
            [.. RawFrontend.Bytes(new MemoryTableHeader(1, 0)), .. RawFrontend.Bytes(new MemoryRegion(0, 0x10000, User, 0))],
            _ram.Handle);
    }

    [Fact] // VU-07, VU-22
    public void A_running_queue_logs_from_LOG_ALL_to_its_end_and_is_never_stopped()
    {
        _frontend.StartVring(1, Ring());
        SetLog(0x1000);
        Assert.Null(_backend.DirtyLog);

        Assert.Equal(0UL, _frontend.SendForAck(FrontendRequest.SET_FEATURES, LoggingFeatures));
        Assert.Equal(0x1000UL, _backend.DirtyLog!.Value.LengthBytes);
        Assert.Empty(_backend.LoggedUsedRings);

        Assert.Equal(0UL, _frontend.SendForAck(FrontendRequest.SET_VRING_ADDR, Ring(logAt: 0x8000)));
        Assert.Equal([new LoggedUsedRing(1, 0x8000)], _backend.LoggedUsedRings);

        Assert.Equal(0UL, _frontend.SendForAck(FrontendRequest.SET_FEATURES, Features));
        Assert.Null(_backend.DirtyLog);
        Assert.Empty(_backend.LoggedUsedRings);
        Assert.Equal(0UL, _frontend.SendForAck(FrontendRequest.SET_VRING_ADDR, Ring()));

        Assert.Equal(3, _backend.Calls.Count(call => call.StartsWith("Log", StringComparison.Ordinal)));
        Assert.DoesNotContain("Stop 1", _backend.Calls);
        Assert.DoesNotContain(_backend.Calls, call => call.StartsWith("Features 104", StringComparison.Ordinal)); // Bit 26 is not the device's.
    }

    [Fact]
    public void A_queue_that_starts_later_has_the_log_in_its_setup()
    {
        SetLog(0x1000);
        _frontend.Send(FrontendRequest.SET_FEATURES, LoggingFeatures);
        _frontend.StartVring(1, Ring(logAt: 0x8000));
        Assert.Equal(_backend.DirtyLog, _backend.Running[1].DirtyLog);
        Assert.NotNull(_backend.DirtyLog);
        Assert.Equal(0x8000UL, _backend.Running[1].UsedRingLogAddress);
        _frontend.StartVring(2, TestFiles.VringAt(2, User + 0x3000));
        Assert.Null(_backend.Running[2].UsedRingLogAddress);
    }

    [Fact] // VU-23
    public void A_log_is_replaced_while_queues_run_and_the_old_one_lives_until_the_device_let_go()
    {
        _frontend.StartVring(1, Ring(logAt: 0x8000));
        _frontend.Send(FrontendRequest.SET_FEATURES, LoggingFeatures);
        SetLog(0x1000);
        var before = _backend.DirtyLog!.Value.Address;
        var mappingsMeanwhile = 0;
        _backend.WhileChangingLog = () => mappingsMeanwhile = _log.CountMappings();
        SetLog(0x2000);
        Assert.Equal(2, mappingsMeanwhile);
        Assert.Equal((1, 1), (_log.CountMappings(), _log.CountDescriptors()));
        Assert.NotEqual(before, _backend.DirtyLog!.Value.Address);
        Assert.Equal([new LoggedUsedRing(1, 0x8000)], _backend.LoggedUsedRings);
    }

    [Fact] // VU-35
    public unsafe void Offset_and_length_of_the_log_are_honoured()
    {
        RandomAccess.Write(_log.Handle, [0xab], 0x1008);
        _frontend.Send(FrontendRequest.SET_FEATURES, LoggingFeatures);
        SetLog(0x800, offset: 0x1008);
        Assert.Equal(0x800UL, _backend.DirtyLog!.Value.LengthBytes);
        Assert.Equal(0xab, *(byte*)_backend.DirtyLog.Value.Address);
        *(byte*)_backend.DirtyLog.Value.Address = 0xcd;
        var read = new byte[1];
        RandomAccess.Read(_log.Handle, read, 0x1008);
        Assert.Equal(0xcd, read[0]);
    }

    [Theory] // VU-07, HARD-21
    [InlineData(0UL, 0UL, 1)]
    [InlineData(0x2001UL, 0UL, 1)]
    [InlineData(0x1000UL, 0x2000UL, 1)]
    [InlineData(0x1000UL, 4UL, 1)]
    [InlineData(1UL << 60, 0UL, 1)]
    [InlineData(ulong.MaxValue, 0UL, 1)]
    [InlineData(0x1000UL, ulong.MaxValue - 0xfff, 1)]
    [InlineData(0x1000UL, 0UL, 0)]
    [InlineData(0x1000UL, 0UL, 2)]
    public void Refuses_a_log_that_makes_no_sense_and_keeps_the_one_before(ulong lengthBytes, ulong offset, int descriptors)
    {
        _frontend.Send(FrontendRequest.SET_FEATURES, LoggingFeatures);
        SetLog(0x1000);
        var before = _backend.DirtyLog;
        var files = Enumerable.Repeat(_log.Handle, descriptors).ToArray();
        Assert.NotEqual(0UL, _frontend.SendForAck(FrontendRequest.SET_LOG_BASE, new LogDescription(lengthBytes, offset), files));
        Assert.Equal(before, _backend.DirtyLog);
        Assert.Equal((1, 1), (_log.CountMappings(), _log.CountDescriptors()));

        // QEMU does not look at what is in the reply, so without NEED_REPLY there is none.
        _frontend.Send(FrontendRequest.SET_LOG_BASE, new LogDescription(lengthBytes, offset), files);
        _frontend.ExpectClosed();
        Assert.Equal(SessionOutcome.ProtocolViolation, _frontend.End());
        Assert.Equal((0, 1), (_log.CountMappings(), _log.CountDescriptors()));
    }

    [Fact]
    public void Refuses_a_log_that_is_no_file()
    {
        using var device = File.OpenHandle("/dev/zero", FileMode.Open, FileAccess.ReadWrite);
        Assert.NotEqual(0UL, _frontend.SendForAck(FrontendRequest.SET_LOG_BASE, new LogDescription(0x1000, 0), device));
    }

    [Theory]
    [InlineData(0UL, true)]
    [InlineData(0x7_ff7aUL, true)] // 16 bytes of log are 512 KiB of memory, and the used ring has 6 + 8 x 16 bytes.
    [InlineData(0x7_ff7bUL, false)]
    [InlineData(0x8_0000UL, false)]
    [InlineData(ulong.MaxValue - 0x10, false)]
    public void Refuses_to_log_a_used_ring_that_is_not_all_within_the_log(ulong logAt, bool isWithin)
    {
        SetLog(16);
        _frontend.StartVring(1, Ring());
        _frontend.Send(FrontendRequest.SET_FEATURES, LoggingFeatures);
        Assert.Equal(isWithin, _frontend.SendForAck(FrontendRequest.SET_VRING_ADDR, Ring(logAt)) == 0);
        Assert.Equal(isWithin ? 1 : 0, _backend.LoggedUsedRings.Length);
    }

    [Fact]
    public void Refuses_to_begin_to_log_with_a_used_ring_outside_whichever_message_comes_last()
    {
        var outside = Ring(logAt: 0x8_0000);

        // The vring runs, the log is there, LOG_ALL comes.
        SetLog(16);
        _frontend.StartVring(1, outside);
        Assert.NotEqual(0UL, _frontend.SendForAck(FrontendRequest.SET_FEATURES, LoggingFeatures));
        Assert.Null(_backend.DirtyLog);

        // LOG_ALL is there with a log that suits, a shorter log comes.
        SetLog(0x1000);
        Assert.Equal(0UL, _frontend.SendForAck(FrontendRequest.SET_FEATURES, LoggingFeatures));
        Assert.NotEqual(0UL, _frontend.SendForAck(FrontendRequest.SET_LOG_BASE, new LogDescription(16, 0), _log.Handle));
        Assert.Equal(0x1000UL, _backend.DirtyLog!.Value.LengthBytes);
        Assert.Equal((1, 1), (_log.CountMappings(), _log.CountDescriptors()));

        // The log suits no vring yet, one starts.
        _frontend.Send(FrontendRequest.SET_VRING_ENABLE, new VringState(1, 0));
        SetLog(16);
        Assert.NotEqual(0UL, _frontend.SendForAck(FrontendRequest.SET_VRING_ENABLE, new VringState(1, 1)));
        Assert.Empty(_backend.Running);
    }

    [Fact]
    public void Of_a_packed_queue_the_event_area_must_be_within_the_log()
    {
        _frontend.Send(FrontendRequest.SET_FEATURES, LoggingFeatures | RecordingBackend.Packed);
        SetLog(16);
        _frontend.StartVring(1, Ring(logAt: 0x7_fffc), start: 0x8000_8000);
        Assert.Equal(0x7_fffcUL, _backend.Running[1].UsedRingLogAddress);
        Assert.NotEqual(0UL, _frontend.SendForAck(FrontendRequest.SET_VRING_ADDR, Ring(logAt: 0x7_fffd)));
        Assert.Equal(0UL, _frontend.SendForAck(FrontendRequest.SET_VRING_ADDR, Ring(logAt: 0)));
        Assert.Equal([new LoggedUsedRing(1, 0)], _backend.LoggedUsedRings);
    }

    [Theory]
    [InlineData(FrontendRequest.RESET_DEVICE)]
    [InlineData(FrontendRequest.SET_STATUS)]
    public void A_reset_ends_logging_and_keeps_the_log_for_the_next_driver(FrontendRequest reset)
    {
        _frontend.Send(FrontendRequest.SET_FEATURES, LoggingFeatures);
        SetLog(0x1000);
        _frontend.StartVring(1, Ring());
        _frontend.Send(reset, reset == FrontendRequest.SET_STATUS ? new byte[8] : []);
        _frontend.Barrier();
        Assert.Null(_backend.DirtyLog);
        Assert.Equal(["Stop 1", "Log none, 0 used rings", "Reset"], _backend.Calls[^3..]);
        Assert.Equal(1, _log.CountMappings());

        _frontend.Send(FrontendRequest.SET_FEATURES, LoggingFeatures);
        _frontend.Barrier();
        Assert.NotNull(_backend.DirtyLog);
    }

    [Theory] // VU-37
    [InlineData(0)]
    [InlineData(8)]
    public void Takes_a_log_descriptor_and_closes_it(int payloadBytes)
    {
        using var descriptor = new TestFiles(0);
        Assert.Equal(0UL, _frontend.SendForAck(FrontendRequest.SET_LOG_FD, new byte[payloadBytes], descriptor.Handle));
        Assert.Equal(1, descriptor.CountDescriptors());
        Assert.NotEqual(0UL, _frontend.SendForAck(FrontendRequest.SET_LOG_FD, new byte[payloadBytes]));
    }

    [Fact]
    public void The_end_of_the_connection_unmaps_the_log_after_the_device_let_go()
    {
        _frontend.Send(FrontendRequest.SET_FEATURES, LoggingFeatures);
        SetLog(0x1000);
        _frontend.StartVring(1, Ring(logAt: 0));
        var mappedWhileStopping = 0;
        _backend.WhileStopping = () => mappedWhileStopping = _log.CountMappings();
        Assert.Equal(SessionOutcome.FrontendLeft, _frontend.Leave());
        Assert.Equal(1, mappedWhileStopping);
        Assert.Equal((0, 1), (_log.CountMappings(), _log.CountDescriptors()));
    }

    public void Dispose()
    {
        _frontend.Dispose();
        _ram.Dispose();
        _log.Dispose();
    }

    private static VringAddress Ring(ulong? logAt = null) =>
        TestFiles.VringAt(1, User + 0x1000, logAt is null ? 0 : VringAddress.LogEnabled) with { Log = logAt ?? 0 };

    private void SetLog(ulong lengthBytes, ulong offset = 0)
    {
        _frontend.Send(FrontendRequest.SET_LOG_BASE, new LogDescription(lengthBytes, offset), _log.Handle);
        Assert.Equal(0UL, MemoryMarshal.Read<ulong>(_frontend.ReceiveReply(FrontendRequest.SET_LOG_BASE)));
    }
}
