using System.Globalization;
using Spectre.Console;
using VirtioBlkFlow.Frontend.Load;

namespace VirtioBlkFlow.Daemon.Bench;

/// <summary>What a terminal shows while a load runs: how far it is, and the figures so far. Nothing of it stays.</summary>
internal static class BenchProgress
{
    /// <summary>Runs the load, with or without a show.</summary>
    public static LoadResult Run(LoadRun run, bool isShown, CancellationToken stop) => isShown ? RunShown(run, stop) : run.Run(null, stop);

    /// <summary>The figures of a moment, on one line.</summary>
    internal static string Describe(LoadProgress progress, double iops, double bytesPerSecond) => progress.IsWarmingUp
        ? "warming up"
        : string.Create(
            CultureInfo.InvariantCulture,
            $"{Units.Count(iops)} IOPS  {Units.Bytes(bytesPerSecond)}/s  p50 {Units.Time(progress.Latency.ValueAt(50))}  p99 {Units.Time(progress.Latency.ValueAt(99))}");

    private static LoadResult RunShown(LoadRun run, CancellationToken stop)
    {
        LoadResult? result = null;
        AnsiConsole.Progress()
            .AutoClear(true)
            .HideCompleted(false)
            .Columns(new ProgressBarColumn(), new PercentageColumn(), new RemainingTimeColumn(), new TaskDescriptionColumn { Alignment = Justify.Left })
            .Start(display =>
            {
                ProgressTask task = display.AddTask("connected");
                LoadProgress? last = null;
                result = run.Run(
                    progress =>
                    {
                        double seconds = (progress.Elapsed - (last?.Elapsed ?? TimeSpan.Zero)).TotalSeconds;
                        double iops = seconds > 0 ? (progress.RequestCount - (last?.RequestCount ?? 0)) / seconds : 0;
                        double bytes = seconds > 0 ? (progress.Bytes - (last?.Bytes ?? 0)) / seconds : 0;
                        last = progress;
                        task.Value = progress.Fraction * task.MaxValue;
                        task.Description = Markup.Escape(Describe(progress, iops, bytes));
                    },
                    stop);
            });
        return result!;
    }
}
