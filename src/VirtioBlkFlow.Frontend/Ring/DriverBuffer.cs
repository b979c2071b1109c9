namespace VirtioBlkFlow.Frontend.Ring;

/// <summary>One buffer of a chain, as the driver sees it.</summary>
/// <param name="GuestAddress">Guest-physical address.</param>
/// <param name="LengthBytes">Length in bytes.</param>
/// <param name="DeviceWritable">Whether the device writes it; otherwise it reads it.</param>
public readonly record struct DriverBuffer(ulong GuestAddress, uint LengthBytes, bool DeviceWritable)
{
    /// <summary>A buffer the device reads.</summary>
    public static DriverBuffer Readable(ulong guestAddress, uint lengthBytes) => new(guestAddress, lengthBytes, DeviceWritable: false);

    /// <summary>A buffer the device writes.</summary>
    public static DriverBuffer Writable(ulong guestAddress, uint lengthBytes) => new(guestAddress, lengthBytes, DeviceWritable: true);
}

/// <summary>A chain the device has used.</summary>
/// <param name="Head">Its head, as <see cref="DriverRing.TryAdd"/> gave it.</param>
/// <param name="WrittenBytes">What the device says it has written.</param>
/// <param name="WasSkipped">
/// IN_ORDER: no element of its own tells of it, but that of a later chain. Its length is not known; all of it counts as written.
/// </param>
public readonly record struct UsedChain(ushort Head, uint WrittenBytes, bool WasSkipped = false);

/// <summary>The device broke the ring: it returned what it was not given, or twice.</summary>
public sealed class DeviceBrokeRingException(string message) : Exception(message);
