namespace VirtioBlkFlow.Device;

/// <summary>
/// Bounds within which a call to the driver may wait for more completions. It waits only while other requests of its queue are in flight: a
/// driver is never kept from the last thing it waits for.
/// </summary>
/// <param name="Microseconds">Longest wait, at least 1.</param>
/// <param name="Completions">With so many completions the call is made; at least 2.</param>
public readonly record struct CallModeration(int Microseconds, int Completions)
{
    /// <summary>Longest wait there can be, in microseconds: a second. Arbitrary; drivers give up on a request after thirty.</summary>
    public const int MaxMicroseconds = 1_000_000;

    /// <summary>Most completions a call can wait for: what the largest ring holds (VIRTIO 1.4, "Split Virtqueues").</summary>
    public const int MaxCompletions = 32768;
}
