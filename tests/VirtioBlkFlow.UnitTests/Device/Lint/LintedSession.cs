using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.Device.Lint;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.VhostUser.Connection;
using VirtioBlkFlow.VhostUser.Session;
using VirtioBlkFlow.Virtio;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Device.Lint;

/// <summary>The whole way: our front-end and driver, a session, the device with its linter and what it logs. One front-end after another.</summary>
internal sealed class LintedSession : ILogger, IDisposable
{
    private readonly ConcurrentQueue<string> _lines = new();
    private readonly IDisk _disk;
    private VhostUserFrontend? _frontend;
    private VhostUserConnection? _connection;
    private Task<SessionOutcome>? _session;

    public LintedSession(IDisk disk, BlkDeviceOptions? options = null)
    {
        _disk = disk;
        Device = new BlkDevice(disk, (options ?? new BlkDeviceOptions()) with { Lint = true }, this);
    }

    public BlkDevice Device { get; }

    public SpecLint Lint => Device.Lint;

    public VhostUserFrontend Frontend => _frontend!;

    public SharedMemory Memory { get; } = SharedMemory.OfSize(32 << 20);

    public FrontendQueue Queue { get; private set; } = null!;

    public BlkDriver Driver { get; private set; } = null!;

    /// <summary>What the linter has logged of rules that were broken.</summary>
    public string[] Findings => [.. _lines.Where(static line => line.Contains("Seen: ", StringComparison.Ordinal))];

    public string[] Summaries => [.. _lines.Where(static line => line.StartsWith("Rules broken", StringComparison.Ordinal))];

    public void Connect()
    {
        (var ours, var theirs) = VhostUserFrontend.CreateSocketPair();
        _frontend = new VhostUserFrontend(ours, Eventually.PatienceMs);
        _connection = new VhostUserConnection(theirs);
        var session = new VhostUserSession(
            _connection, Device, VhostUserSessionOptions.Default with { Observer = Lint }, NullLogger.Instance);
        _session = Task.Factory.StartNew(session.Run, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
    }

    /// <summary>Connects, negotiates, and starts one queue with a driver.</summary>
    public void Start(VirtioFeatures features, BlkDriverOptions? driver = null, int queueSize = 64)
    {
        Connect();
        Negotiation negotiation = Negotiation.Run(Frontend, new NegotiationOptions { Features = features | VirtioFeatures.VIRTIO_F_VERSION_1 });
        negotiation.SendMemory(Frontend, Memory);
        driver ??= new BlkDriverOptions { TimeoutMs = Eventually.PatienceMs };
        Queue = new FrontendQueue(Memory, 0, queueSize, negotiation.RingFeatures, indirectEntries: driver.UseIndirect ? 8 : 0);
        Driver = new BlkDriver(Memory, Queue, driver);
        negotiation.StartQueues(Frontend, Queue);
    }

    /// <summary>The front-end leaves, and the session ends.</summary>
    public void Leave()
    {
        _frontend!.Dispose();
        Eventually.Ends(_session!, "the session ends");
        _connection!.Dispose();
        Queue?.Dispose();
        _session = null;
    }

    public void Dispose()
    {
        if (_session != null)
        {
            Leave();
        }

        Device.Dispose();
        _disk.Dispose();
        Memory.Dispose();
    }

    IDisposable? ILogger.BeginScope<TState>(TState state) => null;

    bool ILogger.IsEnabled(LogLevel logLevel) => logLevel >= LogLevel.Warning;

    void ILogger.Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
    {
        if (logLevel >= LogLevel.Warning)
        {
            _lines.Enqueue(formatter(state, exception));
        }
    }

    public void AssertSpotless()
    {
        Leave();
        Assert.Empty(DriverRuleTests.CountsOf(Lint));
        Assert.Empty(Findings);
        Assert.Empty(Summaries);
    }
}
