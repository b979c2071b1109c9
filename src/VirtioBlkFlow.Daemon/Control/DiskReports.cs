using System.Diagnostics;
using VirtioBlkFlow.Device.Latency;
using VirtioBlkFlow.Disks.Health;
using VirtioBlkFlow.Disks.Refresh;

namespace VirtioBlkFlow.Daemon.Control;

/// <summary>Makes reports of what is served. From any thread.</summary>
/// <param name="disks">What is served; does not change any more.</param>
internal sealed class DiskReports(IReadOnlyList<ServedDisk> disks)
{
    private readonly DateTimeOffset _startedAt = DateTimeOffset.UtcNow;
    private readonly long _startedTicks = Stopwatch.GetTimestamp();

    /// <summary>The program's version.</summary>
    public static string Version { get; } = typeof(DiskReports).Assembly.GetName().Version!.ToString(3);

    public StatusReport Status() => new(
        "vblkflow",
        Version,
        Environment.ProcessId,
        _startedAt,
        Stopwatch.GetElapsedTime(_startedTicks).TotalSeconds,
        disks.Count,
        disks.Count(disk => disk.Device.HasFrontend),
        GC.GetTotalMemory(forceFullCollection: false),
        GC.GetTotalAllocatedBytes(precise: false));

    public DiskListReport Disks() => new([.. disks.Select(Report)]);

    /// <summary>One disk; null if there is no such disk.</summary>
    public DiskReport? Disk(string id) => disks.FirstOrDefault(disk => disk.Spec.Id == id) is { } disk ? Report(disk) : null;

    /// <summary>How far the refresh of a disk has got.</summary>
    public static RefreshReport Report(ServedDisk disk, RefreshDisk refresh)
    {
        RefreshStatus status = refresh.Status;
        return new RefreshReport(
            ControlNames.Of(status.State),
            status.Rewrites,
            status.PositionBytes,
            disk.CapacityBytes,
            status.ReadBytes,
            status.RewrittenBytes,
            status.UnreadableBytes,
            [.. status.Unreadable.Select(extent => new[] { extent.OffsetBytes, extent.LengthBytes })],
            status.Pauses,
            status.Error);
    }

    /// <summary>Where requests to a disk have spent their time; null if there is no such disk.</summary>
    public LatencyReport? Latency(string id) => disks.FirstOrDefault(disk => disk.Spec.Id == id) is { } disk
        ? new LatencyReport(
            id,
            ControlNames.Of(disk.Spec.Device.StageLatency),
            [.. disk.Device.Measure().Where(queue => queue.Stages != null).Select(queue => new QueueLatencyReport(queue.Queue, [.. queue.Stages!.Select(Report)]))])
        : null;

    private static DiskReport Report(ServedDisk disk) => new(
        disk.Spec.Id,
        disk.Spec.Kind.Name,
        disk.Spec.What,
        disk.Spec.SocketPath is { } path ? Path.GetFullPath(path) : null,
        disk.CapacityBytes,
        disk.IsReadOnly,
        disk.EngineName,
        ControlNames.Of(disk.Spec.Device.StageLatency),
        disk.Device.HasFrontend,
        [.. disk.Device.Measure().Select(queue => Report(disk, queue))],
        disk.Throttle is null ? null : disk.Spec.ThrottleGroup,
        disk.Throttle is { } group ? LimitsJson.Write(group.Limits) : null,
        disk.HeldCount,
        disk.HealthMonitor is { } monitor ? Report(disk, monitor) : null,
        disk.Refresh is { } refresh ? Report(disk, refresh) : null);

    private static HealthReport Report(ServedDisk disk, HealthMonitor monitor)
    {
        HealthReading reading = monitor.Latest;
        return new HealthReport(
            monitor.SourceName,
            reading.WearPercent,
            reading.SparePercent,
            reading.TemperatureCelsius,
            disk.Health?.IsWarned == true,
            disk.Health?.IsReadOnly == true,
            reading.Obstacle);
    }

    private static QueueReport Report(ServedDisk disk, QueueMeasurement queue) => new(
        queue.Queue,
        disk.Device.IsRunning(queue.Queue),
        ControlNames.RequestsOf(queue.Counts),
        queue.Counts.BytesRead,
        queue.Counts.BytesWritten,
        ControlNames.ErrorsOf(queue.Counts),
        queue.Counts.Batches,
        queue.Counts.Bursts,
        queue.Counts.Kicks,
        queue.Counts.Calls,
        queue.Thread.SystemCalls,
        queue.Thread.Spins,
        queue.Thread.FruitfulSpins,
        queue.Thread.Sleeps);

    private static StageReport Report(LatencyHistogram histogram, int stage) => new(
        ControlNames.Of((LatencyStage)stage),
        histogram.Count,
        histogram.SumNanoseconds,
        histogram.MeanNanoseconds,
        histogram.QuantileNanoseconds(0.5),
        histogram.QuantileNanoseconds(0.99),
        histogram.QuantileNanoseconds(0.999),
        histogram.MaxNanoseconds,
        [.. histogram.Buckets().Select(bucket => new[] { (ulong)bucket.LowestNanoseconds, (ulong)bucket.HighestNanoseconds, bucket.Count })]);
}
