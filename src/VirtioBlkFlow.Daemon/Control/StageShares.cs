namespace VirtioBlkFlow.Daemon.Control;

/// <summary>How long requests were in a stage between two reports of it.</summary>
/// <param name="Stage">Name of the stage.</param>
/// <param name="Count">Requests.</param>
/// <param name="MeanNs">Mean; 0 of nothing.</param>
/// <param name="P50Ns">Median; 0 of nothing.</param>
/// <param name="P99Ns">99th percentile; 0 of nothing.</param>
internal sealed record StageShare(string Stage, ulong Count, double MeanNs, ulong P50Ns, ulong P99Ns);

/// <summary>Puts reports of queues together, and takes earlier ones off.</summary>
internal static class StageShares
{
    /// <summary>One for each stage, over all these queues together.</summary>
    /// <param name="now">Queues of one report; none if nothing is measured.</param>
    /// <param name="earlier">Those of a report before it; none to count from the start of the daemon.</param>
    public static IReadOnlyList<StageShare> Of(IEnumerable<QueueLatencyReport> now, IEnumerable<QueueLatencyReport> earlier)
    {
        Dictionary<string, StageReport[]> then = ByStage(earlier);
        return [.. ByStage(now).Select(stage => Share(stage.Key, stage.Value, then.GetValueOrDefault(stage.Key, [])))];
    }

    // In the order of the reports, which is that of a request's way.
    private static Dictionary<string, StageReport[]> ByStage(IEnumerable<QueueLatencyReport> queues) =>
        queues.SelectMany(queue => queue.Stages).GroupBy(stage => stage.Stage).ToDictionary(stage => stage.Key, stage => stage.ToArray());

    private static StageShare Share(string name, StageReport[] now, StageReport[] earlier)
    {
        var buckets = new SortedDictionary<ulong, (ulong Highest, long Count)>();
        Add(now, +1);
        Add(earlier, -1);
        ulong count = (ulong)buckets.Values.Sum(bucket => Math.Max(0, bucket.Count));
        ulong sum = Sum(now) - Math.Min(Sum(now), Sum(earlier));
        return new StageShare(name, count, count == 0 ? 0 : (double)sum / count, Quantile(0.5), Quantile(0.99));

        void Add(StageReport[] stages, int sign)
        {
            foreach (ulong[] bucket in stages.SelectMany(stage => stage.Buckets))
            {
                long before = buckets.TryGetValue(bucket[0], out (ulong Highest, long Count) known) ? known.Count : 0;
                buckets[bucket[0]] = (bucket[1], before + (sign * (long)bucket[2]));
            }
        }

        ulong Quantile(double quantile)
        {
            long rank = Math.Max(1, (long)Math.Ceiling(quantile * count));
            foreach ((ulong highest, long inBucket) in buckets.Values)
            {
                rank -= Math.Max(0, inBucket);
                if (rank <= 0)
                {
                    return highest;
                }
            }

            return 0;
        }
    }

    private static ulong Sum(StageReport[] stages)
    {
        ulong sum = 0;
        foreach (StageReport stage in stages)
        {
            sum += stage.SumNs;
        }

        return sum;
    }
}
