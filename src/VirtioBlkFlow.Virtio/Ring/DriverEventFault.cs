namespace VirtioBlkFlow.Virtio.Ring;

/// <summary>What is wrong with the way a driver asks for calls, or for none.</summary>
public enum DriverEventFault
{
    /// <summary>Nothing.</summary>
    None,

    /// <summary>
    /// Split: <c>flags</c> of the available ring is not 0, though VIRTIO_F_EVENT_IDX was negotiated (VIRTIO 1.4, "Split Virtqueues", "Used
    /// Buffer Notification Suppression").
    /// </summary>
    FlagsWithEventIndex,

    /// <summary>Packed: RING_EVENT_FLAGS_DESC, though VIRTIO_F_EVENT_IDX was not negotiated.</summary>
    DescriptorWithoutEventIndex,

    /// <summary>A value of the flags that is reserved. Packed: 3. Split: more than 1.</summary>
    ReservedFlags,
}
