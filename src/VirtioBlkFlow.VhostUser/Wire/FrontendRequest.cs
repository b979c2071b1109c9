namespace VirtioBlkFlow.VhostUser.Wire;

/// <summary>
/// Requests a front-end sends to a back-end, in wire order with their numbers
/// (vhost-user.rst, "Front-end message types"). All of them are listed, so that a log can name what is refused.
/// </summary>
public enum FrontendRequest : uint
{
    /// <summary>Not in the document: peers built on libvhost-user send 0 to say that they quit.</summary>
    NONE = 0,

    /// <summary>Asks for the virtio feature bits; answered with a u64.</summary>
    GET_FEATURES = 1,

    /// <summary>Sets the negotiated virtio feature bits (u64).</summary>
    SET_FEATURES = 2,

    /// <summary>Begins the session.</summary>
    SET_OWNER = 3,

    /// <summary>Deprecated; the document lets a back-end ignore it.</summary>
    RESET_OWNER = 4,

    /// <summary>Replaces the whole memory table; one descriptor per region, in the regions' order.</summary>
    SET_MEM_TABLE = 5,

    /// <summary>Sets the dirty log; needs LOG_SHMFD.</summary>
    SET_LOG_BASE = 6,

    /// <summary>Sets the eventfd that tells of changes of the dirty log.</summary>
    SET_LOG_FD = 7,

    /// <summary>Sets the number of descriptors of a vring (<see cref="VringState"/>).</summary>
    SET_VRING_NUM = 8,

    /// <summary>Sets the addresses of a vring (<see cref="VringAddress"/>).</summary>
    SET_VRING_ADDR = 9,

    /// <summary>Sets the index at which fetching begins (<see cref="VringState"/>).</summary>
    SET_VRING_BASE = 10,

    /// <summary>Stops a vring; answered with the index at which fetching would go on (<see cref="VringState"/>).</summary>
    GET_VRING_BASE = 11,

    /// <summary>Sets the eventfd of driver → device (<see cref="VringDescriptorIndex"/>).</summary>
    SET_VRING_KICK = 12,

    /// <summary>Sets the eventfd of device → driver (<see cref="VringDescriptorIndex"/>).</summary>
    SET_VRING_CALL = 13,

    /// <summary>Sets the eventfd that tells of a broken vring (<see cref="VringDescriptorIndex"/>).</summary>
    SET_VRING_ERR = 14,

    /// <summary>Asks for the <see cref="ProtocolFeatures"/>; answered with a u64.</summary>
    GET_PROTOCOL_FEATURES = 15,

    /// <summary>Sets the negotiated <see cref="ProtocolFeatures"/> (u64).</summary>
    SET_PROTOCOL_FEATURES = 16,

    /// <summary>Asks how many vrings the back-end can serve; answered with a u64.</summary>
    GET_QUEUE_NUM = 17,

    /// <summary>Enables (num 1) or disables (num 0) a vring (<see cref="VringState"/>).</summary>
    SET_VRING_ENABLE = 18,

    /// <summary>Network devices only.</summary>
    SEND_RARP = 19,

    /// <summary>Network devices only.</summary>
    NET_SET_MTU = 20,

    /// <summary>Hands over the socket on which the back-end may send <see cref="BackendRequest"/>s.</summary>
    SET_BACKEND_REQ_FD = 21,

    /// <summary>Updates of an IOMMU's translations; needs VIRTIO_F_ACCESS_PLATFORM.</summary>
    IOTLB_MSG = 22,

    /// <summary>Sets the byte order of a vring; needs CROSS_ENDIAN.</summary>
    SET_VRING_ENDIAN = 23,

    /// <summary>Reads the device's configuration space (<see cref="ConfigHeader"/> and data).</summary>
    GET_CONFIG = 24,

    /// <summary>Writes the device's configuration space (<see cref="ConfigHeader"/> and data).</summary>
    SET_CONFIG = 25,

    /// <summary>Crypto devices only.</summary>
    CREATE_CRYPTO_SESSION = 26,

    /// <summary>Crypto devices only.</summary>
    CLOSE_CRYPTO_SESSION = 27,

    /// <summary>Postcopy migration; needs PAGEFAULT.</summary>
    POSTCOPY_ADVISE = 28,

    /// <summary>Postcopy migration; needs PAGEFAULT.</summary>
    POSTCOPY_LISTEN = 29,

    /// <summary>Postcopy migration; needs PAGEFAULT.</summary>
    POSTCOPY_END = 30,

    /// <summary>Asks for the shared memory that records requests in flight; needs INFLIGHT_SHMFD.</summary>
    GET_INFLIGHT_FD = 31,

    /// <summary>Hands back the shared memory that records requests in flight; needs INFLIGHT_SHMFD.</summary>
    SET_INFLIGHT_FD = 32,

    /// <summary>GPU devices only.</summary>
    GPU_SET_SOCKET = 33,

    /// <summary>Disables all vrings and resets the device's state; needs RESET_DEVICE.</summary>
    RESET_DEVICE = 34,

    /// <summary>A kick as a message; needs INBAND_NOTIFICATIONS.</summary>
    VRING_KICK = 35,

    /// <summary>Asks how many memory regions the back-end can hold; answered with a u64.</summary>
    GET_MAX_MEM_SLOTS = 36,

    /// <summary>Adds one memory region (<see cref="SingleMemoryRegion"/>) with its descriptor.</summary>
    ADD_MEM_REG = 37,

    /// <summary>Removes one memory region (<see cref="SingleMemoryRegion"/>).</summary>
    REM_MEM_REG = 38,

    /// <summary>Sets the virtio device status (u64, low byte).</summary>
    SET_STATUS = 39,

    /// <summary>Asks for the virtio device status; answered with a u64.</summary>
    GET_STATUS = 40,

    /// <summary>Asks for an exported buffer; needs SHARED_OBJECT.</summary>
    GET_SHARED_OBJECT = 41,

    /// <summary>Begins the transfer of the device's state; needs DEVICE_STATE.</summary>
    SET_DEVICE_STATE_FD = 42,

    /// <summary>Asks how the transfer of the device's state ended; needs DEVICE_STATE.</summary>
    CHECK_DEVICE_STATE = 43,

    /// <summary>Asks for the device's shared memory regions; needs SHMEM.</summary>
    GET_SHMEM_CONFIG = 44,
}
