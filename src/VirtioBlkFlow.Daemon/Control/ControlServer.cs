using System.Runtime.CompilerServices;
using Microsoft.Extensions.Logging;
using VirtioBlkFlow.VhostUser.Server;

namespace VirtioBlkFlow.Daemon.Control;

/// <summary>
/// The socket of --control. It listens from the start, but what answers is started when somebody connects for the first time: until then it
/// is a thread that sleeps in poll(2), and no web framework is loaded.
/// </summary>
internal sealed class ControlServer : IAsyncDisposable
{
    // Who may wait while what answers is started. Arbitrary.
    private const int Backlog = 128;

    // Before the next try, after one that failed. Arbitrary.
    private const int RetryMilliseconds = 1000;

    private readonly ListeningSocket _socket;
    private readonly IReadOnlyList<ServedDisk> _disks;
    private readonly DiskReports _reports;
    private readonly DeviceMetrics _metrics;
    private readonly ILogger _logger;
    private readonly StopSignal _stop = new();
    private readonly Thread _thread;

    // Written by the thread, read after its end.
    private IAsyncDisposable? _application;

    private ControlServer(ListeningSocket socket, IReadOnlyList<ServedDisk> disks, ILogger logger)
    {
        _socket = socket;
        _disks = disks;
        _reports = new DiskReports(disks);
        _metrics = new DeviceMetrics(disks);
        _logger = logger;
        _thread = new Thread(AwaitFirst) { Name = "control", IsBackground = true };
        _thread.Start();
    }

    /// <summary>Listens. The file of the socket is its owner's alone: mode 0600.</summary>
    /// <param name="path">Where.</param>
    /// <param name="disks">What is served; does not change any more.</param>
    /// <param name="logger">Hears if nobody can be answered.</param>
    /// <exception cref="SocketUnavailableException">The socket cannot be had.</exception>
    // The same care as with the sockets of disks: what a dead process left behind is replaced, and the mode is in force before anybody can
    // connect. Kestrel does neither.
    public static ControlServer Listen(string path, IReadOnlyList<ServedDisk> disks, ILogger logger)
    {
        ListeningSocket socket = ListeningSocket.Listen(path, backlog: Backlog);
        try
        {
            return new ControlServer(socket, disks, logger);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    public async ValueTask DisposeAsync()
    {
        _stop.Set();
        _thread.Join();
        if (_application is { } application)
        {
            await application.DisposeAsync();
        }

        _metrics.Dispose();
        _socket.Dispose();
        _stop.Dispose();
    }

    private void AwaitFirst()
    {
        while (_application == null && _socket.AwaitCaller(_stop))
        {
            try
            {
                _application = StartApplication();
            }
            catch (Exception exception)
            {
                // Disks are served all the same. Who has connected waits for the next try.
                Log.ControlFailed(_logger, exception.Message);
                _stop.Wait(RetryMilliseconds);
            }
        }
    }

    // Apart, so that ASP.NET Core is not even looked for before.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private ControlApplication StartApplication() => ControlApplication.StartAsync(_socket, _disks, _reports, _metrics).GetAwaiter().GetResult();
}
