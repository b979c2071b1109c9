namespace VirtioBlkFlow.Disks.Wrapping;

/// <summary>How delays are spread.</summary>
public enum DelaySpread
{
    /// <summary>All are alike.</summary>
    Fixed,

    /// <summary>Any between two bounds is as likely as any other.</summary>
    Uniform,

    /// <summary>Many short ones and a few long ones, around a mean: what waits in a queue sees such.</summary>
    Exponential,
}

/// <summary>Delays to draw from. Immutable.</summary>
public sealed record DelayDistribution
{
    private DelayDistribution(DelaySpread spread, TimeSpan first, TimeSpan second)
    {
        Spread = spread;
        First = first;
        Second = second;
    }

    /// <summary>How they are spread.</summary>
    public DelaySpread Spread { get; }

    /// <summary>The delay, the least one, or the mean.</summary>
    public TimeSpan First { get; }

    /// <summary>The largest one of a uniform spread.</summary>
    public TimeSpan Second { get; }

    /// <summary>Always the same delay.</summary>
    /// <exception cref="ArgumentOutOfRangeException">It is negative.</exception>
    public static DelayDistribution Fixed(TimeSpan delay)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(delay, TimeSpan.Zero);
        return new DelayDistribution(DelaySpread.Fixed, delay, delay);
    }

    /// <summary>Delays between two bounds.</summary>
    /// <exception cref="ArgumentOutOfRangeException">One is negative, or they are in the wrong order.</exception>
    public static DelayDistribution Uniform(TimeSpan least, TimeSpan most)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(least, TimeSpan.Zero);
        ArgumentOutOfRangeException.ThrowIfLessThan(most, least);
        return new DelayDistribution(DelaySpread.Uniform, least, most);
    }

    /// <summary>Exponential delays; none is longer than some 37 times the mean.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The mean is negative.</exception>
    public static DelayDistribution Exponential(TimeSpan mean)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(mean, TimeSpan.Zero);
        return new DelayDistribution(DelaySpread.Exponential, mean, mean);
    }

    /// <summary>One of them, in nanoseconds.</summary>
    internal long DrawNs(Random random)
    {
        double first = First.TotalNanoseconds;
        return (long)(Spread switch
        {
            DelaySpread.Uniform => first + (random.NextDouble() * (Second.TotalNanoseconds - first)),
            // NextDouble is less than 1 by at least 2 to the power of −53, so the logarithm is finite.
            DelaySpread.Exponential => -Math.Log(1 - random.NextDouble()) * first,
            _ => first,
        });
    }
}
