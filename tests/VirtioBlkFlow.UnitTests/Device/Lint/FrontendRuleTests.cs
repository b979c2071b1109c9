using VirtioBlkFlow.Device.Lint;
using VirtioBlkFlow.UnitTests.VhostUser;
using VirtioBlkFlow.VhostUser.Session;
using VirtioBlkFlow.VhostUser.Wire;
using Xunit;
using static VirtioBlkFlow.VhostUser.Wire.FrontendRequest;

namespace VirtioBlkFlow.UnitTests.Device.Lint;

/// <summary>Every rule that a front-end can break, broken once, over a session with a device that only listens.</summary>
public sealed class FrontendRuleTests
{
    private const ulong User = 0x7f00_0000_0000;

    private static readonly Dictionary<LintRule, Action<RawFrontend>> s_scenes = new()
    {
        [LintRule.FrontendReplyFlag] = static frontend => frontend.SendRaw(RawFrontend.Message(GET_FEATURES, [], flags: 5)),
        [LintRule.FrontendPayloadSize] = static frontend => frontend.Send(SET_OWNER, new byte[3]),
        [LintRule.FrontendRequestNotOffered] = static frontend => frontend.Send(SEND_RARP, 0UL),
        [LintRule.FrontendDescriptorCount] = static frontend =>
        {
            using var file = TestFiles.OpenNull();
            frontend.Send(SET_OWNER, [], file);
        },
        [LintRule.FrontendRemovalDescriptor] = static frontend =>
        {
            using var file = new TestFiles(0x1000);
            var region = new SingleMemoryRegion(0, new MemoryRegion(0, 0x1000, User, 0));
            frontend.Negotiate();
            frontend.Send(ADD_MEM_REG, region, file.Handle);
            frontend.Send(REM_MEM_REG, region, file.Handle);
            frontend.Barrier();
        },
        [LintRule.FrontendNeedReply] = static frontend => frontend.SendRaw(RawFrontend.Message(SET_OWNER, [], flags: RawFrontend.NeedReply)),
        [LintRule.FrontendFeaturesNotOffered] = static frontend =>
        {
            frontend.Send(SET_OWNER);
            frontend.Send(SET_FEATURES, 1UL << 60);
        },
        [LintRule.FrontendProtocolNotOffered] = static frontend => frontend.Send(SET_PROTOCOL_FEATURES, 1UL << 63),
        [LintRule.FrontendInBand] = static frontend => frontend.Send(SET_PROTOCOL_FEATURES, 1UL << 14),
        [LintRule.FrontendOwner] = static frontend => frontend.Send(SET_FEATURES, RecordingBackend.Version1),
        [LintRule.FrontendFeaturesMissing] = static frontend =>
        {
            frontend.Send(SET_OWNER);
            frontend.Send(SET_VRING_NUM, new VringState(0, 16));
            frontend.Send(SET_VRING_ADDR, TestFiles.VringAt(0, User));
            Kick(frontend, 0);
        },
        [LintRule.FrontendEnableNotNegotiated] = static frontend =>
        {
            frontend.Send(SET_OWNER);
            frontend.Send(SET_VRING_ENABLE, new VringState(0, 1));
        },
        [LintRule.FrontendEnableValue] = static frontend => AfterNegotiation(frontend, SET_VRING_ENABLE, new VringState(0, 2)),
        [LintRule.FrontendKickBeforeSetUp] = static frontend =>
        {
            frontend.Negotiate();
            Kick(frontend, 0);
        },
        [LintRule.FrontendVringIndex] = static frontend => AfterNegotiation(frontend, SET_VRING_NUM, new VringState(99, 16)),
        [LintRule.FrontendVringSize] = static frontend => AfterNegotiation(frontend, SET_VRING_NUM, new VringState(0, 3)),
        [LintRule.FrontendVringAlignment] = static frontend => AfterNegotiation(frontend, SET_VRING_ADDR, TestFiles.VringAt(0, User + 1)),
        [LintRule.FrontendVringWhileRunning] = static frontend => WhileRunning(
            frontend, static frontend => frontend.Send(SET_VRING_NUM, new VringState(0, 32))),
        [LintRule.FrontendRegionOverlap] = static frontend =>
        {
            using var file = new TestFiles(0x2000);
            frontend.Negotiate();
            frontend.Send(ADD_MEM_REG, new SingleMemoryRegion(0, new MemoryRegion(0, 0x1000, User, 0)), file.Handle);
            frontend.Send(ADD_MEM_REG, new SingleMemoryRegion(0, new MemoryRegion(0x800, 0x1000, User + 0x1000, 0)), file.Handle);
        },
        [LintRule.FrontendConfigReadOnly] = static frontend =>
        {
            frontend.Negotiate();
            frontend.Send(SET_CONFIG, [.. RawFrontend.Bytes(new ConfigHeader(0, 8, 0)), .. new byte[8]]);
            frontend.Barrier();
        },
        [LintRule.FrontendStatusCleared] = static frontend =>
        {
            frontend.Negotiate();
            frontend.Send(SET_STATUS, (ulong)(DeviceStatus.ACKNOWLEDGE | DeviceStatus.DRIVER | DeviceStatus.FEATURES_OK));
            frontend.Send(SET_STATUS, (ulong)(DeviceStatus.ACKNOWLEDGE | DeviceStatus.FEATURES_OK));
        },
        [LintRule.FrontendStatusOrder] = static frontend => AfterNegotiation(
            frontend, SET_STATUS, (ulong)(DeviceStatus.ACKNOWLEDGE | DeviceStatus.DRIVER | DeviceStatus.DRIVER_OK)),
        [LintRule.FrontendStateWhileRunning] = static frontend => WhileRunning(frontend, static frontend =>
        {
            using var file = TestFiles.OpenNull();
            frontend.Send(
                SET_DEVICE_STATE_FD, new DeviceStateParameters(DeviceStateDirection.VHOST_TRANSFER_STATE_DIRECTION_SAVE, 0), file);
            frontend.ReceiveReply(SET_DEVICE_STATE_FD);
        }),
    };

    public static TheoryData<LintRule> Rules => [.. s_scenes.Keys];

    [Theory]
    [MemberData(nameof(Rules))]
    public void A_rule_that_is_broken_once_is_counted_once_and_no_other_with_it(LintRule rule) =>
        Assert.Equal([(rule, 1L)], Play(s_scenes[rule]));

    [Fact]
    public void The_order_of_qemu_breaks_nothing() => Assert.Empty(Play(static frontend => WhileRunning(frontend, static frontend =>
    {
        frontend.Send(SET_FEATURES, RecordingBackend.Version1 | RawFrontend.Bit30);
        foreach (int status in (int[])[1, 3, 11, 15])
        {
            frontend.Send(SET_STATUS, (ulong)status);
        }

        frontend.Send(SET_VRING_ENABLE, new VringState(0, 0));
        frontend.Ask(GET_VRING_BASE, RawFrontend.Bytes(new VringState(0, 0)));
        frontend.Send(SET_STATUS, 0UL);
        frontend.Send(RESET_DEVICE);
        frontend.StartVring(0, TestFiles.VringAt(0, User));
        frontend.Barrier();
    })));

    [Fact]
    public void Spdk_enables_vrings_before_it_describes_them_and_sends_its_memory_four_times() => Assert.Empty(Play(static frontend =>
    {
        using var file = new TestFiles(0x10000);
        frontend.Negotiate();
        frontend.AskU64(GET_QUEUE_NUM);
        frontend.Send(SET_VRING_ENABLE, new VringState(0, 1));
        for (int i = 0; i < 4; i++)
        {
            frontend.Send(
                SET_MEM_TABLE,
                [.. RawFrontend.Bytes(new MemoryTableHeader(1, 0)), .. RawFrontend.Bytes(new MemoryRegion(0, 0x10000, User, 0))],
                file.Handle);
            frontend.AskU64(GET_FEATURES);
        }

        frontend.StartVring(0, TestFiles.VringAt(0, User));
    }));

    [Fact]
    public void A_status_without_the_features_that_were_refused_is_no_mistake()
    {
        var backend = new RecordingBackend { AcceptsFeatures = static _ => false };
        Assert.Empty(Play(
            static frontend =>
            {
                frontend.Send(SET_PROTOCOL_FEATURES, (ulong)VhostUserSessionOptions.Supported);
                frontend.Send(SET_OWNER);
                frontend.Send(SET_FEATURES, RecordingBackend.Version1);
                frontend.Send(SET_STATUS, 11UL);
                frontend.Send(SET_STATUS, 128UL);
                frontend.Barrier();
            },
            backend));
    }

    [Fact]
    public void What_a_migration_restores_in_the_configuration_space_is_no_mistake() => Assert.Empty(Play(static frontend =>
    {
        frontend.Negotiate();
        frontend.Send(SET_CONFIG, [.. RawFrontend.Bytes(new ConfigHeader(0, 8, 1)), .. new byte[8]]);
        frontend.Barrier();
    }));

    private static (LintRule Rule, long Count)[] Play(Action<RawFrontend> scene, RecordingBackend? backend = null)
    {
        var lint = new SpecLint(null);
        using (var frontend = new RawFrontend(backend ?? new RecordingBackend(), VhostUserSessionOptions.Default with { Observer = lint }))
        {
            scene(frontend);
            frontend.Leave();
        }

        return DriverRuleTests.CountsOf(lint);
    }

    private static void AfterNegotiation<T>(RawFrontend frontend, FrontendRequest request, T payload)
        where T : unmanaged
    {
        frontend.Negotiate();
        frontend.Send(request, payload);
    }

    private static void WhileRunning(RawFrontend frontend, Action<RawFrontend> act)
    {
        using var file = new TestFiles(0x10000);
        frontend.Negotiate();
        frontend.Send(ADD_MEM_REG, new SingleMemoryRegion(0, new MemoryRegion(0, 0x10000, User, 0)), file.Handle);
        frontend.StartVring(0, TestFiles.VringAt(0, User));
        act(frontend);
    }

    private static void Kick(RawFrontend frontend, ulong index)
    {
        using var kick = TestFiles.OpenNull();
        frontend.Send(SET_VRING_KICK, index, kick);
        frontend.Barrier();
    }
}
