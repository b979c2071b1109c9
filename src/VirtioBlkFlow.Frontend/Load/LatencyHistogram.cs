using System.Numerics;

namespace VirtioBlkFlow.Frontend.Load;

/// <summary>
/// How often which latency was seen, in nanoseconds. Log-linear: 128 buckets for each doubling, so that a value is known to better than 1 %;
/// below 256 ns exactly. Recording costs about two nanoseconds and allocates nothing. Written by one thread; others may look at
/// <see cref="Count"/>, and at the rest for a rough idea.
/// </summary>
public sealed class LatencyHistogram
{
    // 2^7 buckets for each doubling: at most 1/128 between neighbours.
    private const int SubBucketBits = 7;
    private const int SubBuckets = 1 << SubBucketBits;

    /// <summary>Largest value that is told apart, 2^43 - 1 ns or 146 minutes; what is larger counts as that. No run has stalls that long.</summary>
    public const long MaxTrackedNs = (1L << 43) - 1;

    private const int LargestShift = 43 - SubBucketBits - 1;
    private const int BucketCount = (LargestShift << SubBucketBits) + (2 * SubBuckets);

    private readonly long[] _counts = new long[BucketCount];
    private long _count;
    private long _sumNs;
    private long _minNs = long.MaxValue;
    private long _maxNs;

    /// <summary>Values recorded.</summary>
    public long Count => Volatile.Read(ref _count);

    /// <summary>The smallest, exactly; 0 if there is none.</summary>
    public long MinNs => _count == 0 ? 0 : _minNs;

    /// <summary>The largest, exactly.</summary>
    public long MaxNs => _maxNs;

    /// <summary>The mean, exactly; 0 if there is none.</summary>
    public double MeanNs => _count == 0 ? 0 : (double)_sumNs / _count;

    /// <summary>The standard deviation of the whole, from the middles of the buckets.</summary>
    public double StandardDeviationNs
    {
        get
        {
            double mean = MeanNs;
            double sum = 0;
            for (int i = 0; i < BucketCount; i++)
            {
                double distance = ((LowestOf(i) + HighestOf(i)) / 2.0) - mean;
                sum += _counts[i] * distance * distance;
            }

            return _count == 0 ? 0 : Math.Sqrt(sum / _count);
        }
    }

    /// <summary>Buckets with something in them, from the lowest: the highest value each stands for, and how often.</summary>
    public IEnumerable<(long HighestNs, long Count)> Buckets
    {
        get
        {
            for (int i = 0; i < BucketCount; i++)
            {
                if (_counts[i] > 0)
                {
                    yield return (Math.Min(HighestOf(i), _maxNs), _counts[i]);
                }
            }
        }
    }

    /// <summary>Records a value. Negative ones, which a clock of more than one processor might give, count as 0.</summary>
    public void Record(long valueNs)
    {
        long value = Math.Clamp(valueNs, 0, MaxTrackedNs);
        _counts[IndexOf(value)]++;
        _sumNs += value;
        if (value < _minNs)
        {
            _minNs = value;
        }

        if (value > _maxNs)
        {
            _maxNs = value;
        }

        Volatile.Write(ref _count, _count + 1);
    }

    /// <summary>Adds all that another one has recorded.</summary>
    public void Add(LatencyHistogram other)
    {
        ArgumentNullException.ThrowIfNull(other);
        for (int i = 0; i < BucketCount; i++)
        {
            _counts[i] += other._counts[i];
        }

        _count += other._count;
        _sumNs += other._sumNs;
        _minNs = Math.Min(_minNs, other._minNs);
        _maxNs = Math.Max(_maxNs, other._maxNs);
    }

    /// <summary>The value that so many percent of all do not exceed, rounded up to its bucket's highest. 0 if there is none.</summary>
    /// <param name="percentile">0 to 100.</param>
    public long ValueAt(double percentile)
    {
        long rank = Math.Clamp((long)Math.Ceiling(percentile / 100 * _count), 1, Math.Max(1, _count));
        long seen = 0;
        for (int i = 0; i < BucketCount; i++)
        {
            seen += _counts[i];
            if (seen >= rank)
            {
                return Math.Min(HighestOf(i), _maxNs);
            }
        }

        return 0;
    }

    // Shift 0 holds 0 to 255, each value in a bucket of its own; each further one 128 buckets of double width.
    // Example: 1000 has its highest bit at 9, shift 2, 1000 >> 2 = 250, index 2 * 128 + 250 = 506; 1003 has the same.
    private static int IndexOf(long value)
    {
        int shift = Math.Max(0, BitOperations.Log2((ulong)value) - SubBucketBits);
        return (shift << SubBucketBits) + (int)(value >> shift);
    }

    private static int ShiftOf(int index) => Math.Max(0, (index >> SubBucketBits) - 1);

    private static long LowestOf(int index) => (long)(index - (ShiftOf(index) << SubBucketBits)) << ShiftOf(index);

    private static long HighestOf(int index) => LowestOf(index) + (1L << ShiftOf(index)) - 1;
}
