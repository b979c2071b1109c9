using System.Diagnostics;
using Microsoft.Extensions.Logging;
using VirtioBlkFlow.Device.Latency;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.VhostUser;

namespace VirtioBlkFlow.Device.Reactor;

/// <summary>
/// One thread that serves queues, mostly a single one: it owns the engine, and with it each queue's ring, slots and blocks, which it runs
/// inline. A turn: tasks and commands → fetch → one call to the engine for all operations → completions → one publish for each queue. Then it
/// spins a little, then it sleeps.
/// </summary>
[DebuggerDisplay("{_name}, {_running.Length} queues")]
internal sealed class QueueReactor : IDisposable
{
    /// <summary>
    /// Bits of an engine's token that are the slot; above it is the queue's number. A queue has 32768 slots at most (VIRTIO 1.4, "Split
    /// Virtqueues": "Queue Size").
    /// </summary>
    public const int SlotBits = 16;

    // A queue without a kick is looked at this often while idle, in nanoseconds. Arbitrary.
    private const long PollIntervalNanoseconds = 100_000;

    // Fixed at construction.
    private readonly string _name;
    private readonly ReactorOptions _options;
    private readonly ReactorTaskScheduler _scheduler = new();
    private readonly CommandMailbox _mailbox;
    private readonly ILogger _logger;
    private readonly SpinPolicy _spin;
    private readonly Thread _thread;

    // Owned by the reactor's thread.
    private readonly List<ReactorQueue?> _queues = [];
    private ReactorQueue[] _running = [];
    private IIoEngine _engine = null!;
    private Action _wake = null!;
    private bool _exiting;

    // Whether the last turn that did anything returned requests to a driver.
    private bool _hasReturned;

    /// <summary>Starts the thread and its engine.</summary>
    /// <param name="name">Of the thread.</param>
    /// <param name="options">How it works.</param>
    /// <param name="operationCount">Operations that may be in flight at once.</param>
    /// <param name="counters">Counts what the thread does.</param>
    /// <param name="logger">Hears why a thread failed.</param>
    /// <exception cref="VhostUserRefusedException">The engine or the processor cannot be had.</exception>
    public QueueReactor(string name, ReactorOptions options, int operationCount, ThreadCounters counters, ILogger logger)
    {
        _name = name;
        _options = options;
        _logger = logger;
        _spin = new SpinPolicy(options.Polling);
        Counters = counters;
        _mailbox = new CommandMailbox(_scheduler);
        var started = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        _thread = new Thread(() => Run(operationCount, started)) { Name = name, IsBackground = true };
        _thread.Start();
        try
        {
            started.Task.GetAwaiter().GetResult();
        }
        catch (Exception exception)
        {
            throw new VhostUserRefusedException($"{name} cannot start: {exception.Message}");
        }
    }

    /// <summary>Runs tasks on the reactor's thread, between its turns.</summary>
    public TaskScheduler Scheduler => _scheduler;

    /// <summary>What the thread does.</summary>
    public ThreadCounters Counters { get; }

    /// <summary>Does the I/O. On the reactor's thread.</summary>
    public IIoEngine Engine => _engine;

    /// <summary>From now on a queue has its turns. On the reactor's thread.</summary>
    /// <returns>Its number here: that of its watch on the kick, and the upper part of its tokens.</returns>
    public int Enter(ReactorQueue queue)
    {
        int number = _queues.IndexOf(null);
        if (number < 0)
        {
            number = _queues.Count;
            _queues.Add(null);
        }

        _queues[number] = queue;
        _running = [.. _running, queue];
        return number;
    }

    /// <summary>A queue has no more turns; nothing of it may be in flight. On the reactor's thread.</summary>
    public void Leave(int number)
    {
        _running = [.. _running.Where(queue => queue != _queues[number])];
        _queues[number] = null;
    }

    /// <summary>Ends the thread. All queues must be stopped. From any thread but the reactor's own.</summary>
    public void Dispose()
    {
        if (_thread.IsAlive)
        {
            _mailbox.Run(() => { _exiting = true; });
            _thread.Join();
        }
    }

    private void Run(int operationCount, TaskCompletionSource started)
    {
        _scheduler.Bind();
        try
        {
            if (_options.Processor is { } processor)
            {
                Processors.PinThread(processor);
            }

            _engine = IoEngines.Create(_options.Engine, operationCount);
        }
        catch (Exception exception)
        {
            started.SetException(exception);
            return;
        }

        Counters.BeginEngine();
        _wake = _engine.Wake;
        started.SetResult();
        try
        {
            while (!_exiting)
            {
                if (!Turn())
                {
                    Idle();
                }
            }
        }
        catch (Exception exception)
        {
            // A reactor that dies silently would leave requests without an answer for ever.
            Log.ReactorFailed(_logger, _name, exception);
            Environment.FailFast($"The thread {_name} failed.", exception);
        }
        finally
        {
            _mailbox.Close();
            _scheduler.Unbind();
            _engine.Dispose();
        }
    }

    private bool Turn()
    {
        bool progressed = _scheduler.RunTasks();
        // A task may start and stop queues; nothing below does.
        ReactorQueue[] running = _running;
        foreach (ReactorQueue queue in running)
        {
            progressed |= queue.Fetch();
        }

        _engine.Submit();
        progressed |= Reap();
        bool returned = false;
        foreach (ReactorQueue queue in running)
        {
            returned |= queue.Settle();
        }

        if (progressed)
        {
            _hasReturned = returned;
            Counters.NoteSystemCalls(_engine.SystemCallCount);
        }

        return progressed;
    }

    private bool Reap()
    {
        if (!_engine.HasCompletions)
        {
            return false;
        }

        Span<IoCompletion> completions = stackalloc IoCompletion[64];
        int count;
        bool any = false;
        do
        {
            count = _engine.Reap(completions);
            any |= count > 0;
            for (int i = 0; i < count; i++)
            {
                // Signals only end a sleep: the rings are looked at in every turn.
                if (completions[i].Kind == IoCompletionKind.Operation)
                {
                    uint token = completions[i].Token;
                    _queues[(int)(token >> SlotBits)]!.OnIoCompleted((int)(token & ((1u << SlotBits) - 1)), completions[i].Result);
                }
                else if (completions[i].Token != IIoEngine.WakeToken)
                {
                    _queues[(int)completions[i].Token]?.CountKick();
                }
            }
        }
        while (count == completions.Length);
        return any;
    }

    private void Idle()
    {
        ReactorQueue[] running = _running;
        if (running.Length > 0 && _spin.ShouldSpin(_hasReturned))
        {
            foreach (ReactorQueue queue in running)
            {
                queue.SuppressKicks();
            }

            bool found = SpinForWork(running, out long lookedAt);
            Counters.CountSpin(found);
            if (found)
            {
                _spin.OnFound(lookedAt);
                return;
            }

            _spin.OnFruitless();
        }

        long timeout = -1;
        bool hasWork = false;
        foreach (ReactorQueue queue in running)
        {
            hasWork |= queue.RequestKicks();
            timeout = Earlier(timeout, queue.HasKick ? -1 : PollIntervalNanoseconds);
            timeout = Earlier(timeout, queue.NanosecondsToCall());
        }

        if (!hasWork && _scheduler.TryPrepareSleep(_wake))
        {
            Counters.CountSleep();
            _engine.Wait(timeout);
            _scheduler.EndSleep();
            foreach (ReactorQueue queue in running)
            {
                queue.OnSleepEnded();
            }
        }

        foreach (ReactorQueue queue in running)
        {
            queue.SuppressKicks();
        }
    }

    // Of two times to wait the shorter; negative is for ever.
    private static long Earlier(long one, long other) => one < 0 ? other : other < 0 ? one : Math.Min(one, other);

    // lookedAt: when it last found nothing, 0 if it never did.
    private bool SpinForWork(ReactorQueue[] running, out long lookedAt)
    {
        long deadline = _spin.Deadline();
        long now = 0;
        do
        {
            if (_engine.HasCompletions || _scheduler.HasTasks || AnyCanFetch(running) || AnyCallIsDue(running, now))
            {
                lookedAt = now;
                if (now != 0)
                {
                    TellSpinEnded(running, now);
                }

                return true;
            }

            Thread.SpinWait(4);
            now = Stopwatch.GetTimestamp();
        }
        while (now < deadline);
        lookedAt = now;
        return false;
    }

    private static bool AnyCanFetch(ReactorQueue[] running)
    {
        foreach (ReactorQueue queue in running)
        {
            if (queue.CanFetch)
            {
                return true;
            }
        }

        return false;
    }

    private static bool AnyCallIsDue(ReactorQueue[] running, long now)
    {
        foreach (ReactorQueue queue in running)
        {
            if (queue.CallIsDue(now))
            {
                return true;
            }
        }

        return false;
    }

    private static void TellSpinEnded(ReactorQueue[] running, long lookedAt)
    {
        foreach (ReactorQueue queue in running)
        {
            queue.OnSpinEnded(lookedAt);
        }
    }
}
