using Microsoft.Win32.SafeHandles;
using Mono.Unix.Native;

namespace VirtioBlkFlow.VhostUser.Server;

/// <summary>
/// Waits for the front-ends of many servers on one thread named "vhost-accept", so that a disk nobody uses costs none. Each wait is for one
/// front-end. Usable from every thread; what it calls runs on its own.
/// </summary>
public sealed class SharedAcceptor : IDisposable
{
    /// <summary>Pause when the process has no descriptor left, for all servers: none of them could accept.</summary>
    private const int ExhaustedPauseMs = 100;

    private readonly Lock _gate = new();
    private readonly WakeSignal _wake = new();
    private readonly Thread _thread;

    // Shared, guarded by _gate.
    private readonly List<Wait> _waits = [];
    private bool _isDisposed;

    /// <summary>Starts the thread.</summary>
    /// <exception cref="IOException">The process has no descriptor left.</exception>
    public SharedAcceptor()
    {
        _thread = new Thread(Run) { Name = "vhost-accept", IsBackground = true };
        _thread.Start();
    }

    /// <summary>Waits for one front-end.</summary>
    /// <param name="listener">Stays the caller's; does not block, which sockets made at a path do not.</param>
    /// <param name="accepted">Takes over the connected socket. Must not block and must not throw.</param>
    /// <param name="failed">Hears that the listener listens no more. Must not block and must not throw.</param>
    internal void WaitFor(ListeningSocket listener, Action<SafeFileHandle> accepted, Action<IOException> failed)
    {
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_isDisposed, this);
            _waits.Add(new Wait(listener, accepted, failed));
        }

        _wake.Set();
    }

    /// <summary>Ends the wait; true if there was one, and then neither of its actions is called any more.</summary>
    internal bool TryCancel(ListeningSocket listener)
    {
        lock (_gate)
        {
            return _waits.RemoveAll(wait => wait.Listener == listener) > 0;
        }
    }

    /// <summary>Ends the thread. Nobody waits any more.</summary>
    public void Dispose()
    {
        lock (_gate)
        {
            if (_isDisposed)
            {
                return;
            }

            _isDisposed = true;
        }

        _wake.Set();
        _thread.Join();
        _wake.Dispose();
    }

    private void Run()
    {
        while (true)
        {
            Wait[] waits;
            lock (_gate)
            {
                if (_isDisposed)
                {
                    return;
                }

                waits = [.. _waits];
            }

            // A wait that was cancelled may be polled once more; its listener may even be closed, and another file have the number. What
            // it then seems to say is not believed: accepting begins with the list.
            Pollfd[] descriptors =
            [
                new Pollfd { fd = _wake.Descriptor, events = PollEvents.POLLIN },
                .. waits.Select(wait => new Pollfd { fd = wait.Descriptor, events = PollEvents.POLLIN }),
            ];
            if (Syscall.poll(descriptors, -1) < 0)
            {
                continue; // EINTR
            }

            _wake.Clear();
            for (int i = 0; i < waits.Length; i++)
            {
                if (descriptors[i + 1].revents != 0)
                {
                    Accept(waits[i]);
                }
            }
        }
    }

    private void Accept(Wait wait)
    {
        SafeFileHandle? connection = null;
        IOException? failure = null;
        lock (_gate)
        {
            // Under the lock the listener is not closed: who closes it cancels the wait first.
            if (!_waits.Contains(wait))
            {
                return;
            }

            try
            {
                switch (wait.Listener.AcceptNow(out connection))
                {
                    case null:
                        return;
                    case AcceptOutcome.Exhausted:
                        break;
                    default:
                        _waits.Remove(wait);
                        break;
                }
            }
            catch (IOException exception)
            {
                failure = exception;
                _waits.Remove(wait);
            }
        }

        if (connection is not null)
        {
            wait.Accepted(connection);
        }
        else if (failure is not null)
        {
            wait.Failed(failure);
        }
        else
        {
            _wake.Wait(ExhaustedPauseMs);
        }
    }

    private sealed class Wait(ListeningSocket listener, Action<SafeFileHandle> accepted, Action<IOException> failed)
    {
        public ListeningSocket Listener { get; } = listener;

        public int Descriptor { get; } = listener.Descriptor;

        public Action<SafeFileHandle> Accepted { get; } = accepted;

        public Action<IOException> Failed { get; } = failed;
    }
}
