using VirtioBlkFlow.Device.Reactor;

namespace VirtioBlkFlow.UnitTests.Device;

/// <summary>A thread that runs a reactor's scheduler and nothing else: enough of a reactor for a single block.</summary>
internal sealed class ReactorThread : IDisposable
{
    private readonly ReactorTaskScheduler _scheduler = new();
    private readonly SemaphoreSlim _wake = new(0);
    private readonly Thread _thread;
    private volatile bool _exiting;

    public ReactorThread()
    {
        _thread = new Thread(Run) { IsBackground = true, Name = "reactor" };
        _thread.Start();
    }

    public TaskScheduler Scheduler => _scheduler;

    public int ManagedThreadId => _thread.ManagedThreadId;

    public T Ask<T>(Func<T> body)
    {
        Task<T> task = Task.Factory.StartNew(body, CancellationToken.None, TaskCreationOptions.None, _scheduler);
        Eventually.Ends(task, "the reactor runs a task");
        return task.Result;
    }

    public void Run(Action body) => Ask(() =>
    {
        body();
        return 0;
    });

    /// <summary>Returns when the reactor has done what it had to do, and what that led to.</summary>
    public void LetTurnsPass()
    {
        for (int i = 0; i < 10; i++)
        {
            Run(static () => { });
        }
    }

    public void Dispose()
    {
        _exiting = true;
        _wake.Release();
        _thread.Join();
        _wake.Dispose();
    }

    private void Run()
    {
        _scheduler.Bind();
        while (!_exiting)
        {
            if (!_scheduler.RunTasks() && _scheduler.TryPrepareSleep(() => _wake.Release()))
            {
                _wake.Wait();
                _scheduler.EndSleep();
            }
        }
    }
}
