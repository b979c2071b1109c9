using VirtioBlkFlow.VhostUser.Wire;

namespace VirtioBlkFlow.VhostUser.Session;

/// <summary>How a request looks on the wire, apart from whether it makes sense now.</summary>
/// <param name="MinPayloadBytes">Least payload.</param>
/// <param name="MaxPayloadBytes">Most payload.</param>
/// <param name="MaxDescriptors">Most descriptors that may come along; how many it needs is the handler's to say.</param>
/// <param name="Gate">Protocol feature that must have been offered, or None.</param>
/// <param name="HasOwnReply">Whether it is answered even without NEED_REPLY; then that is the only answer.</param>
/// <param name="IsAlwaysAcknowledged">Whether its success is acknowledged even without NEED_REPLY.</param>
internal readonly record struct RequestRule(
    int MinPayloadBytes, int MaxPayloadBytes, int MaxDescriptors, ProtocolFeatures Gate, bool HasOwnReply, bool IsAlwaysAcknowledged = false);

/// <summary>The rules of all requests this library understands (vhost-user.rst, "Front-end message types").</summary>
internal static class RequestRules
{
    private const int U64Bytes = sizeof(ulong);

    /// <summary>
    /// Looks a request up. The gate is what was <i>offered</i>, not what was negotiated: front-ends that ask first and negotiate
    /// later (SPDK asks GET_QUEUE_NUM unbidden) do no harm.
    /// </summary>
    /// <param name="request">Its number.</param>
    /// <param name="offered">Protocol features that were offered.</param>
    /// <returns>Null if it is unknown, not understood here, or not offered.</returns>
    public static RequestRule? Find(FrontendRequest request, ProtocolFeatures offered)
    {
        RequestRule? rule = request switch
        {
            FrontendRequest.GET_FEATURES => Asks(),
            FrontendRequest.SET_FEATURES => Sets(U64Bytes),
            FrontendRequest.SET_OWNER => Sets(0),
            FrontendRequest.RESET_OWNER => Sets(0),
            FrontendRequest.SET_MEM_TABLE =>
                new(MemoryTableHeader.SizeBytes, ProtocolLimits.MaxPayloadBytes, ProtocolLimits.MaxDescriptors, ProtocolFeatures.None, false),

            // The document wants a reply and does not say how it refuses; QEMU reads it and heeds only its number. So a refusal without
            // NEED_REPLY ends the connection: a migration that goes on without a log loses the guest's data.
            FrontendRequest.SET_LOG_BASE =>
                Sets(LogDescription.SizeBytes, ProtocolFeatures.LOG_SHMFD, descriptors: 1) with { IsAlwaysAcknowledged = true },

            // QEMU's type has a payload of 8 bytes, the document none.
            FrontendRequest.SET_LOG_FD => new(0, U64Bytes, 1, ProtocolFeatures.LOG_SHMFD, false),
            FrontendRequest.SET_VRING_NUM => Sets(VringState.SizeBytes),
            FrontendRequest.SET_VRING_ADDR => Sets(VringAddress.SizeBytes),
            FrontendRequest.SET_VRING_BASE => Sets(VringState.SizeBytes),
            FrontendRequest.GET_VRING_BASE => Asks(payloadBytes: VringState.SizeBytes),
            FrontendRequest.SET_VRING_KICK => Sets(U64Bytes, descriptors: 1),
            FrontendRequest.SET_VRING_CALL => Sets(U64Bytes, descriptors: 1),
            FrontendRequest.SET_VRING_ERR => Sets(U64Bytes, descriptors: 1),
            FrontendRequest.GET_PROTOCOL_FEATURES => Asks(),
            FrontendRequest.SET_PROTOCOL_FEATURES => Sets(U64Bytes),
            FrontendRequest.GET_QUEUE_NUM => Asks(ProtocolFeatures.MQ),
            FrontendRequest.SET_VRING_ENABLE => Sets(VringState.SizeBytes),
            FrontendRequest.SET_BACKEND_REQ_FD => Sets(0, ProtocolFeatures.BACKEND_REQ, descriptors: 1),
            FrontendRequest.GET_CONFIG =>
                new(ConfigHeader.SizeBytes, ProtocolLimits.MaxPayloadBytes, 0, ProtocolFeatures.CONFIG, true),
            FrontendRequest.SET_CONFIG =>
                new(ConfigHeader.SizeBytes, ProtocolLimits.MaxPayloadBytes, 0, ProtocolFeatures.CONFIG, false),
            FrontendRequest.GET_INFLIGHT_FD =>
                new(InflightDescription.SizeBytes, InflightDescription.PaddedBytes, 0, ProtocolFeatures.INFLIGHT_SHMFD, true),
            FrontendRequest.SET_INFLIGHT_FD =>
                new(InflightDescription.SizeBytes, InflightDescription.PaddedBytes, 1, ProtocolFeatures.INFLIGHT_SHMFD, false),
            FrontendRequest.RESET_DEVICE => Sets(0, ProtocolFeatures.RESET_DEVICE),
            FrontendRequest.GET_MAX_MEM_SLOTS => Asks(ProtocolFeatures.CONFIGURE_MEM_SLOTS),
            FrontendRequest.ADD_MEM_REG => Sets(SingleMemoryRegion.SizeBytes, ProtocolFeatures.CONFIGURE_MEM_SLOTS, descriptors: 1),

            // The document wants no descriptor here, but some front-ends send one: it is closed unused.
            FrontendRequest.REM_MEM_REG => Sets(SingleMemoryRegion.SizeBytes, ProtocolFeatures.CONFIGURE_MEM_SLOTS, descriptors: 1),
            FrontendRequest.SET_STATUS => Sets(U64Bytes, ProtocolFeatures.STATUS),
            FrontendRequest.GET_STATUS => Asks(ProtocolFeatures.STATUS),
            FrontendRequest.SET_DEVICE_STATE_FD =>
                new(DeviceStateParameters.SizeBytes, DeviceStateParameters.SizeBytes, 1, ProtocolFeatures.DEVICE_STATE, true),
            FrontendRequest.CHECK_DEVICE_STATE => Asks(ProtocolFeatures.DEVICE_STATE),
            _ => null,
        };
        return rule is { } found && (found.Gate & ~offered) == 0 ? rule : null;
    }

    private static RequestRule Sets(int payloadBytes, ProtocolFeatures gate = ProtocolFeatures.None, int descriptors = 0) =>
        new(payloadBytes, payloadBytes, descriptors, gate, HasOwnReply: false);

    private static RequestRule Asks(ProtocolFeatures gate = ProtocolFeatures.None, int payloadBytes = 0) =>
        new(payloadBytes, payloadBytes, 0, gate, HasOwnReply: true);
}
