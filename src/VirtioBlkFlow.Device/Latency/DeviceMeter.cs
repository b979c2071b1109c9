using VirtioBlkFlow.Device.Pipeline;

namespace VirtioBlkFlow.Device.Latency;

/// <summary>
/// What a device measures of itself, queue by queue. It outlasts front-ends, so that counters only ever grow; a queue that was never
/// started has nothing and costs nothing.
/// </summary>
internal sealed class DeviceMeter(StageLatency mode, int queueCount)
{
    private readonly QueueMeter?[] _queues = new QueueMeter?[queueCount];

    /// <summary>The meter of a queue, made at its first start. On the queue's thread, or before there is one.</summary>
    public QueueMeter Of(int queue)
    {
        QueueMeter? meter = _queues[queue];
        if (meter == null)
        {
            meter = new QueueMeter(mode, queue);
            // Release: what is in it before the reference, against a reader that finds it.
            Volatile.Write(ref _queues[queue], meter);
        }

        return meter;
    }

    /// <summary>What all queues that were ever started have measured. From any thread.</summary>
    public IReadOnlyList<QueueMeasurement> Read()
    {
        List<QueueMeasurement> measurements = [];
        for (int i = 0; i < _queues.Length; i++)
        {
            if (Volatile.Read(ref _queues[i]) is { } meter)
            {
                measurements.Add(meter.Read());
            }
        }

        return measurements;
    }
}

/// <summary>What is measured of a queue: counters always, stages where they are asked for.</summary>
internal sealed class QueueMeter(StageLatency mode, int queue)
{
    private readonly StageHistograms? _histograms = mode == StageLatency.Off ? null : new StageHistograms();

    private ThreadCounters _thread = new();

    /// <summary>What the queue does.</summary>
    public QueueCounters Counters { get; } = new();

    /// <summary>What its thread does: one of its own, or a shared one that counts for all its queues. Set before each run.</summary>
    public ThreadCounters Thread
    {
        get => Volatile.Read(ref _thread);
        set => Volatile.Write(ref _thread, value);
    }

    /// <summary>What follows batches through the stages of a run of the queue; null if nothing does.</summary>
    public StageTimer? BeginRun(RequestTable table, BatchPool batches) =>
        _histograms == null ? null : new StageTimer(_histograms, table, batches, mode == StageLatency.All, seed: queue);

    /// <summary>Copies all. From any thread.</summary>
    public QueueMeasurement Read() => new(
        queue,
        Counters.Copy(),
        Thread.Copy(),
        _histograms == null ? null : [.. Enum.GetValues<LatencyStage>().Select(_histograms.Copy)]);
}

/// <summary>What a queue has measured since its device was made.</summary>
/// <param name="Queue">Number of the queue.</param>
/// <param name="Counts">What it has done.</param>
/// <param name="Thread">What its thread has done.</param>
/// <param name="Stages">How long requests were in each stage, in the order of <see cref="LatencyStage"/>; null if that is not measured.</param>
public sealed record QueueMeasurement(int Queue, QueueCounts Counts, ThreadCounts Thread, IReadOnlyList<LatencyHistogram>? Stages);
