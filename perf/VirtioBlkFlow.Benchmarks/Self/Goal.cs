using System.Globalization;

namespace VirtioBlkFlow.Benchmarks.Self;

/// <summary>Whether a goal is reached, as far as the figures say.</summary>
internal enum GoalVerdict
{
    /// <summary>The figure may lie on either side of the bound, or there are too few restarts to say.</summary>
    NotShown,

    /// <summary>All of the interval is on the right side.</summary>
    Met,

    /// <summary>All of the interval is on the wrong side.</summary>
    Missed,
}

/// <summary>A bound that a figure has to keep. One of the two is given.</summary>
/// <param name="Least">The least it may be; null if it only has an upper bound.</param>
/// <param name="Most">The most it may be.</param>
internal sealed record Bound(double? Least, double? Most)
{
    /// <summary>Fewer restarts prove nothing.</summary>
    public const int LeastRestarts = 3;

    /// <summary>A lower bound.</summary>
    public static Bound AtLeast(double least) => new(least, null);

    /// <summary>An upper bound.</summary>
    public static Bound AtMost(double most) => new(null, most);

    /// <summary>Compares an interval with the bound.</summary>
    public GoalVerdict Judge(double low, double high, int restarts) => restarts < LeastRestarts
        ? GoalVerdict.NotShown
        : low >= (Least ?? double.NegativeInfinity) && high <= (Most ?? double.PositiveInfinity) ? GoalVerdict.Met
        : high < (Least ?? double.NegativeInfinity) || low > (Most ?? double.PositiveInfinity) ? GoalVerdict.Missed
        : GoalVerdict.NotShown;

    /// <inheritdoc/>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{(Least is null ? "at most" : "at least")} {Least ?? Most:0.######}");
}

/// <summary>Figures that are compared as ratios.</summary>
internal enum Figure
{
    /// <summary>Requests per second.</summary>
    Iops,

    /// <summary>Median latency.</summary>
    P50,

    /// <summary>99th percentile.</summary>
    P99,

    /// <summary>CPU time of the server per request.</summary>
    CpuPerRequest,
}

/// <summary>What a ratio to the base of a cell has to be.</summary>
/// <param name="Figure">Of which figure.</param>
/// <param name="Bound">Of the ratio.</param>
internal sealed record RatioGoal(Figure Figure, Bound Bound);
