using Microsoft.Extensions.Logging;
using VirtioBlkFlow.Disks.Streaming;
using VirtioBlkFlow.VhostUser.Server;

namespace VirtioBlkFlow.Daemon.Exchange;

/// <summary>A run of <c>vblkflow exchange --stream</c>: stdin goes to the guest, and what it writes to stdout.</summary>
internal static class StreamRun
{
    // What is read from stdin, or written to stdout, at once. Arbitrary: the capacity of a pipe (pipe(7)).
    private const int CopyBytes = 1 << 16;

    // What a guest hears of a host that fails: it has no number for it.
    private const byte HostFailed = 1;

    /// <summary>Serves until the guest has ended its output.</summary>
    /// <returns>The exit code.</returns>
    public static async Task<int> RunAsync(ExchangeSettings settings, ILoggerFactory loggers, CancellationToken stop)
    {
        var logger = new LimitedLogger(loggers.CreateLogger("vblkflow"), TimeProvider.System);
        var layout = new SectorRingLayout(settings.RingBytes, settings.RingBytes);
        using SectorRingDisk disk = SectorRingDisk.Open(new SectorRingOptions(layout, why => Log.GuestRefused(logger, why)));
        using ExchangeServer server = ExchangeServer.Open(disk, "stdin and stdout", "vblkflow-stream", settings, loggers);
        // Not the signal itself: that has a word of its own at the end.
        using var ending = new CancellationTokenSource();
        var stdin = new TaskCompletionSource<int>();
        Task<int> writing = ToStdoutAsync(disk, ending.Token);
        // On a thread of its own: a terminal or pipe that says nothing would hold one of the pool for ever.
        new Thread(() => FeedStdin(disk, stdin, ending.Token)) { Name = "stdin", IsBackground = true }.Start();
        Task<Task<int>> first = Task.WhenAny(writing, stdin.Task);
        ExchangeEnd end = await server.ServeAsync(first, stop);
        await ending.CancelAsync();
        return end switch
        {
            ExchangeEnd.Interrupted => ExchangeRun.Say(ExitCode.Interrupted, "Ended by a signal before the guest was done."),
            ExchangeEnd.FrontendLeft => ExchangeRun.Say(ExitCode.FrontendLeft, "The front-end left before the guest was done."),
            _ => await await first,
        };
    }

    private static async Task<int> ToStdoutAsync(SectorRingDisk disk, CancellationToken stop)
    {
        try
        {
            byte[] buffer = GC.AllocateUninitializedArray<byte>(CopyBytes, pinned: true);
            for (int count; (count = await disk.FromGuest.ReadAsync(buffer, stop)) > 0;)
            {
                StandardOutput.Write(buffer, count);
            }

            return ExitCode.Success;
        }
        catch (SectorRingException exception)
        {
            return ExchangeRun.Say(ExitCode.GuestFailed, exception.Message);
        }
        catch (IOException exception)
        {
            disk.Abort(HostFailed);
            return ExchangeRun.Say(ExitCode.Failure, $"Cannot write to stdout: {exception.Message}");
        }
        catch (OperationCanceledException)
        {
            return ExitCode.Interrupted;
        }
    }

    // Ends the run only if stdin cannot be read: at its end the guest may have much to do still.
    private static void FeedStdin(SectorRingDisk disk, TaskCompletionSource<int> failed, CancellationToken stop)
    {
        try
        {
            using Stream stdin = Console.OpenStandardInput();
            byte[] buffer = new byte[CopyBytes];
            for (int count; (count = stdin.Read(buffer)) > 0;)
            {
                disk.ToGuest.WriteAsync(buffer.AsMemory(0, count), stop).AsTask().GetAwaiter().GetResult();
            }

            disk.ToGuest.Dispose();
        }
        catch (SectorRingException)
        {
            // The guest reads no more; whether that is a failure, its output tells.
        }
        // The second is what .NET makes of some errors, such as that of a stdin that is open for writing only.
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            disk.Abort(HostFailed);
            failed.SetResult(ExchangeRun.Say(ExitCode.Failure, $"Cannot read stdin: {(exception.InnerException ?? exception).Message}"));
        }
        catch (Exception exception) when (exception is OperationCanceledException or ObjectDisposedException)
        {
            // We are ending.
        }
    }
}
