namespace VirtioBlkFlow.Virtio.Inflight;

/// <summary>
/// The record of requests in flight that the front-end handed back is not one to go on from. Whoever served the queue anyway could lose
/// requests or run them twice.
/// </summary>
/// <param name="defect">What is wrong with it.</param>
public sealed class InflightRecordException(InflightDefect defect) : Exception($"The record of requests in flight cannot be used: {defect}.")
{
    /// <summary>What is wrong with it.</summary>
    public InflightDefect Defect { get; } = defect;
}
