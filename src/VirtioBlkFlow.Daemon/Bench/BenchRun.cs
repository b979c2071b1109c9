using System.Runtime.InteropServices;
using VirtioBlkFlow.Daemon.Control;
using VirtioBlkFlow.Frontend.Load;

namespace VirtioBlkFlow.Daemon.Bench;

/// <summary>A run of <c>vblkflow bench</c>, from the options to the exit code.</summary>
internal static class BenchRun
{
    // Large enough for any range that is a multiple of anything sensible; the loop-back device stores nothing.
    private const ulong LoopbackSectors = 1UL << 21;

    /// <summary>Runs, reports, writes files.</summary>
    /// <returns>The exit code: 1 for a load that failed, or was ended by a signal before its time.</returns>
    public static int Run(BenchOptions options)
    {
        using var stop = new CancellationTokenSource();
        void Stop(PosixSignalContext signal)
        {
            signal.Cancel = true;
            stop.Cancel();
        }

        using PosixSignalRegistration interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Stop);
        using PosixSignalRegistration terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Stop);
        try
        {
            // Opened first: a run whose results cannot be kept need not begin.
            using TextWriter? json = Open(options.JsonPath);
            using TextWriter? histogram = Open(options.HistogramPath);
            using StageBreakdown? stages = options.ControlPath is { } control ? StageBreakdown.Begin(control, options.SocketPath!) : null;
            using LoadRun run = options.SocketPath is { } socket
                ? LoadRun.Connect(socket, options.Load)
                : LoadRun.Loopback(options.Load, LoopbackSectors);
            run.ServerProcessId = options.ServerProcessId ?? run.ServerProcessId;
            LoadResult result = BenchProgress.Run(run, isShown: !Console.IsOutputRedirected && !options.StdoutIsTaken, stop.Token);
            stages?.End();
            if (json is not null)
            {
                BenchJson.Write(json, result, stages);
            }

            if (histogram is not null)
            {
                PercentileText.Write(histogram, AllLatencies(result));
            }

            if (!options.StdoutIsTaken)
            {
                BenchReport.Write(Console.Out, result, options.SocketPath is null);
                stages?.Write(Console.Out, result);
            }

            return result.WasStopped ? ExitCode.Failure : ExitCode.Success;
        }
        catch (Exception exception) when (exception is LoadException or ControlException or IOException or UnauthorizedAccessException)
        {
            Console.Error.WriteLine($"vblkflow: {exception.Message}");
            return ExitCode.Failure;
        }
    }

    private static TextWriter? Open(string? path) => path switch
    {
        null => null,
        "-" => Console.Out,
        _ => new StreamWriter(path),
    };

    private static LatencyHistogram AllLatencies(LoadResult result)
    {
        var all = new LatencyHistogram();
        all.Add(result.Total.Read.Latency);
        all.Add(result.Total.Write.Latency);
        return all;
    }
}
