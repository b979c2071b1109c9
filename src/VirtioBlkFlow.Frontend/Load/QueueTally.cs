namespace VirtioBlkFlow.Frontend.Load;

/// <summary>Requests of one kind: how many, how much, how long. Written by one thread.</summary>
public sealed class DirectionTally
{
    /// <summary>Latencies of requests that were counted, from their start, intended or true, to the moment their completion was seen.</summary>
    public LatencyHistogram Latency { get; } = new();

    /// <summary>Bytes of data they moved.</summary>
    public long Bytes { get; internal set; }

    /// <summary>Adds another one's.</summary>
    public void Add(DirectionTally other)
    {
        ArgumentNullException.ThrowIfNull(other);
        Latency.Add(other.Latency);
        Bytes += other.Bytes;
    }
}

/// <summary>What one queue did, or all of them together. All but the latencies is of the counted part of a run.</summary>
public sealed class QueueTally
{
    /// <summary>Reads.</summary>
    public DirectionTally Read { get; } = new();

    /// <summary>Writes.</summary>
    public DirectionTally Write { get; } = new();

    /// <summary>Requests counted.</summary>
    public long RequestCount => Read.Latency.Count + Write.Latency.Count;

    /// <summary>Kicks sent.</summary>
    public long Kicks { get; internal set; }

    /// <summary>Calls received.</summary>
    public long Calls { get; internal set; }

    /// <summary>Times the thread slept for a call.</summary>
    public long Sleeps { get; internal set; }

    /// <summary>Bursts: times completions were found, one or more at once.</summary>
    public long Bursts { get; internal set; }

    /// <summary>Requests that came back with another used length than they should.</summary>
    public long OddLengths { get; internal set; }

    /// <summary>Open loop: requests that were due in the counted time and never begun, because the queue was full until its end.</summary>
    public long NeverBegun { get; internal set; }

    /// <summary>Open loop: how late requests began although the queue had room, in all: our own part of the latency.</summary>
    public long OwnLatenessNs { get; internal set; }

    /// <summary>From the first counted request to the last completion, in nanoseconds.</summary>
    public long ElapsedNs { get; internal set; }

    /// <summary>CPU time the thread took, spinning and sleeping included.</summary>
    public long ThreadCpuNs { get; internal set; }

    /// <summary>Bytes the thread allocated on the managed heap: none.</summary>
    public long AllocatedBytes { get; internal set; }

    /// <summary>
    /// What single turns took, in tenths of a nanosecond for each request that came back in them: taking completions, recording them,
    /// preparing and publishing as many new requests, and reading the clock; waiting and notifying are not in it.
    /// </summary>
    public LatencyHistogram TurnTenths { get; } = new();

    /// <summary>Sectors whose contents were compared.</summary>
    public long CheckedSectors { get; internal set; }

    /// <summary>Sectors read that this run had not written, so that nothing can be said about them.</summary>
    public long UncheckedSectors { get; internal set; }

    /// <summary>
    /// What a request costs the generator itself, by the median of the turns that were timed: a turn that another process interrupts says
    /// nothing. NaN if none was.
    /// </summary>
    public double GeneratorNsPerRequest => TurnTenths.Count == 0 ? double.NaN : TurnTenths.ValueAt(50) / 10.0;

    /// <summary>Adds another queue's; they ran beside one another.</summary>
    public void Add(QueueTally other)
    {
        ArgumentNullException.ThrowIfNull(other);
        Read.Add(other.Read);
        Write.Add(other.Write);
        Kicks += other.Kicks;
        Calls += other.Calls;
        Sleeps += other.Sleeps;
        Bursts += other.Bursts;
        OddLengths += other.OddLengths;
        NeverBegun += other.NeverBegun;
        OwnLatenessNs += other.OwnLatenessNs;
        ElapsedNs = Math.Max(ElapsedNs, other.ElapsedNs);
        ThreadCpuNs += other.ThreadCpuNs;
        AllocatedBytes += other.AllocatedBytes;
        TurnTenths.Add(other.TurnTenths);
        CheckedSectors += other.CheckedSectors;
        UncheckedSectors += other.UncheckedSectors;
    }
}
