namespace VirtioBlkFlow.Frontend.Load;

/// <summary>What the back-end's process took while requests were counted.</summary>
/// <param name="ProcessId">Its number.</param>
/// <param name="Name">Its name.</param>
/// <param name="CpuNs">CPU time of all its threads.</param>
/// <param name="Memory">Its memory at the end.</param>
public sealed record ServerUsage(int ProcessId, string Name, long CpuNs, ProcessMemory Memory);

/// <summary>What a run found out.</summary>
public sealed record LoadResult
{
    /// <summary>What was asked for.</summary>
    public required LoadOptions Options { get; init; }

    /// <summary>What it ran against.</summary>
    public required LoadTarget Target { get; init; }

    /// <summary>When it began.</summary>
    public required DateTimeOffset StartedAt { get; init; }

    /// <summary>All queues together.</summary>
    public required QueueTally Total { get; init; }

    /// <summary>Queue by queue.</summary>
    public required IReadOnlyList<QueueTally> Queues { get; init; }

    /// <summary>The back-end's process; null if it is not known or cannot be looked at.</summary>
    public ServerUsage? Server { get; init; }

    /// <summary>Whether it was stopped before its time.</summary>
    public bool WasStopped { get; init; }

    /// <summary>Seconds from the first counted request to the last completion.</summary>
    public double Seconds => Total.ElapsedNs / 1e9;

    /// <summary>Requests per second.</summary>
    public double Iops => PerSecond(Total.RequestCount);

    /// <summary>A count per second.</summary>
    public double PerSecond(long count) => Total.ElapsedNs == 0 ? 0 : count / Seconds;

    /// <summary>A sum per request.</summary>
    public double PerRequest(long sum) => Total.RequestCount == 0 ? 0 : (double)sum / Total.RequestCount;
}

/// <summary>How far a run is; a rough idea, taken while the queues go on.</summary>
/// <param name="IsWarmingUp">Whether nothing is counted yet.</param>
/// <param name="Fraction">How much of it is done, 0 to 1.</param>
/// <param name="RequestCount">Requests counted.</param>
/// <param name="Bytes">Bytes they moved.</param>
/// <param name="Elapsed">Since counting began.</param>
/// <param name="Latency">All latencies so far.</param>
public sealed record LoadProgress(bool IsWarmingUp, double Fraction, long RequestCount, long Bytes, TimeSpan Elapsed, LatencyHistogram Latency);
