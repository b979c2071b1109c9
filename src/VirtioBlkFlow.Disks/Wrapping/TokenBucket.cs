namespace VirtioBlkFlow.Disks.Wrapping;

/// <summary>
/// A token bucket that says when a request may start. It is kept as a single time, at which the bucket will be full again; so many threads
/// take from it by compare-and-swap, in the order they come.
/// </summary>
/// <param name="perSecond">Tokens that flow into it in a second.</param>
/// <param name="burst">Tokens it holds.</param>
internal sealed class TokenBucket(ulong perSecond, ulong burst)
{
    private const double NanosecondsPerSecond = 1e9;

    private readonly double _burstNs = burst * (NanosecondsPerSecond / perSecond);

    // Shared.
    private long _fullAtNs = long.MinValue / 2;

    /// <summary>Takes tokens, on credit if need be. One who wants more than the bucket holds waits until it is full.</summary>
    /// <returns>When they will be there: the caller's now, or later.</returns>
    public long Take(ulong tokens, long nowNs)
    {
        double costNs = tokens * (NanosecondsPerSecond / perSecond);
        long aheadNs = (long)Math.Max(0, _burstNs - costNs);
        long seen = Volatile.Read(ref _fullAtNs);
        while (true)
        {
            long before = Math.Max(seen, nowNs);
            // Centuries ahead is for ever; the sum must not wrap.
            long after = (long)Math.Min(before + costNs, long.MaxValue / 2);
            long found = Interlocked.CompareExchange(ref _fullAtNs, after, seen);
            if (found == seen)
            {
                return Math.Max(nowNs, before - aheadNs);
            }

            seen = found;
        }
    }
}
