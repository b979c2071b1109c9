using Microsoft.Extensions.Logging;
using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.Daemon.Control;
using VirtioBlkFlow.Daemon.Specs;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.Device.Latency;
using VirtioBlkFlow.Device.Reactor;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.Health;
using VirtioBlkFlow.Disks.Refresh;
using VirtioBlkFlow.Disks.Wrapping;
using VirtioBlkFlow.VhostUser.Server;
using VirtioBlkFlow.VhostUser.Session;

namespace VirtioBlkFlow.Daemon;

/// <summary>
/// One disk with all that serves it: the disk, then its device, then its socket, so that no front-end is accepted before it can be served;
/// closed the other way round. Other disks of the process go on whatever happens to it. Its steps are the owner's to call, one after the
/// other; <see cref="Stop"/> and what the control socket asks for may come from any thread.
/// </summary>
internal sealed class ServedDisk : IDisposable
{
    // Fixed at construction.
    private readonly DiskStack _disk;
    private readonly ILogger _logger;
    private readonly ILogger _serverLogger;
    private readonly IoEngineKind _engine;

    // Set by the owner, in this order.
    private VhostUserServer? _server;
    private Task<ServerOutcome>? _serving;

    private ServedDisk(DiskSpec spec, DiskStack disk, BlkDevice device, IoEngineKind engine, ILogger logger, ILogger serverLogger)
    {
        Spec = spec;
        _disk = disk;
        Device = device;
        _engine = engine;
        _logger = logger;
        _serverLogger = serverLogger;
    }

    /// <summary>What was asked for.</summary>
    public DiskSpec Spec { get; }

    /// <summary>The device that its front-end drives.</summary>
    public BlkDevice Device { get; }

    /// <summary>The size of the disk, now.</summary>
    public ulong CapacityBytes => _disk.Top.Properties.CapacityBytes;

    /// <summary>Whether guests may only read.</summary>
    public bool IsReadOnly => _disk.Top.Properties.ReadOnly;

    /// <summary>Its limits, and who shares them; null if it is not made for any.</summary>
    public ThrottleGroup? Throttle => _disk.Throttle?.Group;

    /// <summary>What tells of its health; null for nothing.</summary>
    public HealthMonitor? HealthMonitor => Spec.Health.Origin == HealthOrigin.Off ? null : _disk.Top.Health;

    /// <summary>What is done about its health; null for nothing.</summary>
    public HealthPolicy? Health => _disk.Health;

    /// <summary>What reads it in the background; null for nothing.</summary>
    public RefreshDisk? Refresh => _disk.Refresh;

    /// <summary>Requests that are held because of errors.</summary>
    public int HeldCount => _disk.Errors?.HeldCount ?? 0;

    /// <summary>Who does the I/O.</summary>
    public string EngineName => IoEngines.NameOf(_engine);

    /// <summary>Opens the disk and makes the device; nobody can connect yet.</summary>
    /// <param name="spec">What the operator wants.</param>
    /// <param name="shared">What it has in common with others.</param>
    /// <param name="engine">Who does the I/O.</param>
    /// <param name="reactors">Serve its queues; null for one each.</param>
    /// <param name="loggers">Where to log.</param>
    /// <param name="isOneOfMany">Whether logs have to say which disk they are about.</param>
    /// <exception cref="DiskOpenException">The disk cannot be opened.</exception>
    /// <exception cref="OfferException">The device cannot be as asked.</exception>
    public static ServedDisk Open(
        DiskSpec spec, SharedParts shared, IoEngineKind engine, ReactorPool? reactors, ILoggerFactory loggers, bool isOneOfMany)
    {
        string suffix = isOneOfMany ? $"/{spec.Id}" : "";
        ILogger logger = loggers.CreateLogger($"vblkflow{suffix}");
        DiskStack disk = DiskStack.Open(spec, shared, engine, logger);
        try
        {
            var device = new BlkDevice(disk.Top, spec.Device with { Engine = engine, Reactors = reactors }, logger);
            return new ServedDisk(spec, disk, device, engine, logger, loggers.CreateLogger($"vhost-user{suffix}"));
        }
        catch
        {
            disk.Dispose();
            throw;
        }
    }

    /// <summary>Makes or takes over the socket: from here on front-ends may connect, and wait.</summary>
    /// <exception cref="IOException">The socket cannot be had.</exception>
    public void Listen()
    {
        VhostUserSessionOptions session = VhostUserSessionOptions.Default with { Observer = Device.Lint };
        _server = Spec.SocketDescriptor is int descriptor
            ? VhostUserServer.OnDescriptor(new SafeFileHandle(descriptor, ownsHandle: true), Device, session, _serverLogger)
            : VhostUserServer.OnListener(ListeningSocket.Listen(Spec.SocketPath!, Spec.SocketMode), Device, session, _serverLogger);
        _server.EndsWithFrontend = Spec.EndsWithFrontend;
    }

    /// <summary>Serves from now on. The task ends when the disk is served no more and its queues have stopped.</summary>
    /// <param name="acceptor">Waits for front-ends in the place of a thread of the disk's own; null for such a thread.</param>
    public Task<ServerOutcome> Start(SharedAcceptor? acceptor)
    {
        // An inherited socket may block, and would hold up all others.
        _serving = acceptor is null || Spec.SocketPath is null ? _server!.Start(CancellationToken.None) : _server!.Start(acceptor);
        Log.Serving(
            _logger,
            Spec.Label,
            _disk.Top.Properties.CapacityBytes,
            Spec.SocketPath ?? $"descriptor {Spec.SocketDescriptor}",
            EngineName);
        if (Spec.Refresh is { OnDemand: false })
        {
            _disk.Refresh!.Start(Spec.RewritesAtStart);
        }

        return _serving;
    }

    /// <summary>Ends serving; queues finish what is in flight. Does not wait for that.</summary>
    public void Stop() => _server?.Stop();

    /// <summary>The disk may have another size, and what failed may work now.</summary>
    public void ReadSizeAgain()
    {
        _ = Resize();
        // Afterwards: what failed for want of space, or of a server, may find it now.
        Resume();
    }

    /// <summary>What is held because of errors is tried again.</summary>
    public void Resume() => _disk.Resume();

    /// <summary>Looks whether the disk has another size, and tells the front-end. Null if the disk is closing.</summary>
    public DiskResize? Resize()
    {
        try
        {
            DiskResize resize = Device.Refresh();
            if (resize.UnusedBytes != 0)
            {
                Log.RoundedDown(_logger, resize.UnusedBytes);
            }

            Log.Resized(_logger, resize.OldBytes, resize.NewBytes);
            return resize;
        }
        catch (ObjectDisposedException)
        {
            // We are ending.
            return null;
        }
    }

    /// <summary>Logs other limits.</summary>
    public void LogLimits(string limits) => Log.LimitsChanged(_logger, Spec.Id, limits);

    /// <summary>Logs what its queues have done and where their time went.</summary>
    public void LogSnapshot()
    {
        IReadOnlyList<QueueMeasurement> queues = Device.Measure();
        if (queues.Count == 0)
        {
            Log.SnapshotOfNothing(_logger, Spec.Label);
        }

        foreach (QueueMeasurement queue in queues)
        {
            Log.Snapshot(_logger, Spec.Label, SnapshotText.Describe(queue));
        }
    }

    /// <summary>Its server has failed, where it never should.</summary>
    public void ReportFailure(Exception exception) => Log.ServerFailed(_logger, exception);

    /// <summary>Whether nothing of it is in use any more, or ever was.</summary>
    public bool HasEnded => _serving is null or { IsCompleted: true };

    public void Dispose()
    {
        if (!HasEnded)
        {
            // Requests still use the disk and guest memory; the end of the process takes care of both.
            return;
        }

        _server?.Dispose();
        Device.Dispose();
        _disk.Dispose();
    }
}
