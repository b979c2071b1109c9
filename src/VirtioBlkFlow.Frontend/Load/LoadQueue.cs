using System.Diagnostics;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.Frontend.Load;

/// <summary>When a run begins to count, and when it ends.</summary>
/// <param name="CountFromNs">End of the warm-up, in nanoseconds of <see cref="Stopwatch.GetTimestamp"/>. A queue whose thread comes late begins late.</param>
/// <param name="DurationNs">How long counted requests are begun, from when this queue began to count; null for no such end.</param>
/// <param name="RequestCount">Counted requests of this queue; <see cref="long.MaxValue"/> for no such end.</param>
internal readonly record struct LoadSchedule(long CountFromNs, long? DurationNs, long RequestCount);

/// <summary>One queue under load, whatever its ring: what the run sees of it.</summary>
internal abstract class LoadQueue
{
    private volatile bool _stop;

    /// <summary>What has been counted. Others may look while it grows.</summary>
    public QueueTally Tally { get; } = new();

    /// <summary>Whether it was told to end early.</summary>
    public bool IsStopped => _stop;

    /// <summary>
    /// Runs to the end, on the thread that owns the queue from now on: warm-up, counted part, and until all that is in flight has come back.
    /// </summary>
    /// <exception cref="LoadException">A request failed, or the back-end did.</exception>
    public abstract void Run(LoadSchedule schedule);

    /// <summary>With verification: reads all that was written once more. After <see cref="Run"/>, on the same thread.</summary>
    public abstract void ReadBack();

    /// <summary>Tells it to begin nothing any more. From any thread.</summary>
    public void Stop() => _stop = true;

    /// <summary>What the request was, for a complaint.</summary>
    protected static string Describe(bool isWrite, uint bytes, ulong sector) => $"A {(isWrite ? "write" : "read")} of {bytes} bytes at sector {sector}";

    /// <summary>The name of a status byte, for a complaint.</summary>
    protected static string NameOf(byte status) =>
        status == LoadSlots.NotWritten ? "no status byte written" : Enum.IsDefined((BlkStatus)status) ? ((BlkStatus)status).ToString() : $"status {status}";
}
