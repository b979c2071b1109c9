using VirtioBlkFlow.VhostUser.Wire;

namespace VirtioBlkFlow.VhostUser.Session;

/// <summary>
/// What of a session's set-up has come already, to notice what comes too early. All of that is served: front-ends differ, and no two
/// send the same order. Owned by the session's thread.
/// </summary>
internal sealed class RequestOrder
{
    private bool _hasOwner;
    private bool _hasFeatures;
    private bool _hasProtocolFeatures;

    /// <summary>Whether SET_FEATURES came, in this session; a reset does not count.</summary>
    public bool HasFeatures => _hasFeatures;

    /// <summary>A well-formed request has come.</summary>
    /// <returns>Whether it came too early.</returns>
    public ProtocolFinding Observe(FrontendRequest request)
    {
        switch (request)
        {
            case FrontendRequest.SET_OWNER:
                _hasOwner = true;
                return ProtocolFinding.None;
            case FrontendRequest.SET_PROTOCOL_FEATURES:
                _hasProtocolFeatures = true;
                return ProtocolFinding.None;
            case FrontendRequest.SET_FEATURES:
                _hasFeatures = true;
                return OwnerFinding;
            case FrontendRequest.SET_VRING_ENABLE:
                return _hasFeatures || _hasProtocolFeatures ? OwnerFinding : ProtocolFinding.EnableNotNegotiated;

            // Not SET_VRING_CALL, SET_VRING_ERR and SET_BACKEND_REQ_FD: front-ends send them with the first questions.
            case FrontendRequest.SET_MEM_TABLE or FrontendRequest.ADD_MEM_REG or FrontendRequest.SET_VRING_NUM
                or FrontendRequest.SET_VRING_ADDR or FrontendRequest.SET_VRING_BASE or FrontendRequest.SET_VRING_KICK:
                return OwnerFinding;
            default:
                return ProtocolFinding.None;
        }
    }

    private ProtocolFinding OwnerFinding => _hasOwner ? ProtocolFinding.None : ProtocolFinding.OwnerMissing;
}
