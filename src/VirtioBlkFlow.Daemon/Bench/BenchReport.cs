using System.Globalization;
using VirtioBlkFlow.Frontend.Load;

namespace VirtioBlkFlow.Daemon.Bench;

/// <summary>The results as a table for people.</summary>
internal static class BenchReport
{
    private static readonly double[] s_percentiles = [50, 90, 99, 99.9, 99.99];

    /// <summary>Writes it.</summary>
    /// <param name="output">Where to.</param>
    /// <param name="result">What was found out.</param>
    /// <param name="isLoopback">Whether there was no back-end.</param>
    public static void Write(TextWriter output, LoadResult result, bool isLoopback)
    {
        LoadOptions load = result.Options;
        LoadTarget target = result.Target;
        QueueTally total = result.Total;
        Line(output, $"{Describe(load)}; {target.QueueSize} {(target.IsPacked ? "packed" : "split")}{(target.IsIndirect ? ", indirect" : "")}{(target.UsesEventIndex ? ", event_idx" : "")}");
        Line(output, $"{total.RequestCount} requests in {result.Seconds:F3} s{(result.WasStopped ? ", stopped before its time" : "")}");
        Line(output, $"");
        Line(output, $"         {"IOPS",9} {"bandwidth",12} {"mean",9} {"p50",9} {"p90",9} {"p99",9} {"p99.9",9} {"p99.99",9} {"max",9}");
        WriteDirection(output, "read", result, total.Read);
        WriteDirection(output, "write", result, total.Write);
        Line(output, $"");
        Line(output, $"per request: {result.PerRequest(total.Kicks):F3} kicks, {result.PerRequest(total.Calls):F3} calls, {result.PerRequest(total.Sleeps):F3} sleeps; {(total.Bursts == 0 ? 0 : (double)total.RequestCount / total.Bursts):F1} requests at a time");
        Line(output, $"generator cost: {total.GeneratorNsPerRequest:F0} ns per request, waiting not counted; its threads used {Units.Time(result.PerRequest(total.ThreadCpuNs))} of CPU per request, waiting counted");
        if (result.Server is { } server && !isLoopback)
        {
            Line(output, $"server: {Units.Time(result.PerRequest(server.CpuNs))} of CPU per request, {server.CpuNs / 1e7 / Math.Max(result.Seconds, 1e-9):F0} % of a core; {server.Memory.OwnBytes >> 20} MiB resident and {server.Memory.SharedMemoryBytes >> 20} MiB of shared memory ({server.Name}, process {server.ProcessId})");
        }

        WriteNotes(output, result);
    }

    /// <summary>The load in a few words.</summary>
    internal static string Describe(LoadOptions load)
    {
        string kind = load.ReadPercent switch
        {
            100 => "reads",
            0 => "writes",
            _ => $"{load.ReadPercent} % reads and writes",
        };
        string sizes = string.Join('/', load.BlockSizes.Sizes.Select(size => load.BlockSizes.IsSingle ? $"{size.Bytes}" : $"{size.Bytes}:{size.Weight}"));
        string loop = load.RatePerSecond > 0
            ? string.Create(CultureInfo.InvariantCulture, $"open loop at {load.RatePerSecond} a second, at most {load.QueueDepth} in flight")
            : $"{load.QueueDepth} in flight";
        string queues = load.QueueCount == 1 ? "1 queue" : $"{load.QueueCount} queues";
        return $"{(load.Sequential ? "sequential" : "random")} {kind} of {sizes} bytes, {loop}, {queues}, {(load.Wait == Frontend.Blk.CompletionWait.Poll ? "polling" : "sleeping")}";
    }

    private static void WriteDirection(TextWriter output, string name, LoadResult result, DirectionTally tally)
    {
        LatencyHistogram latency = tally.Latency;
        if (latency.Count > 0)
        {
            string percentiles = string.Join(' ', s_percentiles.Select(percentile => Units.Time(latency.ValueAt(percentile)).PadLeft(9)));
            Line(output, $"{name,-8} {Units.Count(result.PerSecond(latency.Count)),9} {Units.Bytes(result.PerSecond(tally.Bytes)) + "/s",12} {Units.Time(latency.MeanNs),9} {percentiles} {Units.Time(latency.MaxNs),9}");
        }
    }

    private static void WriteNotes(TextWriter output, LoadResult result)
    {
        QueueTally total = result.Total;
        if (result.Options.RatePerSecond > 0)
        {
            Line(output, $"open loop: {result.Iops / result.Options.RatePerSecond * 100:F2} % of the rate; latencies count from when a request was due, {Units.Time(result.PerRequest(total.OwnLatenessNs))} of their mean is the generator's own lateness");
        }

        if (total.NeverBegun > 0)
        {
            Line(output, $"note: {total.NeverBegun} requests were due and never begun, because as many as allowed were in flight: the back-end does not keep up with the rate");
        }

        if (total.OddLengths > 0)
        {
            Line(output, $"note: {total.OddLengths} requests came back with a used length that is not what was written (VIRTIO 1.4, \"The Virtqueue Used Ring\")");
        }

        if (result.Options.Verify)
        {
            Line(output, $"verified: {total.CheckedSectors} sectors read and right{(total.UncheckedSectors > 0 ? $"; {total.UncheckedSectors} read before this run had written them, and not checked" : "")}");
        }
    }

    private static void Line(TextWriter output, FormattableString text) => output.WriteLine(text.ToString(CultureInfo.InvariantCulture).TrimEnd());
}
