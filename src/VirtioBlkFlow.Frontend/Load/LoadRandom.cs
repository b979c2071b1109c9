namespace VirtioBlkFlow.Frontend.Load;

/// <summary>
/// SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014): a nanosecond a number, where a seeded
/// <see cref="Random"/> takes ten and is not promised to stay the same.
/// </summary>
public struct LoadRandom(ulong seed)
{
    private const ulong Step = 0x9e37_79b9_7f4a_7c15;

    private ulong _state = seed;

    /// <summary>64 random bits.</summary>
    public ulong Next()
    {
        _state += Step;
        return Mix(_state);
    }

    /// <summary>A number below a bound, each as likely but for one part in 2^64 / bound.</summary>
    public ulong Below(ulong bound) => Math.BigMul(Next(), bound, out _);

    /// <summary>A number from 0 to 1, without 1.</summary>
    public double NextDouble() => (Next() >> 11) * (1.0 / (1UL << 53));

    /// <summary>A hash of a number: near numbers have nothing in common afterwards.</summary>
    public static ulong Mix(ulong value)
    {
        value = (value ^ (value >> 30)) * 0xbf58_476d_1ce4_e5b9;
        value = (value ^ (value >> 27)) * 0x94d0_49bb_1331_11eb;
        return value ^ (value >> 31);
    }
}
