using System.Diagnostics;
using VirtioBlkFlow.Daemon.Control;

namespace VirtioBlkFlow.Daemon.Top;

/// <summary>What one daemon said at one moment.</summary>
/// <param name="Path">Its control socket.</param>
/// <param name="Timestamp">When, on this program's clock.</param>
/// <param name="Status">The process.</param>
/// <param name="Disks">Its disks.</param>
/// <param name="Latencies">Where time goes, by disk.</param>
internal sealed record TopSample(
    string Path, long Timestamp, StatusReport Status, IReadOnlyList<DiskReport> Disks, IReadOnlyDictionary<string, LatencyReport> Latencies)
{
    /// <summary>Asks a daemon.</summary>
    /// <exception cref="ControlException">It does not answer.</exception>
    public static async Task<TopSample> TakeAsync(ControlClient client, CancellationToken cancellation)
    {
        StatusReport status = await client.StatusAsync(cancellation);
        IReadOnlyList<DiskReport> disks = await client.DisksAsync(cancellation);
        Dictionary<string, LatencyReport> latencies = [];
        foreach (DiskReport disk in disks)
        {
            latencies.Add(disk.Id, await client.LatencyAsync(disk.Id, cancellation));
        }

        return new TopSample(client.Path, Stopwatch.GetTimestamp(), status, disks, latencies);
    }
}

/// <summary>A line of the table: what a queue did between two samples.</summary>
/// <param name="Disk">Name of the disk.</param>
/// <param name="Queue">Number of the queue; null for a disk without any.</param>
/// <param name="State">serving, stopped, or that nobody is connected.</param>
/// <param name="RequestsPerSecond">Requests returned.</param>
/// <param name="ReadBytesPerSecond">Bytes read.</param>
/// <param name="WrittenBytesPerSecond">Bytes written.</param>
/// <param name="Errors">Requests that failed.</param>
/// <param name="RequestsPerBatch">Mean size of a batch.</param>
/// <param name="SystemCallsPerRequest">Calls of the engine and to the driver.</param>
/// <param name="Stages">Where time went; empty if that is not measured.</param>
internal sealed record TopRow(
    string Disk,
    int? Queue,
    string State,
    double RequestsPerSecond,
    double ReadBytesPerSecond,
    double WrittenBytesPerSecond,
    ulong Errors,
    double RequestsPerBatch,
    double SystemCallsPerRequest,
    IReadOnlyList<StageShare> Stages)
{
    /// <summary>The lines of a daemon.</summary>
    /// <param name="now">What it says.</param>
    /// <param name="earlier">What it said before; null to count from its start.</param>
    public static IEnumerable<TopRow> Of(TopSample now, TopSample? earlier)
    {
        // A daemon that was started anew has nothing to do with what its predecessor said.
        if (earlier?.Status.ProcessId != now.Status.ProcessId || earlier.Status.StartedAt != now.Status.StartedAt)
        {
            earlier = null;
        }

        double seconds = earlier == null ? now.Status.UptimeSeconds : Stopwatch.GetElapsedTime(earlier.Timestamp, now.Timestamp).TotalSeconds;
        foreach (DiskReport disk in now.Disks)
        {
            DiskReport? before = earlier?.Disks.FirstOrDefault(other => other.Id == disk.Id);
            if (disk.Queues.Count == 0)
            {
                yield return new TopRow(disk.Id, null, StateOf(disk, null), 0, 0, 0, 0, 0, 0, []);
            }

            foreach (QueueReport queue in disk.Queues)
            {
                QueueReport? then = before?.Queues.FirstOrDefault(other => other.Queue == queue.Queue);
                yield return Of(disk, queue, then, seconds) with
                {
                    Stages = StageShares.Of(StagesOf(now, disk.Id, queue.Queue), StagesOf(earlier, disk.Id, queue.Queue)),
                };
            }
        }
    }

    private static TopRow Of(DiskReport disk, QueueReport queue, QueueReport? earlier, double seconds)
    {
        double requests = Difference(SumOf(queue.Requests), SumOf(earlier?.Requests));
        double batches = Difference(queue.Batches, earlier?.Batches);
        double systemCalls = Difference(queue.SystemCalls, earlier?.SystemCalls) + Difference(queue.Calls, earlier?.Calls);
        seconds = Math.Max(seconds, 1e-6);
        return new TopRow(
            disk.Id,
            queue.Queue,
            StateOf(disk, queue),
            requests / seconds,
            Difference(queue.BytesRead, earlier?.BytesRead) / seconds,
            Difference(queue.BytesWritten, earlier?.BytesWritten) / seconds,
            (ulong)Difference(SumOf(queue.Errors), SumOf(earlier?.Errors)),
            batches == 0 ? 0 : requests / batches,
            requests == 0 ? 0 : systemCalls / requests,
            []);
    }

    private static string StateOf(DiskReport disk, QueueReport? queue) =>
        !disk.HasFrontend ? "no front-end" : queue is { Running: true } ? "serving" : "stopped";

    private static IEnumerable<QueueLatencyReport> StagesOf(TopSample? sample, string disk, int queue) =>
        sample != null && sample.Latencies.TryGetValue(disk, out LatencyReport? latency) ? latency.Queues.Where(other => other.Queue == queue) : [];

    private static double Difference(ulong now, ulong? earlier) => now - Math.Min(now, earlier ?? 0);

    private static ulong SumOf(IReadOnlyDictionary<string, ulong>? counters) => counters?.Values.Aggregate(0UL, (sum, count) => sum + count) ?? 0;
}
