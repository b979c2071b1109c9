namespace VirtioBlkFlow.Device.Latency;

/// <summary>Which batches are timed.</summary>
public enum StageLatency
{
    /// <summary>
    /// So many that it is known where time goes, so few that it costs nothing to speak of: about every 50 µs one, and each that ends an
    /// idle time. Each stands for those that were left out before it.
    /// </summary>
    Sampled,

    /// <summary>Every batch. Costs some 200 ns for each, which a fast disk at a low queue depth feels.</summary>
    All,

    /// <summary>None: nothing is kept, and nothing is looked at.</summary>
    Off,
}
