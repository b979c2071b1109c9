namespace VirtioBlkFlow.VhostUser;

/// <summary>
/// The inflight area of all queues, mapped into this process (vhost-user.rst, "Inflight I/O tracking"). Valid from the start of a queue
/// to its stop. The default value stands for none.
/// </summary>
/// <param name="Address">Host address of the first byte, 64-byte aligned; 0 for none.</param>
/// <param name="LengthBytes">At least what <see cref="IVhostUserBackend.InflightBytesFor"/> says for the two counts.</param>
/// <param name="QueueCount">Number of queues it is for.</param>
/// <param name="QueueSize">Most descriptors of each.</param>
public readonly record struct InflightMapping(nint Address, ulong LengthBytes, int QueueCount, int QueueSize)
{
    /// <summary>Whether there is no area, and nothing to record.</summary>
    public bool IsNone => Address == 0;
}
