using System.Diagnostics;
using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.Benchmarks.Servers;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.Device.Reactor;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.VhostUser;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.Benchmarks.Study.Serving;

/// <summary>Makes the server of a ring, on the thread that will have it.</summary>
internal delegate QueueServer ServerMaker(Virtqueue virtqueue, IIoEngine engine, ReactorTaskScheduler scheduler);

/// <summary>
/// The thread of a queue that is not served by the pipeline. It does what the device's reactor does: turns while there is something to do,
/// then it spins for a while by the same policy, then it asks for kicks and sleeps in its engine. So variants differ in what a turn is.
/// </summary>
/// <remarks>Public members may be called from any thread but the queue's own, one at a time; each is carried out between two turns.</remarks>
internal sealed class StudyQueue : IDisposable
{
    // A ring without a kick, and one that drains, is looked at this often while idle, in nanoseconds: as the reactor does. Arbitrary.
    private const long PollIntervalNanoseconds = 100_000;

    private const int KickWatch = 0;

    // Fixed at construction.
    private readonly ServerMaker _make;
    private readonly Action _onBroken;
    private readonly ReactorTaskScheduler _scheduler = new();
    private readonly CommandMailbox _mailbox;
    private readonly SpinPolicy _spin = new(PollMode.Adaptive);
    private readonly Thread _thread;

    // Owned by the queue's thread. The server is there while the queue is started.
    private IIoEngine _engine = null!;
    private Action _wake = null!;
    private QueueServer? _server;
    private TaskCompletionSource? _drained;
    private bool _hasKick;
    private bool _hasReturned;
    private bool _exiting;

    /// <summary>Starts the thread and its engine.</summary>
    /// <param name="operationCount">Operations that may be in flight at once.</param>
    /// <param name="make">Makes the server of each start.</param>
    /// <param name="onBroken">Hears, on the queue's thread, that the driver broke the ring.</param>
    /// <exception cref="VhostUserRefusedException">The engine cannot be had.</exception>
    public StudyQueue(int operationCount, ServerMaker make, Action onBroken)
    {
        _make = make;
        _onBroken = onBroken;
        _mailbox = new CommandMailbox(_scheduler);
        var started = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        _thread = new Thread(() => Run(operationCount, started)) { Name = "queue-0", IsBackground = true };
        _thread.Start();
        try
        {
            started.Task.GetAwaiter().GetResult();
        }
        catch (Exception exception)
        {
            throw new VhostUserRefusedException($"queue-0 cannot start: {exception.Message}");
        }
    }

    /// <summary>Begins to serve a ring.</summary>
    public void Start(QueueSetup setup, GuestMemory memory) => _mailbox.Run(() =>
    {
        var virtqueue = Virtqueue.Create(new VirtqueueSetup
        {
            QueueSize = setup.Rings.Size,
            Addresses = ReactorQueue.AddressesOf(setup.Rings),
            Memory = memory,
            Features = (VirtioFeatures)setup.Features,
            Position = new RingPosition(setup.NextAvailable, setup.NextUsed),
        });
        _server = _make(virtqueue, _engine, _scheduler);
        SetKick(setup.Kick);
        SetCall(setup.Call);
    });

    /// <summary>Stops fetching, waits until nothing is in flight, lets go of the ring.</summary>
    /// <returns>Index of the next available entry.</returns>
    public ushort Stop() => _mailbox.Ask(async () =>
    {
        QueueServer server = await DrainAsync();
        SetKick(null);
        SetCall(null);
        ushort next = server.NextAvailable;
        _server = null;
        server.Dispose();
        return next;
    });

    /// <summary>Swaps in new memory at a moment when nothing is in flight.</summary>
    public void ReplaceMemory(GuestMemory memory, RingAddresses addresses) => _mailbox.Ask(async () =>
    {
        bool wasFetching = _server!.IsFetching;
        QueueServer server = await DrainAsync();
        server.ReplaceMemory(memory, addresses);
        server.IsFetching = wasFetching;
        return true;
    });

    /// <summary>Takes kicks from another descriptor; null to poll.</summary>
    public void ReplaceKick(SafeFileHandle? kick) => _mailbox.Run(() => SetKick(kick));

    /// <summary>Calls through another descriptor, and signals it once.</summary>
    public void ReplaceCall(SafeFileHandle? call) => _mailbox.Run(() =>
    {
        SetCall(call);
        _server!.Call?.Signal();
    });

    /// <summary>Ends the thread. The queue must be stopped.</summary>
    public void Dispose()
    {
        _mailbox.Run(() => { _exiting = true; });
        _thread.Join();
    }

    private void Run(int operationCount, TaskCompletionSource started)
    {
        _scheduler.Bind();
        try
        {
            _engine = IoEngines.Create(IoEngineKind.IoUring, operationCount);
        }
        catch (Exception exception)
        {
            started.SetException(exception);
            return;
        }

        _wake = _engine.Wake;
        started.SetResult();
        try
        {
            while (!_exiting)
            {
                bool progressed = _scheduler.RunTasks();
                if (_server is { } server)
                {
                    ushort used = server.NextUsed;
                    if (server.TryTurn())
                    {
                        progressed = true;
                        _hasReturned = server.NextUsed != used;
                    }

                    Settle(server);
                }

                if (!progressed)
                {
                    Idle(_server);
                }
            }
        }
        catch (Exception exception)
        {
            // As the reactor: one that dies silently would leave requests without an answer for ever.
            Environment.FailFast("The thread queue-0 failed.", exception);
        }
        finally
        {
            _mailbox.Close();
            _scheduler.Unbind();
            _engine.Dispose();
        }
    }

    private void Settle(QueueServer server)
    {
        if (_drained != null && server.InFlightCount == 0)
        {
            _drained.SetResult();
            _drained = null;
        }

        if (server.Defect != RingDefect.None && server.IsFetching)
        {
            server.IsFetching = false;
            _onBroken();
        }
    }

    private void Idle(QueueServer? server)
    {
        if (server != null && _spin.ShouldSpin(_hasReturned))
        {
            server.SuppressKicks();
            if (SpinForWork(server, out long lookedAt))
            {
                _spin.OnFound(lookedAt);
                return;
            }

            _spin.OnFruitless();
        }

        bool hasWork = server != null && server.RequestKicks();
        if (!hasWork && _scheduler.TryPrepareSleep(_wake))
        {
            _engine.Wait(server == null || (_hasKick && _drained == null) ? -1 : PollIntervalNanoseconds);
            _scheduler.EndSleep();
        }

        server?.SuppressKicks();
        if (server == null && _engine.HasCompletions)
        {
            // A server reaps in its turn; without one, what woke us is only taken.
            Span<IoCompletion> signals = stackalloc IoCompletion[64];
            _engine.Reap(signals);
        }
    }

    private bool SpinForWork(QueueServer server, out long lookedAt)
    {
        long deadline = _spin.Deadline();
        lookedAt = 0;
        do
        {
            if (_engine.HasCompletions || _scheduler.HasTasks || server.HasWork)
            {
                return true;
            }

            Thread.SpinWait(4);
            lookedAt = Stopwatch.GetTimestamp();
        }
        while (lookedAt < deadline);
        return false;
    }

    // The await comes back to the queue's thread, as its scheduler is the current one of every command.
    private async Task<QueueServer> DrainAsync()
    {
        QueueServer server = _server!;
        server.IsFetching = false;
        if (server.InFlightCount > 0)
        {
            _drained = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            await _drained.Task;
        }

        return server;
    }

    private void SetKick(SafeFileHandle? kick)
    {
        _engine.Unwatch(KickWatch);
        _hasKick = kick != null;
        if (kick != null)
        {
            try
            {
                _engine.Watch(KickWatch, kick);
            }
            catch (IOException)
            {
                // What cannot be waited on is as good as no kick: the ring is polled.
                _hasKick = false;
            }
        }
    }

    private void SetCall(SafeFileHandle? call)
    {
        EventDescriptor? old = _server!.Call;
        _server.Call = call == null ? null : new EventDescriptor(call);
        old?.Dispose();
    }
}
