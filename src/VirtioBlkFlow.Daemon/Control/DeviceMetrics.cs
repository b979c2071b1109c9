using System.Diagnostics.Metrics;
using VirtioBlkFlow.Device.Latency;
using VirtioBlkFlow.Disks.Health;

namespace VirtioBlkFlow.Daemon.Control;

/// <summary>
/// The metrics of all disks as instruments of the meter "VirtioBlkFlow", for whoever listens: the text of Prometheus, dotnet-counters,
/// OpenTelemetry. Nothing is added up before somebody asks.
/// </summary>
/// <remarks>
/// The meter's own histograms take one value after the other, which on the way of a request is out of the question. So the buckets that
/// the queues keep are counters with a <c>le</c> tag; <see cref="PrometheusText"/> knows them by <see cref="HistogramTag"/>.
/// </remarks>
internal sealed class DeviceMetrics : IDisposable
{
    /// <summary>The meter's name.</summary>
    public const string MeterName = "VirtioBlkFlow";

    /// <summary>A tag of the three instruments that are one histogram: its name.</summary>
    public const string HistogramTag = "histogram";

    /// <summary>The tag of a bucket's upper bound, in seconds.</summary>
    public const string BoundTag = "le";

    // Bounds of the buckets: powers of two, where the finer ones of the queues end as well. 256 ns to 8.6 s.
    private const int FirstBoundBits = 8;
    private const int LastBoundBits = 33;

    // Instruments that are asked in one go shall say the same. Arbitrary.
    private const long MaxAgeMs = 100;

    private readonly IReadOnlyList<ServedDisk> _disks;
    private readonly Lock _gate = new();
    private IReadOnlyList<(ServedDisk Disk, QueueMeasurement Queue)> _measured = [];
    private long _measuredMs = long.MinValue / 2;

    public DeviceMetrics(IReadOnlyList<ServedDisk> disks)
    {
        _disks = disks;
        Meter = new Meter(MeterName, DiskReports.Version);
        Meter.CreateObservableGauge("virtioblkflow.disk.size", () => EachDisk(disk => (long)disk.CapacityBytes), "By", "Size of a disk.");
        Meter.CreateObservableGauge(
            "virtioblkflow.frontend.connected", () => EachDisk(disk => disk.Device.HasFrontend ? 1 : 0), "{frontend}", "Whether a front-end is connected to a disk.");
        Health("virtioblkflow.disk.wear.percent", "Life of a disk that is used up, at least.", reading => reading.WearPercent);
        Health("virtioblkflow.disk.spare.percent", "Reserved blocks of a disk that are left, at most.", reading => reading.SparePercent);
        Health("virtioblkflow.disk.temperature.celsius", "Temperature of a disk.", reading => reading.TemperatureCelsius);
        Meter.CreateObservableGauge(
            "virtioblkflow.disk.writes.stopped",
            () => EachDisk(disk => disk.Health?.IsReadOnly == true ? 1 : 0, disk => disk.Health != null),
            "{disk}",
            "Whether writes fail because of the disk's health.");
        Meter.CreateObservableCounter("virtioblkflow.requests", Requests, "{request}", "Requests returned to the driver, by type.");
        Meter.CreateObservableCounter("virtioblkflow.request.errors", Errors, "{request}", "Requests returned with another status than OK, by status.");
        Meter.CreateObservableCounter("virtioblkflow.io", Bytes, "By", "Bytes moved in requests that succeeded, by direction.");
        Count("virtioblkflow.batches", "{batch}", "Looks at the ring that found something.", queue => queue.Counts.Batches);
        Count("virtioblkflow.bursts", "{burst}", "How often completions were published.", queue => queue.Counts.Bursts);
        Count("virtioblkflow.kicks", "{kick}", "Kicks seen.", queue => queue.Counts.Kicks);
        Count("virtioblkflow.calls", "{call}", "Calls made to the driver.", queue => queue.Counts.Calls);
        Count("virtioblkflow.system_calls", "{call}", "Calls of the I/O engine into the kernel.", queue => queue.Thread.SystemCalls);
        Count("virtioblkflow.spins", "{spin}", "How often a thread spun before sleeping.", queue => queue.Thread.Spins);
        Count("virtioblkflow.spins.fruitful", "{spin}", "How often a spin found something.", queue => queue.Thread.FruitfulSpins);
        Count("virtioblkflow.sleeps", "{sleep}", "How often a thread slept.", queue => queue.Thread.Sleeps);
        const string Stage = "virtioblkflow.stage.duration";
        const string Meaning = "How long requests were in a stage.";
        KeyValuePair<string, object?>[] tags = [new(HistogramTag, Stage)];
        Meter.CreateObservableCounter($"{Stage}.bucket", StageBuckets, "{request}", Meaning, tags);
        Meter.CreateObservableCounter($"{Stage}.sum", () => EachStage((stage, _) => stage.SumNanoseconds / 1e9), "s", Meaning, tags);
        Meter.CreateObservableCounter($"{Stage}.count", () => EachStage((stage, _) => (long)stage.Count), "{request}", Meaning, tags);
    }

    /// <summary>The meter itself; others in the process may have the same name.</summary>
    public Meter Meter { get; }

    /// <summary>Who asks from here on gets what is the case now.</summary>
    public void Refresh()
    {
        lock (_gate)
        {
            _measured = [.. _disks.SelectMany(disk => disk.Device.Measure().Select(queue => (disk, queue)))];
            _measuredMs = Environment.TickCount64;
        }
    }

    public void Dispose() => Meter.Dispose();

    private IReadOnlyList<(ServedDisk Disk, QueueMeasurement Queue)> Measured()
    {
        lock (_gate)
        {
            if (Environment.TickCount64 - _measuredMs > MaxAgeMs)
            {
                Refresh();
            }

            return _measured;
        }
    }

    private void Count(string name, string unit, string description, Func<QueueMeasurement, ulong> value) => Meter.CreateObservableCounter(
        name, () => Measured().Select(entry => new Measurement<long>((long)value(entry.Queue), TagsOf(entry))), unit, description);

    // Only of disks of which it is told.
    private void Health(string name, string description, Func<HealthReading, int?> value)
    {
        int? ValueOf(ServedDisk disk) => disk.HealthMonitor is { } monitor ? value(monitor.Latest) : null;
        Meter.CreateObservableGauge(name, () => EachDisk(disk => ValueOf(disk) ?? 0, disk => ValueOf(disk) != null), description: description);
    }

    private IEnumerable<Measurement<long>> EachDisk(Func<ServedDisk, long> value, Func<ServedDisk, bool>? has = null) =>
        _disks.Where(has ?? (_ => true)).Select(disk => new Measurement<long>(value(disk), Tag("disk", disk.Spec.Id)));

    private IEnumerable<Measurement<long>> Requests() => Measured().SelectMany(entry => ControlNames.RequestsOf(entry.Queue.Counts)
        .Select(requests => new Measurement<long>((long)requests.Value, TagsOf(entry, Tag("type", requests.Key)))));

    private IEnumerable<Measurement<long>> Errors() => Measured().SelectMany(entry => ControlNames.Errors
        .Select(error => new Measurement<long>((long)entry.Queue.Counts.ErrorsOf(error.Status), TagsOf(entry, Tag("status", error.Name)))));

    private IEnumerable<Measurement<long>> Bytes() => Measured().SelectMany(entry => new Measurement<long>[]
    {
        new((long)entry.Queue.Counts.BytesRead, TagsOf(entry, Tag("direction", "read"))),
        new((long)entry.Queue.Counts.BytesWritten, TagsOf(entry, Tag("direction", "write"))),
    });

    private IEnumerable<Measurement<T>> EachStage<T>(Func<LatencyHistogram, int, T> value)
        where T : struct => Measured().SelectMany(entry => (entry.Queue.Stages ?? [])
            .Select((stage, number) => new Measurement<T>(value(stage, number), TagsOf(entry, StageTag(number)))));

    private IEnumerable<Measurement<long>> StageBuckets()
    {
        foreach ((ServedDisk Disk, QueueMeasurement Queue) entry in Measured())
        {
            for (int stage = 0; stage < entry.Queue.Stages?.Count; stage++)
            {
                LatencyHistogram histogram = entry.Queue.Stages[stage];
                for (int bits = FirstBoundBits; bits <= LastBoundBits; bits++)
                {
                    yield return new Measurement<long>(
                        (long)histogram.CountUpTo((1L << bits) - 1), TagsOf(entry, StageTag(stage), Tag(BoundTag, (1L << bits) / 1e9)));
                }

                yield return new Measurement<long>((long)histogram.Count, TagsOf(entry, StageTag(stage), Tag(BoundTag, double.PositiveInfinity)));
            }
        }
    }

    private static KeyValuePair<string, object?> Tag(string key, object value) => new(key, value);

    private static KeyValuePair<string, object?> StageTag(int stage) => Tag("stage", ControlNames.Of((LatencyStage)stage));

    private static KeyValuePair<string, object?>[] TagsOf(
        (ServedDisk Disk, QueueMeasurement Queue) entry, params ReadOnlySpan<KeyValuePair<string, object?>> more) =>
        [Tag("disk", entry.Disk.Spec.Id), Tag("queue", entry.Queue.Queue), .. more];
}
