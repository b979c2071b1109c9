using System.Globalization;
using VirtioBlkFlow.Daemon.Bench;
using VirtioBlkFlow.Device.Latency;

namespace VirtioBlkFlow.Daemon.Control;

/// <summary>What a queue has measured, on one line of a log.</summary>
internal static class SnapshotText
{
    /// <summary>Counters, then the median and the 99th percentile of each stage.</summary>
    public static string Describe(QueueMeasurement queue)
    {
        QueueCounts counts = queue.Counts;
        string text = string.Create(
            CultureInfo.InvariantCulture,
            $"queue {queue.Queue}: {counts.TotalRequests} requests, {counts.TotalErrors} errors, {counts.BytesRead} bytes read, {counts.BytesWritten} written, {counts.Batches} batches, {counts.Kicks} kicks, {counts.Calls} calls, {queue.Thread.SystemCalls} system calls, {queue.Thread.Sleeps} sleeps");
        return queue.Stages is { } stages ? $"{text}; p50/p99 {string.Join(", ", stages.Select(Describe))}" : text;
    }

    private static string Describe(LatencyHistogram histogram, int stage) =>
        $"{ControlNames.Of((LatencyStage)stage)} {Units.Time(histogram.QuantileNanoseconds(0.5))}/{Units.Time(histogram.QuantileNanoseconds(0.99))}";
}
