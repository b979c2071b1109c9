namespace VirtioBlkFlow.Disks.Wrapping;

/// <summary>
/// How much a disk or a group of disks does in a second; null is without limit. A discard, zeroing or erasure counts as one write without
/// bytes, for no data moves; flushes and reports do not count.
/// </summary>
public sealed record ThrottleLimits
{
    /// <summary>Requests of all kinds in a second.</summary>
    public ulong? Iops { get; init; }

    /// <summary>Reads in a second.</summary>
    public ulong? ReadIops { get; init; }

    /// <summary>Writes in a second.</summary>
    public ulong? WriteIops { get; init; }

    /// <summary>Bytes read and written in a second.</summary>
    public ulong? BytesPerSecond { get; init; }

    /// <summary>Bytes read in a second.</summary>
    public ulong? ReadBytesPerSecond { get; init; }

    /// <summary>Bytes written in a second.</summary>
    public ulong? WriteBytesPerSecond { get; init; }

    /// <summary>Requests at once after a rest, for each limit of requests; null for a tenth of what is allowed in a second.</summary>
    public ulong? BurstRequests { get; init; }

    /// <summary>Bytes at once after a rest, for each limit of bytes; null for a tenth of what is allowed in a second.</summary>
    public ulong? BurstBytes { get; init; }

    /// <summary>Refuses what would let nothing through.</summary>
    /// <exception cref="DiskOpenException">A limit is 0.</exception>
    internal void Require()
    {
        ReadOnlySpan<ulong?> all =
            [Iops, ReadIops, WriteIops, BytesPerSecond, ReadBytesPerSecond, WriteBytesPerSecond, BurstRequests, BurstBytes];
        if (all.Contains(0UL))
        {
            throw new DiskOpenException("A throttle limit of 0 would let nothing through. Give it at least 1, or leave it out.");
        }
    }
}
