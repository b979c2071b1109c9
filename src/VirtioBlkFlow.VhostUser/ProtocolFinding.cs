using VirtioBlkFlow.VhostUser.Wire;

namespace VirtioBlkFlow.VhostUser;

/// <summary>What a front-end did that vhost-user.rst, or VIRTIO where it points there, does not allow.</summary>
public enum ProtocolFinding
{
    /// <summary>Nothing, or nothing that is surely the front-end's fault.</summary>
    None,

    /// <summary>A request has the REPLY flag.</summary>
    MarkedAsReply,

    /// <summary>A payload does not have the size its type has.</summary>
    PayloadSize,

    /// <summary>A request that is unknown, or that belongs to a protocol feature that was not offered.</summary>
    RequestNotOffered,

    /// <summary>More or fewer descriptors than the request takes.</summary>
    DescriptorCount,

    /// <summary>REM_MEM_REG with a descriptor.</summary>
    RemovalWithDescriptor,

    /// <summary>NEED_REPLY without REPLY_ACK.</summary>
    NeedReplyNotNegotiated,

    /// <summary>Features that were not offered.</summary>
    FeaturesNotOffered,

    /// <summary>Protocol features that were not offered.</summary>
    ProtocolFeaturesNotOffered,

    /// <summary>In-band notifications without the two protocol features they need.</summary>
    InBandPrerequisites,

    /// <summary>The device is set up, and SET_OWNER did not come.</summary>
    OwnerMissing,

    /// <summary>A vring is ready to run, and SET_FEATURES did not come.</summary>
    FeaturesMissing,

    /// <summary>SET_VRING_ENABLE, and neither kind of features was ever negotiated.</summary>
    EnableNotNegotiated,

    /// <summary>SET_VRING_ENABLE with something else than 0 and 1.</summary>
    EnableValue,

    /// <summary>A kick for a vring whose size or addresses are unknown.</summary>
    KickBeforeSetUp,

    /// <summary>A vring there is none of.</summary>
    VringIndex,

    /// <summary>A size a vring cannot have.</summary>
    VringSize,

    /// <summary>An address of a vring is not aligned.</summary>
    VringAlignment,

    /// <summary>Size, base or addresses of a vring that runs.</summary>
    VringChangedWhileRunning,

    /// <summary>Regions of guest memory overlap.</summary>
    RegionOverlap,

    /// <summary>A driver's write to a field of the configuration space that is read-only.</summary>
    ConfigReadOnly,

    /// <summary>A bit of the device status was cleared without a reset.</summary>
    StatusBitCleared,

    /// <summary>DRIVER_OK without FEATURES_OK.</summary>
    StatusOrder,

    /// <summary>The device's state is transferred while a vring runs.</summary>
    StateWhileRunning,
}

/// <summary>Hears of a front-end's mistakes. Called on the session's thread, for every occurrence: it must be quick, and not throw.</summary>
public interface IProtocolObserver
{
    /// <summary>A mistake was seen.</summary>
    /// <param name="finding">Which.</param>
    /// <param name="request">In which request.</param>
    /// <param name="seen">What was seen, for a person.</param>
    void OnFinding(ProtocolFinding finding, FrontendRequest request, string seen);
}
