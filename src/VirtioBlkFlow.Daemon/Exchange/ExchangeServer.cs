using System.Diagnostics;
using Microsoft.Extensions.Logging;
using VirtioBlkFlow.Daemon.Specs;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.VhostUser.Server;

namespace VirtioBlkFlow.Daemon.Exchange;

/// <summary>Why an exchange is served no more.</summary>
internal enum ExchangeEnd
{
    /// <summary>What was waited for has happened.</summary>
    Finished,

    /// <summary>The only front-end there was to be has left.</summary>
    FrontendLeft,

    /// <summary>A signal.</summary>
    Interrupted,
}

/// <summary>Serves the disk of an exchange to one front-end after another, until something has happened.</summary>
internal sealed class ExchangeServer : IDisposable
{
    // As long as the daemon has to end (HostOptions.ShutdownTimeout).
    private static readonly TimeSpan s_drainTimeout = TimeSpan.FromSeconds(30);

    // How often a quiet guest is looked at. Arbitrary.
    private static readonly TimeSpan s_lookAgain = TimeSpan.FromMilliseconds(50);

    private readonly ServedDisk _served;
    private readonly TimeSpan _linger;
    private readonly ILogger _logger;

    private ExchangeServer(ServedDisk served, TimeSpan linger, ILogger logger)
    {
        _served = served;
        _linger = linger;
        _logger = logger;
    }

    /// <summary>Makes the device, and the socket: from here on front-ends may connect.</summary>
    /// <param name="disk">What is served; belongs to the server from now on, also if this fails.</param>
    /// <param name="what">What it is called in the log.</param>
    /// <param name="serial">Tells the guest which of its disks this is.</param>
    /// <param name="settings">Where to listen, and how to do I/O.</param>
    /// <param name="loggers">Where to log.</param>
    public static ExchangeServer Open(IDisk disk, string what, string serial, ExchangeSettings settings, ILoggerFactory loggers)
    {
        ILogger logger = loggers.CreateLogger("vblkflow");
        var spec = new DiskSpec
        {
            Id = Path.GetFileName(what),
            Kind = new OpenedKind(disk),
            What = what,
            // A guest that wants to be sure flushes, and the mark is one; the cost of more is for nothing.
            Device = new BlkDeviceOptions { Serial = serial, Cache = CacheMode.Writeback },
            SocketPath = settings.SocketPath,
            SocketMode = settings.SocketMode,
            SocketDescriptor = settings.SocketDescriptor,
            EndsWithFrontend = settings.Once,
        };
        ServedDisk? served = null;
        try
        {
            served = ServedDisk.Open(spec, new SharedParts([]), BlockServer.ChooseEngine(settings.Engine, logger), reactors: null, loggers, isOneOfMany: false);
            served.Listen();
            return new ExchangeServer(served, settings.Linger, logger);
        }
        catch
        {
            served?.Dispose();
            disk.Dispose();
            throw;
        }
    }

    /// <summary>Serves until something has happened, and the guest has had the time to hear of it; then nothing uses the disk any more.</summary>
    /// <param name="finished">What is waited for.</param>
    /// <param name="stop">The signal to end.</param>
    /// <exception cref="StartupException">Requests hang: the disk is still in use.</exception>
    public async Task<ExchangeEnd> ServeAsync(Task finished, CancellationToken stop)
    {
        Task<ServerOutcome> serving = _served.Start(acceptor: null);
        var stopped = new TaskCompletionSource();
        using CancellationTokenRegistration registration = stop.Register(() => stopped.TrySetResult());
        Task first = await Task.WhenAny(finished, serving, stopped.Task);
        if (first == finished)
        {
            await LetGuestFinishAsync(Task.WhenAny(serving, stopped.Task));
        }

        _served.Stop();
        try
        {
            await serving.WaitAsync(s_drainTimeout, CancellationToken.None);
        }
        catch (TimeoutException)
        {
            Log.DrainTimedOut(_logger);
            throw new StartupException("Requests of the guest did not end.");
        }

        // In this order: a guest that was done may have switched itself off at once.
        return finished.IsCompleted ? ExchangeEnd.Finished : stop.IsCancellationRequested ? ExchangeEnd.Interrupted : ExchangeEnd.FrontendLeft;
    }

    // A guest that has written its last word has not always heard that it arrived: a flush may follow, or the kernel looks at the disk once
    // more. To take the disk away before would let it hang.
    private async Task LetGuestFinishAsync(Task end)
    {
        ulong requests = RequestCount();
        long quietSince = Stopwatch.GetTimestamp();
        while (!end.IsCompleted && _served.Device.HasFrontend && Stopwatch.GetElapsedTime(quietSince) < _linger)
        {
            await Task.WhenAny(end, Task.Delay(s_lookAgain));
            if (RequestCount() is var now && now != requests)
            {
                requests = now;
                quietSince = Stopwatch.GetTimestamp();
            }
        }
    }

    private ulong RequestCount() => _served.Device.Measure().Aggregate(0UL, (sum, queue) => sum + queue.Counts.TotalRequests);

    public void Dispose() => _served.Dispose();
}
