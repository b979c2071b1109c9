using System.Runtime.InteropServices;

namespace VirtioBlkFlow.VhostUser.Wire;

/// <summary>C: <c>VhostUserLog</c>. 16 bytes (vhost-user.rst, "Log description").</summary>
/// <param name="LengthBytes">Length of the dirty log in bytes.</param>
/// <param name="MmapOffset">Offset in bytes of its first byte within the descriptor's file.</param>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct LogDescription(ulong LengthBytes, ulong MmapOffset)
{
    /// <summary>Size on the wire: 16 bytes.</summary>
    public const int SizeBytes = 16;
}

/// <summary>
/// C: <c>VhostUserInflight</c>. 20 bytes of fields (vhost-user.rst, "Inflight description"), but 24 on the wire from everyone who sends
/// the C structure with its padding, QEMU among them. Read and answered in either size.
/// </summary>
/// <param name="LengthBytes">Length of the area in bytes; 0 in a question, and in an answer that refuses.</param>
/// <param name="MmapOffset">Offset in bytes of its first byte within the descriptor's file.</param>
/// <param name="QueueCount">Number of queues.</param>
/// <param name="QueueSize">Descriptors of each.</param>
[StructLayout(LayoutKind.Sequential, Pack = 4)]
public readonly record struct InflightDescription(ulong LengthBytes, ulong MmapOffset, ushort QueueCount, ushort QueueSize)
{
    /// <summary>Size of the fields: 20 bytes.</summary>
    public const int SizeBytes = 20;

    /// <summary>Size with the C structure's padding: 24 bytes.</summary>
    public const int PaddedBytes = 24;
}

/// <summary>C: <c>VhostDeviceStateDirection</c>: where the device's state goes.</summary>
public enum DeviceStateDirection : uint
{
    /// <summary>From the back-end to the front-end.</summary>
    VHOST_TRANSFER_STATE_DIRECTION_SAVE = 0,

    /// <summary>From the front-end to the back-end.</summary>
    VHOST_TRANSFER_STATE_DIRECTION_LOAD = 1,
}

/// <summary>C: <c>VhostUserTransferDeviceState</c>. 8 bytes (vhost-user.rst, "Device state transfer parameters").</summary>
/// <param name="Direction">Which way.</param>
/// <param name="Phase"><see cref="PhaseStopped"/>, the only one there is.</param>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct DeviceStateParameters(DeviceStateDirection Direction, uint Phase)
{
    /// <summary>Size on the wire: 8 bytes.</summary>
    public const int SizeBytes = 8;

    /// <summary>VHOST_TRANSFER_STATE_PHASE_STOPPED: all vrings are stopped.</summary>
    public const uint PhaseStopped = 0;
}

/// <summary>
/// The u64 that answers SET_DEVICE_STATE_FD and CHECK_DEVICE_STATE: bits 0-7 an error, bit 8 set when no descriptor comes along
/// (vhost-user.rst, "VHOST_USER_SET_DEVICE_STATE_FD").
/// </summary>
public static class DeviceStateReply
{
    /// <summary>Bit 8: the front-end's own descriptor is used. We never send one.</summary>
    public const ulong NoDescriptor = 0x100;

    /// <summary>A non-zero value of bits 0-7; which one has no meaning.</summary>
    public const ulong Failed = 1;
}
