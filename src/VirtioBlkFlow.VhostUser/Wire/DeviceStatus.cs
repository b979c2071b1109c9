namespace VirtioBlkFlow.VhostUser.Wire;

/// <summary>The virtio device status of SET_STATUS and GET_STATUS (VIRTIO 1.4, "Device Status Field").</summary>
[Flags]
public enum DeviceStatus : byte
{
    /// <summary>After a reset.</summary>
    Reset = 0,

    /// <summary>The driver has noticed the device.</summary>
    ACKNOWLEDGE = 1,

    /// <summary>The driver knows how to drive it.</summary>
    DRIVER = 2,

    /// <summary>The driver is ready; the device may send configuration changes.</summary>
    DRIVER_OK = 4,

    /// <summary>The features are agreed on; cleared by the device to refuse them.</summary>
    FEATURES_OK = 8,

    /// <summary>Set by the device: it cannot go on without a reset.</summary>
    DEVICE_NEEDS_RESET = 64,

    /// <summary>The driver has given up.</summary>
    FAILED = 128,
}
