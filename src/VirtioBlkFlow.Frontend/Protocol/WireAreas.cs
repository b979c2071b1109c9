namespace VirtioBlkFlow.Frontend.Protocol;

/// <summary>C: <c>VhostUserLog</c>. 16 bytes (vhost-user.rst, "Log description").</summary>
/// <param name="LengthBytes">Size of the log in bytes.</param>
/// <param name="Offset">Where in its file it starts, in bytes.</param>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct LogArea(ulong LengthBytes, ulong Offset);

/// <summary>
/// C: <c>VhostUserInflight</c>. 20 bytes of data, 24 on the wire, because the C structure is padded and QEMU sends it whole
/// (vhost-user.rst, "Inflight description").
/// </summary>
/// <param name="LengthBytes">Size of the shared area in bytes; 0 in a request, and in a reply that refuses.</param>
/// <param name="Offset">Where in its file it starts, in bytes.</param>
/// <param name="QueueCount">Number of queues.</param>
/// <param name="QueueSize">Entries of each queue.</param>
/// <param name="Padding">Unused.</param>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct InflightArea(ulong LengthBytes, ulong Offset, ushort QueueCount, ushort QueueSize, uint Padding = 0);

/// <summary>C: <c>VhostUserTransferDeviceState</c>. 8 bytes (vhost-user.rst, "Device state transfer parameters").</summary>
/// <param name="Direction">0 save, 1 load.</param>
/// <param name="Phase">0: all rings are stopped.</param>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct DeviceStateTransfer(uint Direction, uint Phase);
