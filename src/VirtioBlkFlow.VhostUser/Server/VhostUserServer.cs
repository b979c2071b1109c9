using Microsoft.Extensions.Logging;
using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.VhostUser.Connection;
using VirtioBlkFlow.VhostUser.Session;

namespace VirtioBlkFlow.VhostUser.Server;

/// <summary>Why a server has ended.</summary>
public enum ServerOutcome
{
    /// <summary><see cref="VhostUserServer.Stop"/> was called, or the token cancelled.</summary>
    Stopped,

    /// <summary>It had one connected socket, or was to end with its front-end, and that one has left.</summary>
    FrontendLeft,

    /// <summary>The same, and that front-end broke the protocol.</summary>
    ProtocolViolation,
}

/// <summary>
/// Serves one front-end after another with one device, on a thread of its own named "vhost-user"; with a <see cref="SharedAcceptor"/> there
/// is such a thread only while there is a front-end. On a connected socket it serves that front-end only.
/// </summary>
/// <remarks>
/// Its log is limited to a number of messages per time, because a guest can provoke some.
/// While one front-end is served others wait in the socket's backlog. <see cref="Start(CancellationToken)"/>, <see cref="Stop"/> and <see cref="Dispose"/>
/// may come from any thread.
/// </remarks>
public sealed class VhostUserServer : IDisposable
{
    /// <summary>Pause after a failed accept. Arbitrary: long enough not to spin, short enough not to be noticed.</summary>
    private const int AcceptPauseMs = 100;

    // Fixed at construction. Exactly one of the first two is there.
    private readonly ListeningSocket? _listener;
    private readonly SafeFileHandle? _connected;
    private readonly IVhostUserBackend _backend;
    private readonly VhostUserSessionOptions _options;
    private readonly ILogger _logger;
    private readonly StopSignal _stop = new();
    private readonly TaskCompletionSource<ServerOutcome> _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Lock _gate = new();

    // Shared, guarded by _gate.
    private VhostUserSession? _session;
    private Thread? _thread;
    private SharedAcceptor? _acceptor;
    private bool _isStopping;
    private bool _isDisposed;

    private VhostUserServer(
        ListeningSocket? listener, SafeFileHandle? connected, IVhostUserBackend backend, VhostUserSessionOptions options, ILogger logger)
    {
        _listener = listener;
        _connected = connected;
        _backend = backend;
        _options = options;
        _logger = new LimitedLogger(logger, TimeProvider.System);
    }

    /// <summary>Whether a listening server ends when its first front-end leaves, as one on a connected socket does. Set before it is started.</summary>
    public bool EndsWithFrontend { get; set; }

    /// <summary>A server for every front-end that connects.</summary>
    /// <param name="listener">Becomes the server's.</param>
    /// <param name="backend">The device.</param>
    /// <param name="options">What to offer.</param>
    /// <param name="logger">Where to log.</param>
    public static VhostUserServer OnListener(
        ListeningSocket listener, IVhostUserBackend backend, VhostUserSessionOptions options, ILogger logger)
    {
        ArgumentNullException.ThrowIfNull(listener);
        return new VhostUserServer(listener, null, backend, options, logger);
    }

    /// <summary>
    /// A server on an inherited socket, listening or connected (vhost-user.rst, "Backend program conventions", --fd).
    /// </summary>
    /// <param name="socket">Becomes the server's.</param>
    /// <param name="backend">The device.</param>
    /// <param name="options">What to offer.</param>
    /// <param name="logger">Where to log.</param>
    /// <exception cref="IOException">The descriptor is not a socket.</exception>
    public static VhostUserServer OnDescriptor(
        SafeFileHandle socket, IVhostUserBackend backend, VhostUserSessionOptions options, ILogger logger) =>
        ListeningSocket.IsListening(socket)
            ? OnListener(ListeningSocket.FromDescriptor(socket), backend, options, logger)
            : new VhostUserServer(null, socket, backend, options, logger);

    /// <summary>
    /// Starts the thread. The task ends when the thread does, after all queues are stopped; it fails if the device threw where it must not.
    /// </summary>
    /// <param name="cancellation">Cancelling is <see cref="Stop"/>.</param>
    /// <exception cref="InvalidOperationException">It was started before.</exception>
    public Task<ServerOutcome> Start(CancellationToken cancellation = default)
    {
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_isDisposed, this);
            if (_thread is not null)
            {
                throw new InvalidOperationException("The server was started before.");
            }

            _thread = new Thread(() => RunToEnd(cancellation)) { Name = "vhost-user", IsBackground = true };
            _thread.Start();
        }

        return _ended.Task;
    }

    /// <summary>
    /// The same without a thread while there is no front-end: the acceptor's waits for one. Only for a socket made at a path, which does not
    /// block.
    /// </summary>
    /// <param name="acceptor">Stays the caller's, and in use until the task has ended.</param>
    /// <exception cref="InvalidOperationException">It was started before, or has no such socket.</exception>
    public Task<ServerOutcome> Start(SharedAcceptor acceptor)
    {
        ArgumentNullException.ThrowIfNull(acceptor);
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_isDisposed, this);
            if (_thread is not null || _acceptor is not null || _listener is null)
            {
                throw new InvalidOperationException("The server was started before, or does not listen.");
            }

            _acceptor = acceptor;
        }

        Log.Listening(_logger, _listener.Where);
        AwaitNext();
        return _ended.Task;
    }

    /// <summary>Ends the wait for a front-end, or the session with one; the queues finish what is in flight. Does not wait for that.</summary>
    public void Stop()
    {
        bool wasWaiting;
        lock (_gate)
        {
            _isStopping = true;
            _session?.Interrupt();
            if (!_isDisposed)
            {
                _stop.Set();
            }

            wasWaiting = _acceptor?.TryCancel(_listener!) ?? false;
        }

        if (wasWaiting)
        {
            // Nobody else ends it: there is no thread.
            End(ServerOutcome.Stopped);
        }
    }

    /// <summary>Stops, waits for the thread to end, and closes the sockets.</summary>
    public void Dispose()
    {
        Stop();
        Thread? thread;
        SharedAcceptor? acceptor;
        lock (_gate)
        {
            acceptor = _acceptor;
        }

        if (acceptor is not null)
        {
            // A front-end may be on its way from the acceptor's thread to one of its own.
            _ = Task.WaitAny(_ended.Task);
        }

        lock (_gate)
        {
            thread = _thread;
        }

        // How it ended is for who holds the task; here it counts that it did.
        thread?.Join();
        lock (_gate)
        {
            _isDisposed = true;
            _listener?.Dispose();
            _connected?.Dispose();
            _stop.Dispose();
        }
    }

    // With an acceptor: waits without a thread.
    private void AwaitNext()
    {
        lock (_gate)
        {
            if (!_isStopping)
            {
                _acceptor!.WaitFor(_listener!, ServeOnThread, End);
                return;
            }
        }

        End(ServerOutcome.Stopped);
    }

    private void ServeOnThread(SafeFileHandle socket)
    {
        var thread = new Thread(() => ServeThenAwait(socket)) { Name = "vhost-user", IsBackground = true };
        try
        {
            thread.Start();
        }
        catch (OutOfMemoryException)
        {
            // One front-end less; the next may find room.
            socket.Dispose();
            Log.AcceptFailed(_logger, "no thread left");
            AwaitNext();
            return;
        }

        lock (_gate)
        {
            _thread = thread;
        }
    }

    private void ServeThenAwait(SafeFileHandle socket)
    {
        try
        {
            ServerOutcome outcome = ServeOne(socket);
            if (outcome == ServerOutcome.Stopped || EndsWithFrontend)
            {
                End(outcome);
                return;
            }
        }
        catch (Exception exception)
        {
            End(exception);
            return;
        }

        AwaitNext();
    }

    private void End(ServerOutcome outcome)
    {
        _listener!.Dispose();
        _ended.SetResult(outcome);
    }

    private void End(Exception exception)
    {
        _listener!.Dispose();
        _ended.SetException(exception);
    }

    private void RunToEnd(CancellationToken cancellation)
    {
        try
        {
            using var registration = cancellation.Register(Stop);
            _ended.SetResult(_listener is not null ? ServeAll(_listener) : ServeOne(_connected!));
        }
        catch (Exception exception)
        {
            _ended.SetException(exception);
        }
    }

    private ServerOutcome ServeAll(ListeningSocket listener)
    {
        using (listener)
        {
            Log.Listening(_logger, listener.Where);
            while (true)
            {
                switch (listener.Accept(_stop, out var connection))
                {
                    case AcceptOutcome.Stopped:
                        return ServerOutcome.Stopped;
                    case AcceptOutcome.Exhausted:
                        Log.AcceptFailed(_logger, "no descriptor or memory left");
                        _stop.Wait(AcceptPauseMs);
                        break;
                    default:
                        ServerOutcome outcome = ServeOne(connection!);
                        if (outcome == ServerOutcome.Stopped || EndsWithFrontend)
                        {
                            return outcome;
                        }

                        break;
                }
            }
        }
    }

    private ServerOutcome ServeOne(SafeFileHandle socket)
    {
        using var connection = new VhostUserConnection(socket);
        var session = new VhostUserSession(connection, _backend, _options, _logger);
        lock (_gate)
        {
            if (_isStopping)
            {
                return ServerOutcome.Stopped;
            }

            _session = session;
        }

        try
        {
            return session.Run() switch
            {
                SessionOutcome.Interrupted => ServerOutcome.Stopped,
                SessionOutcome.ProtocolViolation => ServerOutcome.ProtocolViolation,
                _ => ServerOutcome.FrontendLeft,
            };
        }
        finally
        {
            lock (_gate)
            {
                _session = null;
            }
        }
    }
}
