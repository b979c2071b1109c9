using VirtioBlkFlow.VhostUser;
using VirtioBlkFlow.Virtio.Blk;
using VirtioBlkFlow.Virtio.Ring;
using static VirtioBlkFlow.Virtio.Blk.BlkRequestType;

namespace VirtioBlkFlow.Device.Lint;

/// <summary>Which rule it is that the libraries below have seen broken, in their own words.</summary>
internal static class LintRules
{
    /// <summary>The rule of a front-end's mistake.</summary>
    public static LintRule Of(ProtocolFinding finding) => finding switch
    {
        ProtocolFinding.MarkedAsReply => LintRule.FrontendReplyFlag,
        ProtocolFinding.PayloadSize => LintRule.FrontendPayloadSize,
        ProtocolFinding.RequestNotOffered => LintRule.FrontendRequestNotOffered,
        ProtocolFinding.DescriptorCount => LintRule.FrontendDescriptorCount,
        ProtocolFinding.RemovalWithDescriptor => LintRule.FrontendRemovalDescriptor,
        ProtocolFinding.NeedReplyNotNegotiated => LintRule.FrontendNeedReply,
        ProtocolFinding.FeaturesNotOffered => LintRule.FrontendFeaturesNotOffered,
        ProtocolFinding.ProtocolFeaturesNotOffered => LintRule.FrontendProtocolNotOffered,
        ProtocolFinding.InBandPrerequisites => LintRule.FrontendInBand,
        ProtocolFinding.OwnerMissing => LintRule.FrontendOwner,
        ProtocolFinding.FeaturesMissing => LintRule.FrontendFeaturesMissing,
        ProtocolFinding.EnableNotNegotiated => LintRule.FrontendEnableNotNegotiated,
        ProtocolFinding.EnableValue => LintRule.FrontendEnableValue,
        ProtocolFinding.KickBeforeSetUp => LintRule.FrontendKickBeforeSetUp,
        ProtocolFinding.VringIndex => LintRule.FrontendVringIndex,
        ProtocolFinding.VringSize => LintRule.FrontendVringSize,
        ProtocolFinding.VringAlignment => LintRule.FrontendVringAlignment,
        ProtocolFinding.VringChangedWhileRunning => LintRule.FrontendVringWhileRunning,
        ProtocolFinding.RegionOverlap => LintRule.FrontendRegionOverlap,
        ProtocolFinding.ConfigReadOnly => LintRule.FrontendConfigReadOnly,
        ProtocolFinding.StatusBitCleared => LintRule.FrontendStatusCleared,
        ProtocolFinding.StatusOrder => LintRule.FrontendStatusOrder,
        ProtocolFinding.StateWhileRunning => LintRule.FrontendStateWhileRunning,
        _ => throw new ArgumentOutOfRangeException(nameof(finding), finding, "A finding without a rule."),
    };

    /// <summary>The rule that a defect of a ring breaks; null where the limit is only ours.</summary>
    public static LintRule? Of(RingDefect defect) => defect switch
    {
        RingDefect.AvailableIndexJumped => LintRule.RingAvailableIndex,
        RingDefect.HeadOutOfRange => LintRule.RingHeadRange,
        RingDefect.HeadInFlight => LintRule.RingHeadInFlight,
        RingDefect.DescriptorInFlight => LintRule.RingDescriptorInFlight,
        RingDefect.NextOutOfRange => LintRule.RingNextRange,
        RingDefect.ChainLoops => LintRule.RingChainLoop,
        RingDefect.IndirectNotNegotiated => LintRule.RingIndirectNegotiated,
        RingDefect.IndirectWithNext => LintRule.RingIndirectNext,
        RingDefect.IndirectNested => LintRule.RingIndirectNested,
        RingDefect.IndirectTableSize => LintRule.RingIndirectSize,
        RingDefect.IndirectTableUnmapped => LintRule.RingUnmapped,
        _ => null,
    };

    /// <summary>The rule that a driver's way to ask for calls breaks; null for none.</summary>
    public static LintRule? Of(DriverEventFault fault) => fault switch
    {
        DriverEventFault.None => null,
        DriverEventFault.ReservedFlags => LintRule.RingEventFlags,
        _ => LintRule.RingEventIndex,
    };

    /// <summary>The feature a request type belongs to; None for those every device has, and for unknown ones.</summary>
    public static BlkFeatures FeatureOf(BlkRequestType type) => type switch
    {
        VIRTIO_BLK_T_FLUSH => BlkFeatures.VIRTIO_BLK_F_FLUSH,
        VIRTIO_BLK_T_DISCARD => BlkFeatures.VIRTIO_BLK_F_DISCARD,
        VIRTIO_BLK_T_WRITE_ZEROES => BlkFeatures.VIRTIO_BLK_F_WRITE_ZEROES,
        VIRTIO_BLK_T_SECURE_ERASE => BlkFeatures.VIRTIO_BLK_F_SECURE_ERASE,
        VIRTIO_BLK_T_GET_LIFETIME => BlkFeatures.VIRTIO_BLK_F_LIFETIME,
        VIRTIO_BLK_T_ZONE_APPEND or VIRTIO_BLK_T_ZONE_REPORT or VIRTIO_BLK_T_ZONE_OPEN or VIRTIO_BLK_T_ZONE_CLOSE
            or VIRTIO_BLK_T_ZONE_FINISH or VIRTIO_BLK_T_ZONE_RESET or VIRTIO_BLK_T_ZONE_RESET_ALL => BlkFeatures.VIRTIO_BLK_F_ZONED,
        _ => BlkFeatures.None,
    };
}
