namespace VirtioBlkFlow.VhostUser.Wire;

/// <summary>
/// Requests a back-end sends to the front-end on the channel of SET_BACKEND_REQ_FD, in wire order with their numbers
/// (vhost-user.rst, "Back-end message types").
/// </summary>
public enum BackendRequest : uint
{
    /// <summary>Not a request.</summary>
    NONE = 0,

    /// <summary>A miss in the IOMMU's translations.</summary>
    IOTLB_MSG = 1,

    /// <summary>The device's configuration space has changed; no payload, needs CONFIG.</summary>
    CONFIG_CHANGE_MSG = 2,

    /// <summary>Hands over a hardware doorbell.</summary>
    VRING_HOST_NOTIFIER_MSG = 3,

    /// <summary>A call as a message; needs INBAND_NOTIFICATIONS.</summary>
    VRING_CALL = 4,

    /// <summary>A vring's error as a message; needs INBAND_NOTIFICATIONS.</summary>
    VRING_ERR = 5,

    /// <summary>Adds an exported buffer; needs SHARED_OBJECT.</summary>
    SHARED_OBJECT_ADD = 6,

    /// <summary>Removes an exported buffer; needs SHARED_OBJECT.</summary>
    SHARED_OBJECT_REMOVE = 7,

    /// <summary>Looks up an exported buffer; needs SHARED_OBJECT.</summary>
    SHARED_OBJECT_LOOKUP = 8,

    /// <summary>Maps a piece of a shared memory region; needs SHMEM.</summary>
    SHMEM_MAP = 9,

    /// <summary>Unmaps a piece of a shared memory region; needs SHMEM.</summary>
    SHMEM_UNMAP = 10,
}
