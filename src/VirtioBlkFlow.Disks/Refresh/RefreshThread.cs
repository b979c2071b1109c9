using VirtioBlkFlow.Disks.Engine;

namespace VirtioBlkFlow.Disks.Refresh;

/// <summary>The thread of a refresh, with an engine of its own. It is there from the beginning of a pass to its end.</summary>
internal sealed class RefreshThread
{
    // Reads and writes are one at a time.
    private const int OperationCount = 2;

    // Fixed at construction.
    private readonly IDisk _disk;
    private readonly GuestTraffic _traffic;
    private readonly RefreshOptions _options;
    private readonly bool _rewrites;
    private readonly Action<RefreshStatus> _publish;
    private readonly Thread _thread;

    // Owned by the thread once it has started.
    private RefreshThread? _before;

    // Shared, under this lock: the pass, while it can be told something.
    private readonly Lock _telling = new();
    private EngineAgenda? _agenda;
    private RefreshPass? _pass;
    private bool _isStopping;

    // Shared: whether the pass was told to hurry and has not heard it yet.
    private int _isHurried;

    /// <summary>Starts it.</summary>
    /// <param name="disk">What is refreshed.</param>
    /// <param name="traffic">What its guest does.</param>
    /// <param name="options">How.</param>
    /// <param name="rewrites">Whether what was read is written again.</param>
    /// <param name="publish">Hears how far it has got.</param>
    /// <param name="before">The one that must have ended first; it was told to stop.</param>
    public RefreshThread(IDisk disk, GuestTraffic traffic, RefreshOptions options, bool rewrites, Action<RefreshStatus> publish, RefreshThread? before)
    {
        _disk = disk;
        _traffic = traffic;
        _options = options;
        _rewrites = rewrites;
        _publish = publish;
        _before = before;
        _thread = new Thread(Run) { Name = "refresh", IsBackground = true };
        _thread.Start();
    }

    /// <summary>Has it end soon. From any thread.</summary>
    public void Stop()
    {
        lock (_telling)
        {
            _isStopping = true;
            if (_pass is { } pass)
            {
                _agenda!.Post(pass.Stop);
            }
        }
    }

    /// <summary>Has it end the piece it is at soon. From any thread.</summary>
    public void Hurry()
    {
        lock (_telling)
        {
            if (_pass is { } pass && Interlocked.Exchange(ref _isHurried, 1) == 0)
            {
                _agenda!.Post(() =>
                {
                    Volatile.Write(ref _isHurried, 0);
                    pass.Hurry();
                });
            }
        }
    }

    /// <summary>Waits for its end.</summary>
    /// <returns>Whether it has ended in time.</returns>
    public bool Join(TimeSpan patience) => _thread.Join(patience);

    private void Run()
    {
        _before?._thread.Join();
        // Or all there ever were would be kept.
        _before = null;
        try
        {
            RunPass();
        }
        catch (Exception exception)
        {
            // The disk is served without it. A claim that was left would hold writes for ever.
            _traffic.Release();
            var status = new RefreshStatus { State = RefreshState.Failed, Rewrites = _rewrites, Error = exception.Message };
            _publish(status);
            _options.Noticed?.Invoke(new RefreshNotice(RefreshNoticeKind.Failed, 0, 0, status));
        }
    }

    private void RunPass()
    {
        IIoEngine engine = IoEngines.Create(_options.Engine, OperationCount);
        RefreshPass? pass = null;
        try
        {
            pass = new RefreshPass(_disk, engine, _traffic, _options, _rewrites, _publish);
            if (TryOpen(engine, pass))
            {
                pass.Begin();
                Turn(engine, pass);
            }
            else
            {
                _publish(new RefreshStatus { State = RefreshState.Stopped, Rewrites = _rewrites });
            }
        }
        finally
        {
            CloseToOthers();
            // First the engine: if something went wrong, the kernel may still use the memory of the pass.
            engine.Dispose();
            pass?.Dispose();
        }
    }

    private static void Turn(IIoEngine engine, RefreshPass pass)
    {
        Span<IoCompletion> completions = stackalloc IoCompletion[4];
        while (!pass.HasEnded)
        {
            engine.Wait(-1);
            int count;
            do
            {
                count = engine.Reap(completions);
                foreach (ref readonly IoCompletion completion in completions[..count])
                {
                    if (completion.Kind == IoCompletionKind.Operation)
                    {
                        pass.OnIoCompleted((int)completion.Token, completion.Result);
                    }
                }
            }
            while (count == completions.Length);
            pass.EndTurn();
        }
    }

    private bool TryOpen(IIoEngine engine, RefreshPass pass)
    {
        lock (_telling)
        {
            (_agenda, _pass) = (engine.Agenda, pass);
            return !_isStopping;
        }
    }

    private void CloseToOthers()
    {
        lock (_telling)
        {
            (_agenda, _pass) = (null, null);
        }
    }
}
