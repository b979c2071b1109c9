namespace VirtioBlkFlow.Device.Latency;

/// <summary>How long requests were in a stage, as it was when somebody looked. Immutable.</summary>
public sealed class LatencyHistogram
{
    private readonly ulong[] _counts;

    internal LatencyHistogram(ulong[] counts, ulong sumNanoseconds)
    {
        _counts = counts;
        SumNanoseconds = sumNanoseconds;
        foreach (ulong count in counts)
        {
            Count += count;
        }
    }

    /// <summary>A histogram of nothing.</summary>
    public static LatencyHistogram Empty { get; } = new(new ulong[LogLinearScale.BucketCount], 0);

    /// <summary>Requests.</summary>
    public ulong Count { get; }

    /// <summary>The sum of all their times.</summary>
    public ulong SumNanoseconds { get; }

    /// <summary>The mean in nanoseconds; 0 of nothing.</summary>
    public double MeanNanoseconds => Count == 0 ? 0 : (double)SumNanoseconds / Count;

    /// <summary>The largest value in nanoseconds, to the precision of its bucket; 0 of nothing.</summary>
    public long MaxNanoseconds => QuantileNanoseconds(1);

    /// <summary>
    /// The value that so large a part of the requests does not exceed, in nanoseconds: the largest of its bucket, so that nobody is promised
    /// too much. 0 of nothing.
    /// </summary>
    /// <param name="quantile">0 to 1.</param>
    public long QuantileNanoseconds(double quantile)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(quantile, 0);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(quantile, 1);
        ulong rank = Math.Max(1, (ulong)Math.Ceiling(quantile * Count));
        ulong seen = 0;
        for (int i = 0; i < _counts.Length; i++)
        {
            seen += _counts[i];
            if (seen >= rank)
            {
                return LogLinearScale.HighestOf(i);
            }
        }

        return 0;
    }

    /// <summary>Requests that were in the stage for no longer than a time, to the precision of its bucket.</summary>
    public ulong CountUpTo(long nanoseconds)
    {
        ulong count = 0;
        for (int i = 0; i <= LogLinearScale.IndexOf(nanoseconds); i++)
        {
            count += _counts[i];
        }

        return count;
    }

    /// <summary>The buckets that are not empty, from the shortest time on.</summary>
    public IEnumerable<LatencyBucket> Buckets()
    {
        for (int i = 0; i < _counts.Length; i++)
        {
            if (_counts[i] != 0)
            {
                yield return new LatencyBucket(LogLinearScale.LowestOf(i), LogLinearScale.HighestOf(i), _counts[i]);
            }
        }
    }

    /// <summary>What both have seen together.</summary>
    public LatencyHistogram Plus(LatencyHistogram other) =>
        new([.. _counts.Zip(other._counts, static (a, b) => a + b)], SumNanoseconds + other.SumNanoseconds);

    /// <summary>What came after an earlier look at the same histogram.</summary>
    public LatencyHistogram Since(LatencyHistogram earlier) =>
        new([.. _counts.Zip(earlier._counts, static (now, then) => now - Math.Min(now, then))], SumNanoseconds - Math.Min(SumNanoseconds, earlier.SumNanoseconds));
}

/// <summary>Requests whose times were close to one another.</summary>
/// <param name="LowestNanoseconds">Shortest time that belongs here.</param>
/// <param name="HighestNanoseconds">Longest time that belongs here.</param>
/// <param name="Count">Requests.</param>
public readonly record struct LatencyBucket(long LowestNanoseconds, long HighestNanoseconds, ulong Count);
