namespace VirtioBlkFlow.VhostUser.Wire;

/// <summary>Extensions of the protocol, negotiated by GET/SET_PROTOCOL_FEATURES (vhost-user.rst, "Protocol features").</summary>
/// <remarks>
/// Bits above 20 are left out on purpose: in the wild 21 and 22 mean different things to different front-ends.
/// </remarks>
[Flags]
public enum ProtocolFeatures : ulong
{
    /// <summary>No extension.</summary>
    None = 0,

    /// <summary>More than one vring; a back-end should always offer it.</summary>
    MQ = 1UL << 0,

    /// <summary>The dirty log is shared memory with a descriptor.</summary>
    LOG_SHMFD = 1UL << 1,

    /// <summary>Network devices only.</summary>
    RARP = 1UL << 2,

    /// <summary>A request may ask for an acknowledgement by <see cref="MessageFlags.NeedReply"/>.</summary>
    REPLY_ACK = 1UL << 3,

    /// <summary>Network devices only.</summary>
    MTU = 1UL << 4,

    /// <summary>The back-end has a channel of its own for <see cref="BackendRequest"/>s.</summary>
    BACKEND_REQ = 1UL << 5,

    /// <summary>Vrings of the other byte order.</summary>
    CROSS_ENDIAN = 1UL << 6,

    /// <summary>Crypto devices only.</summary>
    CRYPTO_SESSION = 1UL << 7,

    /// <summary>Postcopy migration.</summary>
    PAGEFAULT = 1UL << 8,

    /// <summary>The configuration space travels by GET_CONFIG and SET_CONFIG; QEMU's vhost-user-blk insists on it.</summary>
    CONFIG = 1UL << 9,

    /// <summary>Messages of the back-end may carry descriptors.</summary>
    BACKEND_SEND_FD = 1UL << 10,

    /// <summary>Hardware doorbells.</summary>
    HOST_NOTIFIER = 1UL << 11,

    /// <summary>Requests in flight are recorded in shared memory, for recovery after a crash.</summary>
    INFLIGHT_SHMFD = 1UL << 12,

    /// <summary>RESET_DEVICE is understood.</summary>
    RESET_DEVICE = 1UL << 13,

    /// <summary>Kicks and calls as messages.</summary>
    INBAND_NOTIFICATIONS = 1UL << 14,

    /// <summary>GET_MAX_MEM_SLOTS, ADD_MEM_REG and REM_MEM_REG are understood.</summary>
    CONFIGURE_MEM_SLOTS = 1UL << 15,

    /// <summary>SET_STATUS and GET_STATUS are understood.</summary>
    STATUS = 1UL << 16,

    /// <summary>Memory regions carry Xen's fields.</summary>
    XEN_MMAP = 1UL << 17,

    /// <summary>Buffers shared between devices.</summary>
    SHARED_OBJECT = 1UL << 18,

    /// <summary>The device's state can be migrated.</summary>
    DEVICE_STATE = 1UL << 19,

    /// <summary>
    /// GET_VRING_BASE may leave requests in flight, recorded in the inflight area; needs INFLIGHT_SHMFD. Permits, and obliges to nothing:
    /// here GET_VRING_BASE always finishes what is in flight, because a kernel that writes to guest memory cannot be called back.
    /// </summary>
    GET_VRING_BASE_INFLIGHT = 1UL << 20,
}
