namespace VirtioBlkFlow.Disks.Wrapping;

/// <summary>What goes wrong, and with which requests. A request that is delayed and fails does so in this order.</summary>
public sealed record FaultRule
{
    /// <summary>Which operations; null for all.</summary>
    public IReadOnlyCollection<DiskOperation>? Operations { get; init; }

    /// <summary>First byte of the part of the disk it is about.</summary>
    public ulong OffsetBytes { get; init; }

    /// <summary>Length of that part; null for all to the end. A flush belongs to every part.</summary>
    public ulong? LengthBytes { get; init; }

    /// <summary>How many of these requests it hits: 1 for all of them, 0.01 for one of a hundred.</summary>
    public double Rate { get; init; } = 1;

    /// <summary>How many it hits in all; null for no end.</summary>
    public long? Times { get; init; }

    /// <summary>How they end, without having reached the disk; null for what the disk says.</summary>
    public DiskOutcome? Outcome { get; init; }

    /// <summary>How much later they begin; null for at once.</summary>
    public DelayDistribution? Delay { get; init; }

    /// <summary>They do not end at all before <see cref="FaultDisk.EndHangs"/> or the end of the queue.</summary>
    public bool Hangs { get; init; }

    /// <summary>Refuses rules that mean nothing.</summary>
    /// <exception cref="DiskOpenException">Such a one; the message says which.</exception>
    internal void Require()
    {
        if (!(Rate is > 0 and <= 1))
        {
            throw new DiskOpenException($"A fault that hits {Rate} of all requests cannot be. Give a rate above 0 and up to 1.");
        }

        if (Outcome == null && Delay == null && !Hangs)
        {
            throw new DiskOpenException("A fault without an error, a delay or a hang is none. Give it one of them.");
        }

        if (Hangs && Outcome != null)
        {
            throw new DiskOpenException("A request that hangs does not end with an error too. Leave out one of them.");
        }

        if (Outcome == DiskOutcome.Done)
        {
            throw new DiskOpenException("A fault may not report success for what was not done. Give it an error.");
        }

        if (Times <= 0 || LengthBytes == 0)
        {
            throw new DiskOpenException("A fault that hits nothing is none. Give it a length and a number of times of at least 1.");
        }
    }

    /// <summary>Whether it is about a request.</summary>
    internal unsafe bool IsAbout(in DiskRequest request)
    {
        if (Operations != null && !Operations.Contains(request.Operation))
        {
            return false;
        }

        switch (request.Operation)
        {
            case DiskOperation.Flush:
            case DiskOperation.ZoneResetAll:
                return true;
            case DiskOperation.Discard:
            case DiskOperation.WriteZeroes:
            case DiskOperation.SecureErase:
                foreach (ref readonly DiskRange range in new ReadOnlySpan<DiskRange>(request.Ranges, request.RangeCount))
                {
                    if (Touches(range.OffsetBytes, range.LengthBytes))
                    {
                        return true;
                    }
                }

                return false;
            default:
                return Touches(request.OffsetBytes, Math.Max(1, request.LengthBytes));
        }
    }

    private bool Touches(ulong offsetBytes, ulong lengthBytes) =>
        lengthBytes != 0
        && offsetBytes + lengthBytes > OffsetBytes
        && (LengthBytes is not { } own || offsetBytes < OffsetBytes || offsetBytes - OffsetBytes < own);
}
