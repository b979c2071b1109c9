namespace VirtioBlkFlow.Device.Lint;

/// <summary>What the linter looks for; <see cref="LintCatalogue"/> says what each means and where it is written.</summary>
#pragma warning disable CS1591 // The catalogue has a sentence for each.
public enum LintRule
{
    // Driver: rings.
    RingAvailableIndex,
    RingHeadRange,
    RingHeadInFlight,
    RingDescriptorInFlight,
    RingNextRange,
    RingChainLoop,
    RingChainLength,
    RingIndirectNegotiated,
    RingIndirectNext,
    RingIndirectNested,
    RingIndirectSize,
    RingUnmapped,
    RingWritableFirst,
    RingEventIndex,
    RingEventFlags,

    // Driver: requests.
    BlkHeader,
    BlkStatusByte,
    BlkSegMax,
    BlkSizeMax,
    BlkCapacity,
    BlkDataLength,
    BlkBlockAlignment,
    BlkReadOnly,
    BlkNotNegotiated,
    BlkFlushSector,
    BlkFlushData,
    BlkIdLength,
    BlkSegmentList,
    BlkSegmentCount,
    BlkSegmentSectors,
    BlkSegmentFlags,
    BlkDiscardUnmap,
    BlkDiscardAlignment,
    BlkResetAllSector,

    // Front-end.
    FrontendReplyFlag,
    FrontendPayloadSize,
    FrontendRequestNotOffered,
    FrontendDescriptorCount,
    FrontendRemovalDescriptor,
    FrontendNeedReply,
    FrontendFeaturesNotOffered,
    FrontendProtocolNotOffered,
    FrontendInBand,
    FrontendOwner,
    FrontendFeaturesMissing,
    FrontendEnableNotNegotiated,
    FrontendEnableValue,
    FrontendKickBeforeSetUp,
    FrontendVringIndex,
    FrontendVringSize,
    FrontendVringAlignment,
    FrontendVringWhileRunning,
    FrontendRegionOverlap,
    FrontendConfigReadOnly,
    FrontendStatusCleared,
    FrontendStatusOrder,
    FrontendStateWhileRunning,
}
#pragma warning restore CS1591

/// <summary>Whose duty a rule is.</summary>
public enum LintDuty
{
    /// <summary>The guest's driver.</summary>
    Driver,

    /// <summary>The front-end, or the driver through it where it only hands on.</summary>
    FrontEnd,
}

/// <summary>How strongly the specification says it.</summary>
public enum LintLevel
{
    /// <summary>MUST or MUST NOT.</summary>
    Must,

    /// <summary>SHOULD or SHOULD NOT.</summary>
    Should,

    /// <summary>The text describes it so, without one of those words.</summary>
    Described,

    /// <summary>A hint of the device for better performance, which a driver may ignore.</summary>
    Hint,
}

/// <summary>One rule.</summary>
/// <param name="Rule">Which.</param>
/// <param name="Id">Its name in logs and counters.</param>
/// <param name="Duty">Whose it is.</param>
/// <param name="Level">How strong.</param>
/// <param name="Specification">Document and version.</param>
/// <param name="Section">Title of the section.</param>
/// <param name="Sentence">What is required, in our words.</param>
/// <param name="Seen">What is said of an occurrence: a format with up to two numbers.</param>
public sealed record LintEntry(
    LintRule Rule, string Id, LintDuty Duty, LintLevel Level, string Specification, string Section, string Sentence, string Seen);
