namespace VirtioBlkFlow.Device.Latency;

/// <summary>
/// A histogram for each stage of a queue. Written by the queue's thread alone, without locks or atomic operations; read by whoever takes a
/// copy.
/// </summary>
/// <remarks>
/// A copy is not a moment: single counters are whole, but two of them may be a few requests apart. Each only ever grows, so that the
/// difference of two copies is right but for those few.
/// </remarks>
internal sealed class StageHistograms
{
    /// <summary>How many stages there are.</summary>
    public const int StageCount = (int)LatencyStage.Call + 1;

    private readonly ulong[] _counts = new ulong[StageCount * LogLinearScale.BucketCount];
    private readonly ulong[] _sums = new ulong[StageCount];

    /// <summary>Counts requests that were equally long in a stage. On the queue's thread.</summary>
    public void Record(LatencyStage stage, long nanoseconds, uint requests)
    {
        _counts[((int)stage * LogLinearScale.BucketCount) + LogLinearScale.IndexOf(nanoseconds)] += requests;
        _sums[(int)stage] += (ulong)Math.Max(0, nanoseconds) * requests;
    }

    /// <summary>Copies one stage. From any thread.</summary>
    public LatencyHistogram Copy(LatencyStage stage)
    {
        ulong[] counts = new ulong[LogLinearScale.BucketCount];
        int first = (int)stage * LogLinearScale.BucketCount;
        for (int i = 0; i < counts.Length; i++)
        {
            counts[i] = Volatile.Read(ref _counts[first + i]);
        }

        return new LatencyHistogram(counts, Volatile.Read(ref _sums[(int)stage]));
    }
}
