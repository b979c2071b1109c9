using VirtioBlkFlow.Disks.Engine;

namespace VirtioBlkFlow.Disks.Wrapping;

/// <summary>Limits that one disk keeps to, or several disks together. Used by all their queues at once, without locks.</summary>
public sealed class ThrottleGroup
{
    private readonly OpenQueues _queues = new();

    // Replaced as a whole when the limits change, read by every queue.
    private volatile Buckets _buckets;

    /// <summary>Makes a group.</summary>
    /// <exception cref="DiskOpenException">A limit would let nothing through.</exception>
    public ThrottleGroup(ThrottleLimits limits)
    {
        limits.Require();
        _buckets = new Buckets(limits);
    }

    /// <summary>
    /// What is allowed. From any thread. Other limits hold at once, also for requests that wait already; what was used up before is forgiven.
    /// </summary>
    /// <exception cref="DiskOpenException">A limit would let nothing through; the old ones stay.</exception>
    public ThrottleLimits Limits
    {
        get => _buckets.Limits;
        set
        {
            value.Require();
            _buckets = new Buckets(value);
            _queues.PostAll();
        }
    }

    /// <summary>Has a queue called when the limits change.</summary>
    internal void Add(EngineAgenda agenda, Action call) => _queues.Add(agenda, call);

    internal void Remove(Action call) => _queues.Remove(call);

    /// <summary>The books of the limits that hold now; others after each change.</summary>
    internal object Books => _buckets;

    /// <summary>Takes a request into account.</summary>
    /// <param name="request">The request.</param>
    /// <param name="nowNs">The time.</param>
    /// <param name="books">In which books it is written.</param>
    /// <returns>When it may start, on the clock of the agendas: now, or later.</returns>
    internal long Take(in DiskRequest request, long nowNs, out object books)
    {
        Buckets buckets = _buckets;
        books = buckets;
        bool isRead = request.Operation == DiskOperation.Read;
        bool movesData = isRead || request.Operation is DiskOperation.Write or DiskOperation.Append;
        bool isChange = request.Operation is DiskOperation.Discard or DiskOperation.WriteZeroes or DiskOperation.SecureErase;
        if (!movesData && !isChange)
        {
            return nowNs;
        }

        long start = nowNs;
        start = Later(start, buckets.Requests, 1, nowNs);
        start = Later(start, isRead ? buckets.Reads : buckets.Writes, 1, nowNs);
        if (movesData)
        {
            start = Later(start, buckets.Bytes, request.LengthBytes, nowNs);
            start = Later(start, isRead ? buckets.ReadBytes : buckets.WriteBytes, request.LengthBytes, nowNs);
        }

        return start;
    }

    private static long Later(long start, TokenBucket? bucket, ulong tokens, long nowNs) =>
        bucket == null ? start : Math.Max(start, bucket.Take(tokens, nowNs));

    private sealed class Buckets(ThrottleLimits limits)
    {
        public ThrottleLimits Limits { get; } = limits;

        public TokenBucket? Requests { get; } = Make(limits.Iops, limits.BurstRequests);

        public TokenBucket? Reads { get; } = Make(limits.ReadIops, limits.BurstRequests);

        public TokenBucket? Writes { get; } = Make(limits.WriteIops, limits.BurstRequests);

        public TokenBucket? Bytes { get; } = Make(limits.BytesPerSecond, limits.BurstBytes);

        public TokenBucket? ReadBytes { get; } = Make(limits.ReadBytesPerSecond, limits.BurstBytes);

        public TokenBucket? WriteBytes { get; } = Make(limits.WriteBytesPerSecond, limits.BurstBytes);

        private static TokenBucket? Make(ulong? perSecond, ulong? burst) =>
            perSecond is { } rate ? new TokenBucket(rate, burst ?? Math.Max(1, rate / 10)) : null;
    }
}
