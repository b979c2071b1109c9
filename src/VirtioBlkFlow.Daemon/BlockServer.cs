using System.Runtime.InteropServices;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using VirtioBlkFlow.Daemon.Control;
using VirtioBlkFlow.Daemon.Specs;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.Device.Reactor;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.VhostUser.Server;

namespace VirtioBlkFlow.Daemon;

/// <summary>
/// The program's one service: opens all disks, then all sockets, and closes them the other way round. A disk whose server ends does not
/// touch the others; with the last one the program ends.
/// </summary>
internal sealed class BlockServer(
    DaemonOptions options, IHostApplicationLifetime lifetime, ILoggerFactory loggers) : IHostedService, IDisposable
{
    // The numbers of signals that .NET has no name for are those of <bits/signum-arch.h>.
    private const PosixSignal SIGUSR1 = (PosixSignal)10;

    private readonly ILogger _logger = loggers.CreateLogger("vblkflow");
    private readonly List<ServedDisk> _disks = [];
    private ReactorPool? _reactors;
    private SharedAcceptor? _acceptor;
    private Task? _serving;
    private PosixSignalRegistration? _hangUp;
    private PosixSignalRegistration? _snapshot;
    private ControlServer? _control;
    private volatile bool _hasFailed;

    /// <summary>Whether the service ended otherwise than it should.</summary>
    public bool HasFailed => _hasFailed;

    /// <summary>What is served, in the order of the command line; fixed once the service has started.</summary>
    public IReadOnlyList<ServedDisk> Disks => _disks;

    private bool HasMany => options.Disks.Count > 1;

    public Task StartAsync(CancellationToken cancellationToken)
    {
        if (options.MakesDefaultImage)
        {
            DefaultImage.Ensure(DaemonOptions.DefaultImagePath);
        }

        IoEngineKind engine = ChooseEngine(options.Engine, _logger);
        if (options.Reactors is { } reactors)
        {
            _reactors = new ReactorPool(reactors.OptionsFor(engine), _logger);
        }

        var shared = new SharedParts(options.Disks);
        // All disks before the first socket: no front-end is let in by a program that then refuses to start.
        foreach (DiskSpec spec in options.Disks)
        {
            Naming(spec, () => _disks.Add(ServedDisk.Open(spec, shared, engine, _reactors, loggers, HasMany)));
        }

        // Before there are sockets: who sends a signal when it sees them is heard, and does not end the program.
        _hangUp = PosixSignalRegistration.Create(PosixSignal.SIGHUP, OnHangUp);
        _snapshot = PosixSignalRegistration.Create(SIGUSR1, OnSnapshot);
        _disks.ForEach(disk => Naming(disk.Spec, disk.Listen));
        if (options.ControlPath is { } path)
        {
            _control = ListenForControl(path);
        }

        _acceptor = HasMany ? new SharedAcceptor() : null;
        _serving = Task.WhenAll(_disks.ConvertAll(ServeAsync));
        _ = _serving.ContinueWith(_ => lifetime.StopApplication(), CancellationToken.None, TaskContinuationOptions.None, TaskScheduler.Default);
        return Task.CompletedTask;
    }

    /// <summary>Drains, all disks at once: queues finish what is in flight. Then everything is closed.</summary>
    public async Task StopAsync(CancellationToken cancellationToken)
    {
        // First who looks at what the others are about to close.
        if (_control is { } control)
        {
            await control.DisposeAsync();
        }

        _disks.ForEach(disk => disk.Stop());
        if (_serving == null)
        {
            return;
        }

        try
        {
            await _serving.WaitAsync(cancellationToken);
        }
        catch (OperationCanceledException)
        {
            _hasFailed = true;
            Log.DrainTimedOut(_logger);
        }
    }

    public void Dispose()
    {
        _hangUp?.Dispose();
        _snapshot?.Dispose();
        _disks.ForEach(disk => disk.Dispose());
        if (_disks.TrueForAll(disk => disk.HasEnded))
        {
            _reactors?.Dispose();
        }
        _acceptor?.Dispose();
    }

    private async Task ServeAsync(ServedDisk disk)
    {
        try
        {
            if (await disk.Start(_acceptor) == ServerOutcome.ProtocolViolation)
            {
                _hasFailed = true;
            }
        }
        catch (Exception exception)
        {
            _hasFailed = true;
            disk.ReportFailure(exception);
        }
    }

    // Of several disks, an error has to say which one it is about.
    private void Naming(DiskSpec spec, Action open)
    {
        try
        {
            open();
        }
        catch (Exception exception) when (HasMany && IsTheHostsFault(exception))
        {
            throw new StartupException($"{spec.Origin}: {exception.Message}");
        }
    }

    /// <summary>What can be wrong with what the operator named: not a fault of the program.</summary>
    public static bool IsTheHostsFault(Exception exception) =>
        exception is DiskOpenException or OfferException or StartupException or IOException or UnauthorizedAccessException;

    /// <summary>Who does the I/O, if it can be had.</summary>
    /// <exception cref="StartupException">io_uring is insisted on, and refused.</exception>
    public static IoEngineKind ChooseEngine(EngineChoice choice, ILogger logger)
    {
        if (choice == EngineChoice.Threads)
        {
            return IoEngineKind.Threads;
        }

        if (IoEngines.IsUringAvailable(out string obstacle))
        {
            return IoEngineKind.IoUring;
        }

        if (choice == EngineChoice.IoUring)
        {
            throw new StartupException($"{obstacle} Or use --io-engine threads.");
        }

        Log.UringRefused(logger, obstacle);
        return IoEngineKind.Threads;
    }

    private ControlServer ListenForControl(string path)
    {
        try
        {
            return ControlServer.Listen(path, _disks, _logger);
        }
        catch (IOException exception)
        {
            throw new StartupException($"--control: {exception.Message}");
        }
    }

    private void OnSnapshot(PosixSignalContext context)
    {
        context.Cancel = true;
        _disks.ForEach(disk => disk.LogSnapshot());
    }

    // SIGHUP: images may have another size. A disk that hangs does not keep the others from looking.
    private void OnHangUp(PosixSignalContext context)
    {
        context.Cancel = true;
        Task.WaitAll(_disks.ConvertAll(disk => Task.Run(disk.ReadSizeAgain)));
    }
}
