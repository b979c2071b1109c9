using System.Collections.Concurrent;

namespace VirtioBlkFlow.Device.Reactor;

/// <summary>
/// Runs tasks on a reactor's thread, between its turns. Tasks may be queued from any thread; a sleeping reactor is woken.
/// </summary>
internal sealed class ReactorTaskScheduler : TaskScheduler
{
    private readonly ConcurrentQueue<Task> _tasks = new();
    private volatile Action? _wake;
    private volatile bool _unbound;
    private Thread? _thread;

    public override int MaximumConcurrencyLevel => 1;

    /// <summary>Whether tasks wait. Cheap enough to spin on.</summary>
    public bool HasTasks => !_tasks.IsEmpty;

    /// <summary>Binds the scheduler to the calling thread.</summary>
    public void Bind() => _thread = Thread.CurrentThread;

    /// <summary>
    /// The thread ends: what is queued from now on runs on the thread pool, still one task after the other. Blocks that are linked in may
    /// complete later than the reactor.
    /// </summary>
    public void Unbind()
    {
        _unbound = true;
        // StoreLoad: the end before the look at the queue, against QueueTask, which queues and then looks for the end.
        Interlocked.MemoryBarrier();
        RunLate();
    }

    /// <summary>
    /// The reactor is about to sleep: whoever queues a task from now on calls <paramref name="wake"/>.
    /// </summary>
    /// <returns>False if a task came just before: do not sleep.</returns>
    public bool TryPrepareSleep(Action wake)
    {
        _wake = wake;
        // StoreLoad: our wish to be woken before the look at the queue, against QueueTask, which queues and then looks for the wish.
        Interlocked.MemoryBarrier();
        if (!HasTasks)
        {
            return true;
        }

        _wake = null;
        return false;
    }

    /// <summary>The reactor is awake.</summary>
    public void EndSleep() => _wake = null;

    /// <summary>Runs the tasks there are.</summary>
    /// <returns>Whether there were any.</returns>
    public bool RunTasks()
    {
        if (_tasks.IsEmpty)
        {
            return false;
        }

        // Those that are there now: one that queues itself anew must not keep the reactor from its turn.
        for (int left = _tasks.Count; left > 0 && _tasks.TryDequeue(out Task? task); left--)
        {
            TryExecuteTask(task);
        }

        return true;
    }

    protected override void QueueTask(Task task)
    {
        _tasks.Enqueue(task);
        // StoreLoad: the task before the look whether the reactor sleeps or has ended; see TryPrepareSleep, Unbind.
        Interlocked.MemoryBarrier();
        _wake?.Invoke();
        if (_unbound)
        {
            ThreadPool.UnsafeQueueUserWorkItem(static scheduler => scheduler.RunLate(), this, preferLocal: false);
        }
    }

    protected override bool TryExecuteTaskInline(Task task, bool taskWasPreviouslyQueued) =>
        Thread.CurrentThread == _thread && !taskWasPreviouslyQueued && TryExecuteTask(task);

    private void RunLate()
    {
        lock (_tasks)
        {
            while (_tasks.TryDequeue(out Task? task))
            {
                TryExecuteTask(task);
            }
        }
    }

    protected override IEnumerable<Task> GetScheduledTasks() => [.. _tasks];
}
