using VirtioBlkFlow.Frontend.Load;

namespace VirtioBlkFlow.Daemon.Bench;

/// <summary>A command line of <c>vblkflow bench</c>, read.</summary>
internal sealed record BenchOptions
{
    /// <summary>Where the back-end listens; null to measure the generator alone.</summary>
    public required string? SocketPath { get; init; }

    /// <summary>The load.</summary>
    public required LoadOptions Load { get; init; }

    /// <summary>Process to report on; null for the one that listens on the socket.</summary>
    public int? ServerProcessId { get; init; }

    /// <summary>Control socket of the daemon that serves; null not to ask where latency comes from.</summary>
    public string? ControlPath { get; init; }

    /// <summary>Where results go as JSON; - for stdout, null for nowhere.</summary>
    public string? JsonPath { get; init; }

    /// <summary>Where the distribution of latencies goes; - for stdout, null for nowhere.</summary>
    public string? HistogramPath { get; init; }

    /// <summary>Whether stdout is for a file that was asked for, and so not for the report.</summary>
    public bool StdoutIsTaken => JsonPath == "-" || HistogramPath == "-";
}
