namespace VirtioBlkFlow.VhostUser.Wire;

/// <summary>Numbers of the protocol that are no fields: bits within the virtio feature word, and limits with their sources.</summary>
public static class ProtocolLimits
{
    /// <summary>
    /// VHOST_F_LOG_ALL, bit 26 of the virtio feature word: log every write to guest memory
    /// (vhost-user.rst, "Migration").
    /// </summary>
    public const ulong VHOST_F_LOG_ALL = 1UL << 26;

    /// <summary>
    /// VHOST_USER_F_PROTOCOL_FEATURES, bit 30 of the virtio feature word: the back-end has protocol features, and vrings
    /// begin disabled (vhost-user.rst, "Feature bits").
    /// </summary>
    public const ulong VHOST_USER_F_PROTOCOL_FEATURES = 1UL << 30;

    /// <summary>
    /// VIRTIO_F_RING_PACKED, bit 34 (VIRTIO 1.4, "Reserved Feature Bits"). The one virtio feature the protocol layer must know:
    /// it decides how large the three parts of a vring are and how its base is written.
    /// </summary>
    public const ulong VIRTIO_F_RING_PACKED = 1UL << 34;

    /// <summary>
    /// Largest payload accepted, in bytes. Arbitrary: the largest a block device meets is a configuration space of
    /// 12 + 256 bytes; 4 KiB leaves room and keeps a hostile size field from reserving memory.
    /// </summary>
    public const int MaxPayloadBytes = 4096;

    /// <summary>
    /// Most descriptors of one message that are looked at. Arbitrary, above the 8 of a full SET_MEM_TABLE; more makes the
    /// kernel truncate the control data, which ends the connection.
    /// </summary>
    public const int MaxDescriptors = 32;

    /// <summary>Most regions of one SET_MEM_TABLE: VHOST_MEMORY_BASELINE_NREGIONS of QEMU, as without CONFIGURE_MEM_SLOTS.</summary>
    public const int MaxTableRegions = 8;

    /// <summary>
    /// Answer of GET_MAX_MEM_SLOTS: libvhost-user's VHOST_USER_MAX_RAM_SLOTS. QEMU caps it at 512, and fails if it shrinks
    /// over a reconnect.
    /// </summary>
    public const int MaxMemorySlots = 509;

    /// <summary>Largest configuration space that can be asked for, in bytes: VHOST_USER_MAX_CONFIG_SIZE of QEMU.</summary>
    public const int MaxConfigBytes = 256;

    /// <summary>Most vrings of a device: SET_VRING_KICK has 8 bits for the index (vhost-user.rst, "SET_VRING_KICK").</summary>
    public const int MaxVrings = 256;

    /// <summary>Largest vring, in descriptors (VIRTIO 1.4, "Split Virtqueues" and "Packed Virtqueues").</summary>
    public const int MaxVringSize = 32768;

    /// <summary>
    /// Largest state of a device that is saved or loaded, in bytes. Arbitrary: a block device has a handful of bytes to say, and
    /// who sends more shall not fill our memory.
    /// </summary>
    public const int MaxDeviceStateBytes = 64 * 1024;
}
