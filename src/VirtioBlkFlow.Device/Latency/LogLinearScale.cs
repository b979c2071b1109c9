using System.Numerics;

namespace VirtioBlkFlow.Device.Latency;

/// <summary>
/// Divides nanoseconds into buckets: one each below <see cref="StepsPerOctave"/>, and so many in every power of two above. A value is known
/// to 1/32 of itself, 3 %, which is less than two runs differ.
/// </summary>
/// <remarks>
/// With 32 steps, 100 = 0b110_0100 has its highest bit at 6, so buckets there are 2^(6-5) = 2 wide: it shares one with 101. That is bucket
/// (6-5)·32 + 100/2 = 82; the first with this width holds 64 and 65 and is number 64.
/// </remarks>
public static class LogLinearScale
{
    /// <summary>Buckets in a power of two. Arbitrary: finer than the noise, coarse enough that a queue's histograms stay below 50 KiB.</summary>
    public const int StepsPerOctave = 1 << StepBits;

    /// <summary>Values from here on share the last bucket, in nanoseconds: 2^36, 69 s, which no driver waits for.</summary>
    public const long LimitNanoseconds = 1L << LimitBits;

    /// <summary>How many buckets there are.</summary>
    public const int BucketCount = (LimitBits - StepBits + 1) * StepsPerOctave;

    private const int StepBits = 5;
    private const int LimitBits = 36;

    /// <summary>The bucket of a value; a negative one, as a clock that was set back would give, counts as 0.</summary>
    public static int IndexOf(long nanoseconds)
    {
        ulong value = (ulong)Math.Clamp(nanoseconds, 0, LimitNanoseconds - 1);
        if (value < StepsPerOctave)
        {
            return (int)value;
        }

        int shift = BitOperations.Log2(value) - StepBits;
        return (shift * StepsPerOctave) + (int)(value >> shift);
    }

    /// <summary>The smallest value of a bucket, in nanoseconds.</summary>
    public static long LowestOf(int index)
    {
        int shift = Math.Max(0, (index / StepsPerOctave) - 1);
        return (long)(index - (shift * StepsPerOctave)) << shift;
    }

    /// <summary>The largest value of a bucket, in nanoseconds.</summary>
    public static long HighestOf(int index)
    {
        int shift = Math.Max(0, (index / StepsPerOctave) - 1);
        return LowestOf(index) + (1L << shift) - 1;
    }
}
