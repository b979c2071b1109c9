using System.Runtime.InteropServices;
using Microsoft.Extensions.Logging;
using VirtioBlkFlow.Disks.Exchange;
using VirtioBlkFlow.VhostUser.Server;

namespace VirtioBlkFlow.Daemon.Exchange;

/// <summary>A run of <c>vblkflow exchange</c>, from the settings to the exit code.</summary>
internal static class ExchangeRun
{
    /// <summary>Serves, waits for the guest, saves its output.</summary>
    /// <returns>The exit code.</returns>
    public static async Task<int> RunAsync(ExchangeSettings settings)
    {
        using ILoggerFactory loggers = LoggerFactory.Create(logging => ConsoleLog.AddTo(logging, settings.LogLevel));
        try
        {
            if (settings.InputPath is null)
            {
                return await WithSignalsAsync(stop => StreamRun.RunAsync(settings, loggers, stop));
            }

            // An input that is a pipe is read to its end here. Until then a signal ends the program at once: there is nothing to tidy up.
            using ExchangeDisk disk = ExchangeDisk.Open(OptionsOf(settings, loggers));
            return await WithSignalsAsync(stop => ExchangeFilesAsync(disk, settings, loggers, stop));
        }
        catch (Exception exception) when (BlockServer.IsTheHostsFault(exception))
        {
            return Say(ExitCode.Failure, exception.Message);
        }
    }

    /// <summary>Says on stderr how it has ended.</summary>
    /// <returns>The exit code.</returns>
    public static int Say(int exitCode, string message)
    {
        Console.Error.WriteLine($"vblkflow: {message}");
        return exitCode;
    }

    // SIGHUP too: there is no size to look at again, and a terminal that closes must leave nothing behind.
    private static async Task<int> WithSignalsAsync(Func<CancellationToken, Task<int>> run)
    {
        using var stop = new CancellationTokenSource();
        void Stop(PosixSignalContext signal)
        {
            signal.Cancel = true;
            stop.Cancel();
        }

        using PosixSignalRegistration hangUp = PosixSignalRegistration.Create(PosixSignal.SIGHUP, Stop);
        using PosixSignalRegistration terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Stop);
        using PosixSignalRegistration interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Stop);
        return await run(stop.Token);
    }

    private static async Task<int> ExchangeFilesAsync(ExchangeDisk disk, ExchangeSettings settings, ILoggerFactory loggers, CancellationToken stop)
    {
        using ExchangeServer server = ExchangeServer.Open(disk, settings.InputPath!, "vblkflow-exchange", settings, loggers);
        switch (await server.ServeAsync(disk.Marked, stop))
        {
            case ExchangeEnd.Interrupted:
                return Say(ExitCode.Interrupted, $"Ended by a signal before the guest was done: '{settings.OutputPath}' is not written.");
            case ExchangeEnd.FrontendLeft:
                return Say(ExitCode.FrontendLeft, $"The front-end left before the guest was done: '{settings.OutputPath}' is not written.");
        }

        ExchangeMark mark = await disk.Marked;
        if (!mark.IsDone)
        {
            string message = mark.Message.Length > 0 ? $": {mark.Message}" : ".";
            return Say(ExitCode.GuestFailed, $"The guest reports failure with exit code {mark.ExitCode}{message}");
        }

        if (disk.IsSpoiled)
        {
            return Say(ExitCode.GuestFailed, $"The guest wrote to its output after the mark that it was complete: '{settings.OutputPath}' is not written. It has to flush first.");
        }

        disk.SaveOutput();
        return ExitCode.Success;
    }

    private static ExchangeOptions OptionsOf(ExchangeSettings settings, ILoggerFactory loggers)
    {
        var logger = new LimitedLogger(loggers.CreateLogger("vblkflow"), TimeProvider.System);
        return new ExchangeOptions(settings.InputPath!, settings.OutputPath!)
        {
            InputSectors = settings.InputSectors,
            OutputBytes = settings.OutputBytes,
            StatusSector = settings.StatusSector,
            Lock = settings.Lock,
            Refused = why => Log.GuestRefused(logger, why),
        };
    }
}
