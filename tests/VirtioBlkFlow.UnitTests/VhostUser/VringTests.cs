using System.Runtime.InteropServices;
using VirtioBlkFlow.VhostUser;
using VirtioBlkFlow.VhostUser.Session;
using VirtioBlkFlow.VhostUser.Wire;
using Xunit;

namespace VirtioBlkFlow.UnitTests.VhostUser;

public sealed class VringTests : IDisposable
{
    private const ulong User = 0x7000_0000;
    private readonly TestFiles _ram = new(0x10000);
    private readonly RecordingBackend _backend = new();
    private readonly RawFrontend _frontend;

    public VringTests()
    {
        _frontend = new RawFrontend(_backend);
        _frontend.Negotiate();
    }

    private static VringAddress Address { get; } = TestFiles.VringAt(1, User + 0x1000);

    [Fact]
    public void Hands_over_the_queue_as_it_was_described()
    {
        ShareMemory();
        using var call = TestFiles.OpenNull();
        _frontend.Send(FrontendRequest.SET_VRING_CALL, 1UL, call);
        _frontend.StartVring(1, Address, size: 32, start: 65530);

        var setup = _backend.Running[1];
        var host = _backend.Memory.Regions[0].HostAddress;
        Assert.Equal(32, setup.Rings.Size);
        Assert.Equal(host + 0x1000, setup.Rings.DescriptorTable);
        Assert.Equal(host + 0x1400, setup.Rings.AvailableRing);
        Assert.Equal(host + 0x1800, setup.Rings.UsedRing);
        Assert.Equal(65530, setup.NextAvailable);
        Assert.Equal(0, setup.NextUsed);
        Assert.Equal(RecordingBackend.Version1, setup.Features);
        Assert.NotNull(setup.Kick);
        Assert.NotNull(setup.Call);
        Assert.Null(setup.Error);
        Assert.Same(_backend.Memory, setup.Memory);
    }

    [Fact]
    public void Every_legal_order_of_the_set_up_starts_the_queue_once_and_alike()
    {
        // Five requests complete a vring. Features and base count for a start only if they come before it, so in a legal order one of
        // the five is the last. CALL and the dirty log may come anywhere, the inflight area anywhere before the start: their places
        // are drawn.
        var steps = new Action[]
        {
            () => _frontend.Send(
                FrontendRequest.SET_FEATURES, RecordingBackend.Version1 | RawFrontend.Bit30 | ProtocolLimits.VHOST_F_LOG_ALL),
            () => _frontend.Send(FrontendRequest.SET_VRING_BASE, new VringState(1, 77)),
            ShareMemory,
            () => _frontend.Send(FrontendRequest.SET_VRING_NUM, new VringState(1, 16)),
            () => _frontend.Send(FrontendRequest.SET_VRING_ADDR, Address with { Flags = VringAddress.LogEnabled, Log = 0x3000 }),
            Kick,
            () => _frontend.Send(FrontendRequest.SET_VRING_ENABLE, new VringState(1, 1)),
        };
        const int Seed = 20251120;
        var random = new Random(Seed);
        using var call = TestFiles.OpenNull();
        using var area = new TestFiles(0x1000);
        using var log = new TestFiles(0x1000);
        var tried = 0;
        foreach (var order in Permutations([0, 1, 2, 3, 4, 5, 6]).Where(order => order[^1] >= 2))
        {
            _backend.Calls.Clear();
            var callPlace = random.Next(order.Length);
            var areaPlace = random.Next(order.Length);
            var logPlace = random.Next(order.Length + 1);
            for (var i = 0; i < order.Length; i++)
            {
                if (i == callPlace)
                {
                    _frontend.Send(FrontendRequest.SET_VRING_CALL, 1UL, call);
                }

                if (i == areaPlace)
                {
                    _frontend.Send(FrontendRequest.SET_INFLIGHT_FD, new InflightDescription(4 * 64 * 16, 0, 4, 64), area.Handle);
                }

                if (i == logPlace)
                {
                    SetLog();
                }

                steps[order[i]]();
            }

            if (logPlace == order.Length)
            {
                SetLog();
            }

            _frontend.Barrier();
            var name = $"order {string.Join(' ', order)}, seed {Seed}";
            Assert.True(_backend.Calls.Count(c => c == "Start 1") == 1, name);
            Assert.True(_backend.Running.ContainsKey(1), name);
            Assert.Equal(
                (16, 77, RecordingBackend.Version1, true, true, _backend.Memory.Regions[0].HostAddress + 0x1000),
                (_backend.LastSetup.Rings.Size, _backend.LastSetup.NextAvailable, _backend.LastSetup.Features, _backend.LastSetup.Kick is not null,
                    _backend.LastSetup.Call is not null, _backend.LastSetup.Rings.DescriptorTable));
            Assert.Equal((4, 64), (_backend.LastSetup.InflightArea.QueueCount, _backend.LastSetup.InflightArea.QueueSize));
            Assert.NotNull(_backend.DirtyLog);
            Assert.Equal(
                0x3000UL,
                _backend.LastSetup.DirtyLog == _backend.DirtyLog
                    ? _backend.LastSetup.UsedRingLogAddress
                    : _backend.LoggedUsedRings.Single().GuestAddress);

            // Back to nothing: the device by a reset, which keeps memory and the call, and the memory by an empty table.
            _frontend.Send(FrontendRequest.RESET_DEVICE);
            _frontend.Send(FrontendRequest.SET_MEM_TABLE, new MemoryTableHeader(0, 0));
            _frontend.Send(FrontendRequest.SET_VRING_CALL, 0x101UL);
            _frontend.Barrier();
            tried++;
        }

        Assert.Equal(5 * 720, tried);
        Assert.Equal((1, 1), (log.CountMappings(), log.CountDescriptors()));
        Assert.Equal((0, 1), (area.CountMappings(), area.CountDescriptors()));

        void SetLog()
        {
            _frontend.Send(FrontendRequest.SET_LOG_BASE, new LogDescription(0x1000, 0), log.Handle);
            Assert.Equal(0UL, MemoryMarshal.Read<ulong>(_frontend.ReceiveReply(FrontendRequest.SET_LOG_BASE)));
        }
    }

    [Fact] // VU-51
    public void RESET_OWNER_leaves_a_running_queue_and_all_that_was_set_up_alone()
    {
        ShareMemory();
        _frontend.StartVring(1, Address);
        var calls = _backend.Calls.ToArray();
        _frontend.Send(FrontendRequest.RESET_OWNER);
        Assert.Equal(0UL, _frontend.SendForAck(FrontendRequest.RESET_OWNER, []));
        Assert.Equal(calls, _backend.Calls);
        Assert.Contains(1, _backend.Running);
        Assert.Equal(1, _ram.CountMappings());
    }

    [Fact] // VU-64
    public void The_last_of_256_queues_runs_and_one_more_than_there_are_is_refused()
    {
        var backend = new RecordingBackend { QueueCount = 256 };
        using var frontend = new RawFrontend(backend);
        frontend.Negotiate();
        frontend.Send(
            FrontendRequest.SET_MEM_TABLE,
            [.. RawFrontend.Bytes(new MemoryTableHeader(1, 0)), .. RawFrontend.Bytes(new MemoryRegion(0, 0x10000, User, 0))],
            _ram.Handle);
        frontend.StartVring(255, TestFiles.VringAt(255, User));
        Assert.Equal([255], backend.Running.Keys);
        Assert.NotEqual(0UL, frontend.SendForAck(FrontendRequest.SET_VRING_ENABLE, new VringState(256, 1)));
        Assert.NotEqual(0UL, frontend.SendForAck(FrontendRequest.SET_VRING_NUM, new VringState(256, 16)));
    }

    [Fact] // VU-27
    public void A_suspended_device_still_answers()
    {
        ShareMemory();
        _frontend.StartVring(1, Address);
        GetBase(1);
        Assert.Equal(_backend.OfferedFeatures | RawFrontend.Bit30 | ProtocolLimits.VHOST_F_LOG_ALL, _frontend.AskU64(FrontendRequest.GET_FEATURES));
        Assert.Equal(12 + 60, _frontend.Ask(FrontendRequest.GET_CONFIG, [.. RawFrontend.Bytes(new ConfigHeader(0, 60, 0)), .. new byte[60]]).Length);
        Assert.False(_frontend.HasSomethingToRead());
    }

    [Fact]
    public void A_disabled_queue_goes_on_where_it_stopped()
    {
        ShareMemory();
        _frontend.StartVring(1, Address);
        _backend.NextAvailable = 500;
        _frontend.Send(FrontendRequest.SET_VRING_ENABLE, new VringState(1, 0));
        _frontend.Barrier();
        Assert.Empty(_backend.Running);
        _frontend.Send(FrontendRequest.SET_VRING_ENABLE, new VringState(1, 1));
        _frontend.Barrier();
        Assert.Equal(500, _backend.Running[1].NextAvailable);
    }

    [Fact]
    public void GET_VRING_BASE_stops_the_queue_and_keeps_it_enabled()
    {
        ShareMemory();
        _frontend.StartVring(1, Address);
        _backend.NextAvailable = 65000;
        Assert.Equal(new VringState(1, 65000), GetBase(1));
        Assert.Empty(_backend.Running);
        Kick();
        _frontend.Barrier();
        Assert.Equal(65000, _backend.Running[1].NextAvailable);
        Assert.Null(_backend.Running[1].Call);
    }

    [Fact]
    public void GET_VRING_BASE_works_for_a_queue_that_never_ran()
    {
        Assert.Equal(new VringState(3, 0), GetBase(3));
        _frontend.Send(FrontendRequest.SET_VRING_BASE, new VringState(3, 0xdead_0007));
        Assert.Equal(new VringState(3, 7), GetBase(3));
    }

    [Fact]
    public void A_packed_queue_has_both_positions_in_its_base()
    {
        _frontend.Send(FrontendRequest.SET_FEATURES, RecordingBackend.Version1 | RecordingBackend.Packed | RawFrontend.Bit30);
        ShareMemory();
        _frontend.StartVring(1, Address, size: 12, start: 0x0003_8005);
        Assert.Equal(0x8005, _backend.Running[1].NextAvailable);
        Assert.Equal(0x0003, _backend.Running[1].NextUsed);
        _backend.NextAvailable = 0x8007;
        Assert.Equal(new VringState(1, 0x8007_8007), GetBase(1));
        Assert.Equal(new VringState(2, 0x8000_8000), GetBase(2));
    }

    [Theory]
    [InlineData(0u)]
    [InlineData(12u)]
    [InlineData(65536u)]
    public void Refuses_sizes_a_split_queue_cannot_have(uint size) =>
        Assert.NotEqual(0UL, _frontend.SendForAck(FrontendRequest.SET_VRING_NUM, new VringState(1, size)));

    [Fact]
    public void Refuses_a_size_that_the_features_turn_out_to_forbid_when_the_queue_starts()
    {
        _frontend.Send(FrontendRequest.RESET_DEVICE);
        ShareMemory();
        _frontend.Send(FrontendRequest.SET_VRING_NUM, new VringState(1, 12));
        _frontend.Send(FrontendRequest.SET_FEATURES, RecordingBackend.Version1 | RawFrontend.Bit30);
        _frontend.Send(FrontendRequest.SET_VRING_ADDR, Address);
        Kick();
        Assert.NotEqual(0UL, _frontend.SendForAck(FrontendRequest.SET_VRING_ENABLE, new VringState(1, 1)));
    }

    [Theory]
    [InlineData(8, 0, 0)]
    [InlineData(0, 1, 0)]
    [InlineData(0, 0, 2)]
    public void Refuses_addresses_that_are_not_aligned(ulong descriptors, ulong available, ulong used) =>
        Assert.NotEqual(0UL, _frontend.SendForAck(FrontendRequest.SET_VRING_ADDR, Address with
        {
            DescriptorTable = Address.DescriptorTable + descriptors,
            AvailableRing = Address.AvailableRing + available,
            UsedRing = Address.UsedRing + used,
        }));

    [Fact]
    public void Refuses_requests_for_queues_there_are_not()
    {
        using var descriptor = TestFiles.OpenNull();
        Assert.NotEqual(0UL, _frontend.SendForAck(FrontendRequest.SET_VRING_NUM, new VringState(4, 16)));
        Assert.NotEqual(0UL, _frontend.SendForAck(FrontendRequest.SET_VRING_ENABLE, new VringState(0xffff_ffff, 1)));
        Assert.NotEqual(0UL, _frontend.SendForAck(FrontendRequest.SET_VRING_ADDR, TestFiles.VringAt(4, User)));
        Assert.NotEqual(0UL, _frontend.SendForAck(FrontendRequest.SET_VRING_KICK, 255UL, descriptor));
        _frontend.Send(FrontendRequest.GET_VRING_BASE, new VringState(4, 0));
        _frontend.ExpectClosed();
    }

    [Fact]
    public void Refuses_size_base_and_new_addresses_while_the_queue_runs()
    {
        ShareMemory();
        _frontend.StartVring(1, Address);
        Assert.NotEqual(0UL, _frontend.SendForAck(FrontendRequest.SET_VRING_NUM, new VringState(1, 32)));
        Assert.NotEqual(0UL, _frontend.SendForAck(FrontendRequest.SET_VRING_BASE, new VringState(1, 3)));
        Assert.NotEqual(0UL, _frontend.SendForAck(FrontendRequest.SET_VRING_ADDR, TestFiles.VringAt(1, User + 0x2000)));
        Assert.Equal(0UL, _frontend.SendForAck(FrontendRequest.SET_VRING_ADDR, Address with { Flags = VringAddress.LogEnabled }));
        Assert.Single(_backend.Calls, call => call.StartsWith("Start", StringComparison.Ordinal));
    }

    [Fact]
    public void Features_set_again_leave_a_running_queue_alone()
    {
        ShareMemory();
        _frontend.StartVring(1, Address);
        _frontend.Send(FrontendRequest.SET_FEATURES, RecordingBackend.Version1 | RawFrontend.Bit30);
        _frontend.Send(FrontendRequest.SET_FEATURES, RecordingBackend.Version1 | RawFrontend.Bit30);
        _frontend.Barrier();
        Assert.DoesNotContain("Stop 1", _backend.Calls);
        Assert.Contains(1, _backend.Running);
    }

    [Fact]
    public void Features_without_bit_30_enable_all_queues_at_once()
    {
        ShareMemory();
        foreach (var index in new uint[] { 0, 2 })
        {
            _frontend.Send(FrontendRequest.SET_VRING_NUM, new VringState(index, 16));
            _frontend.Send(FrontendRequest.SET_VRING_ADDR, TestFiles.VringAt(index, User + (0x1000 * (index + 1))));
            _frontend.Send(FrontendRequest.SET_VRING_KICK, (ulong)index | 0x100);
        }

        _frontend.Barrier();
        Assert.Empty(_backend.Running);
        _frontend.Send(FrontendRequest.SET_FEATURES, RecordingBackend.Version1);
        _frontend.Barrier();
        Assert.Equal([0, 2], _backend.Running.Keys.Order());
    }

    [Fact]
    public void Kick_and_call_without_a_descriptor_mean_polling()
    {
        ShareMemory();
        _frontend.Send(FrontendRequest.SET_VRING_CALL, 0x101UL);
        _frontend.Send(FrontendRequest.SET_VRING_ERR, 0x101UL);
        _frontend.StartVring(1, Address);
        _frontend.Send(FrontendRequest.SET_VRING_KICK, 0x101UL);
        _frontend.Barrier();
        Assert.Null(_backend.Running[1].Call);
        Assert.Contains("Kick 1 none", _backend.Calls);
    }

    [Fact]
    public void Descriptors_are_replaced_while_the_queue_runs_and_the_old_ones_closed()
    {
        ShareMemory();
        _frontend.StartVring(1, Address);
        using var file = new TestFiles(0);
        foreach (var request in new[] { FrontendRequest.SET_VRING_KICK, FrontendRequest.SET_VRING_CALL, FrontendRequest.SET_VRING_ERR })
        {
            for (var i = 0; i < 10; i++)
            {
                Assert.Equal(0UL, _frontend.SendForAck(request, 1UL, file.Handle));
            }
        }

        Assert.Equal(30, _backend.Calls.Count(call => call.EndsWith(" 1 new", StringComparison.Ordinal)));
        Assert.Equal(1 + 3, file.CountDescriptors());
    }

    [Theory]
    [InlineData(0x001UL, 0)]
    [InlineData(0x101UL, 1)]
    [InlineData(0x001UL, 2)]
    public void Refuses_a_kick_whose_descriptor_and_bit_8_disagree(ulong payload, int descriptors)
    {
        using var file = new TestFiles(0);
        var sent = Enumerable.Repeat(file.Handle, descriptors).ToArray();
        Assert.NotEqual(0UL, _frontend.SendForAck(FrontendRequest.SET_VRING_KICK, payload, sent));
        Assert.Equal(1, file.CountDescriptors());
    }

    [Fact]
    public void Refuses_an_enable_other_than_0_and_1() =>
        Assert.NotEqual(0UL, _frontend.SendForAck(FrontendRequest.SET_VRING_ENABLE, new VringState(1, 2)));

    [Fact]
    public void Accepts_enable_before_every_other_message()
    {
        using var frontend = new RawFrontend(_backend);
        frontend.Send(FrontendRequest.SET_VRING_ENABLE, new VringState(1, 1));
        frontend.Barrier();
    }

    [Fact]
    public void A_queue_the_device_cannot_start_is_refused_and_can_be_tried_again()
    {
        ShareMemory();
        _frontend.Send(FrontendRequest.SET_VRING_NUM, new VringState(1, 16));
        _frontend.Send(FrontendRequest.SET_VRING_ADDR, Address);
        Kick();
        foreach (var failure in new Exception[] { new VhostUserRefusedException("no thread left"), new InvalidOperationException("a bug") })
        {
            _backend.StartFailure = failure;
            Assert.NotEqual(0UL, _frontend.SendForAck(FrontendRequest.SET_VRING_ENABLE, new VringState(1, 1)));
        }

        _backend.StartFailure = null;
        Assert.Equal(0UL, _frontend.SendForAck(FrontendRequest.SET_VRING_ENABLE, new VringState(1, 1)));
        Assert.Contains(1, _backend.Running);
    }

    [Fact]
    public void A_queue_the_device_cannot_start_ends_the_connection_if_nobody_asked_for_an_acknowledgement()
    {
        ShareMemory();
        _frontend.Send(FrontendRequest.SET_VRING_NUM, new VringState(1, 16));
        _frontend.Send(FrontendRequest.SET_VRING_ADDR, Address);
        Kick();
        _frontend.Barrier();
        _backend.StartFailure = new VhostUserRefusedException("no thread left");
        _frontend.Send(FrontendRequest.SET_VRING_ENABLE, new VringState(1, 1));
        _frontend.ExpectClosed();
    }

    [Fact]
    public void A_reset_stops_the_queues_and_keeps_call_and_error_descriptors()
    {
        ShareMemory();
        using var file = new TestFiles(0);
        _frontend.Send(FrontendRequest.SET_VRING_ERR, 1UL, file.Handle);
        _frontend.StartVring(1, Address);
        _frontend.Send(FrontendRequest.RESET_DEVICE);
        _frontend.Barrier();
        Assert.Empty(_backend.Running);
        Assert.Equal(["Stop 1", "Reset"], _backend.Calls[^2..]);

        _frontend.Send(FrontendRequest.SET_FEATURES, RecordingBackend.Version1 | RawFrontend.Bit30);
        _frontend.StartVring(1, Address);
        Assert.NotNull(_backend.Running[1].Error);
        Assert.Equal(0, _backend.Running[1].NextAvailable);
    }

    [Theory]
    [InlineData(0UL, 77u)]
    [InlineData(RecordingBackend.Packed, 0x8007_8007u)]
    public void GET_VRING_BASE_after_a_reset_says_where_the_reset_has_stopped_the_queue(ulong kind, uint expected)
    {
        // QEMU 7.2 stops a machine with SET_STATUS 0, SET_VRING_ENABLE 0, GET_VRING_BASE, and goes on from the answer.
        _frontend.Send(FrontendRequest.SET_FEATURES, RecordingBackend.Version1 | kind | RawFrontend.Bit30);
        ShareMemory();
        _frontend.StartVring(1, Address);
        _backend.NextAvailable = (ushort)expected;
        _frontend.Send(FrontendRequest.SET_STATUS, 0UL);
        _frontend.Send(FrontendRequest.RESET_DEVICE);
        _frontend.Send(FrontendRequest.SET_VRING_ENABLE, new VringState(1, 0));
        Assert.Equal(new VringState(1, expected), GetBase(1));

        // A driver that begins anew after the reset begins at 0 nevertheless.
        _frontend.Send(FrontendRequest.SET_FEATURES, RecordingBackend.Version1 | RawFrontend.Bit30);
        _frontend.Send(FrontendRequest.SET_VRING_NUM, new VringState(1, 16));
        _frontend.Send(FrontendRequest.SET_VRING_ADDR, Address);
        Kick();
        _frontend.Send(FrontendRequest.SET_VRING_ENABLE, new VringState(1, 1));
        _frontend.Barrier();
        Assert.Equal(0, _backend.Running[1].NextAvailable);
    }

    [Fact]
    public void Stops_the_queues_before_it_lets_go_of_the_device()
    {
        ShareMemory();
        _frontend.StartVring(1, Address);
        Assert.Equal(1, _ram.CountMappings());
        Assert.Equal(SessionOutcome.FrontendLeft, _frontend.Leave());
        Assert.Equal(["Stop 1", "Detached"], _backend.Calls[^2..]);
        Assert.Equal(0, _ram.CountMappings());
    }

    [Fact]
    public void Stops_the_queues_when_interrupted()
    {
        ShareMemory();
        _frontend.StartVring(1, Address);
        _frontend.Session!.Interrupt();
        Assert.Equal(SessionOutcome.Interrupted, _frontend.End());
        Assert.Equal(["Stop 1", "Detached"], _backend.Calls[^2..]);
    }

    public void Dispose()
    {
        _frontend.Dispose();
        _ram.Dispose();
    }

    private static IEnumerable<int[]> Permutations(int[] items) => items.Length <= 1
        ? [items]
        : items.SelectMany(first => Permutations(Array.FindAll(items, item => item != first)).Select(rest => (int[])[first, .. rest]));

    private void ShareMemory() =>
        _frontend.Send(
            FrontendRequest.SET_MEM_TABLE,
            [.. RawFrontend.Bytes(new MemoryTableHeader(1, 0)), .. RawFrontend.Bytes(new MemoryRegion(0, 0x10000, User, 0))],
            _ram.Handle);

    private void Kick()
    {
        using var kick = TestFiles.OpenNull();
        _frontend.Send(FrontendRequest.SET_VRING_KICK, 1UL, kick);
    }

    private VringState GetBase(uint index) =>
        MemoryMarshal.Read<VringState>(_frontend.Ask(FrontendRequest.GET_VRING_BASE, RawFrontend.Bytes(new VringState(index, 0))));
}
