using System.Runtime.InteropServices;
using Spectre.Console;
using VirtioBlkFlow.Daemon.Control;

namespace VirtioBlkFlow.Daemon.Top;

/// <summary>A run of <c>vblkflow top</c>.</summary>
internal static class TopRun
{
    // What a table takes that is not to be broken: a file has no width.
    private const int FileColumns = 240;

    /// <summary>Shows it until a signal comes, or once.</summary>
    /// <param name="paths">Control sockets.</param>
    /// <param name="interval">How often; null for once.</param>
    /// <param name="cancellation">Ends it.</param>
    /// <returns>The exit code.</returns>
    public static async Task<int> RunAsync(IReadOnlyList<string> paths, TimeSpan? interval, CancellationToken cancellation)
    {
        ControlClient[] clients = [.. paths.Select(path => new ControlClient(path))];
        try
        {
            TopSample[] samples = await TakeAsync(clients, cancellation);
            if (interval is { } every)
            {
                await ShowAsync(clients, samples, every, cancellation);
            }
            else
            {
                if (Console.IsOutputRedirected)
                {
                    AnsiConsole.Profile.Width = FileColumns;
                }

                AnsiConsole.Write(TopTable.Make(samples.Select(sample => (sample, (TopSample?)null))));
            }

            return ExitCode.Success;
        }
        catch (ControlException exception)
        {
            await Console.Error.WriteLineAsync($"vblkflow: {exception.Message}");
            return ExitCode.Failure;
        }
        catch (OperationCanceledException)
        {
            return ExitCode.Success;
        }
        finally
        {
            Array.ForEach(clients, client => client.Dispose());
        }
    }

    private static Task<TopSample[]> TakeAsync(ControlClient[] clients, CancellationToken cancellation) =>
        Task.WhenAll(clients.Select(client => TopSample.TakeAsync(client, cancellation)));

    private static async Task ShowAsync(ControlClient[] clients, TopSample[] first, TimeSpan interval, CancellationToken cancellation)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        void Stop(PosixSignalContext signal)
        {
            signal.Cancel = true;
            stop.Cancel();
        }

        using PosixSignalRegistration interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Stop);
        using PosixSignalRegistration terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Stop);
        TopSample[] earlier = first;
        await AnsiConsole.Live(TopTable.Make(first.Select(sample => (sample, (TopSample?)null)))).Overflow(VerticalOverflow.Crop).StartAsync(async display =>
        {
            display.Refresh();
            using var timer = new PeriodicTimer(interval);
            while (await timer.WaitForNextTickAsync(stop.Token))
            {
                TopSample[] now = await TakeAsync(clients, stop.Token);
                display.UpdateTarget(TopTable.Make(now.Zip(earlier, (sample, before) => (sample, (TopSample?)before))));
                earlier = now;
            }
        });
    }
}
