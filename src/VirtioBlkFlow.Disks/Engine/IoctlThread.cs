namespace VirtioBlkFlow.Disks.Engine;

/// <summary>ioctl(2), or what stands for it in a test: a negative result leaves its reason in the last P/Invoke error.</summary>
internal unsafe delegate int IoctlCall(int descriptor, nuint request, void* argument);

/// <summary>
/// Makes for an engine the calls that block and that io_uring has no operation for: one after the other, on a thread that starts with the
/// first. Owned by the queue's thread, which makes every call.
/// </summary>
/// <param name="ioctl">Makes a call.</param>
/// <param name="wake">Ends the owner's sleep; from any thread.</param>
internal sealed unsafe class IoctlThread(IoctlCall ioctl, Action wake) : IDisposable
{
    // Owned by the queue's thread.
    private Thread? _thread;

    // Shared, under the lock of _calls.
    private readonly Queue<Call> _calls = new();
    private bool _stopping;

    // Shared, under its own lock; the count is read without it.
    private readonly Queue<IoCompletion> _completions = new();
    private volatile int _completionCount;

    /// <summary>Whether there is anything to reap.</summary>
    public bool HasCompletions => _completionCount > 0;

    /// <summary>Begins a call.</summary>
    public void Begin(int descriptor, nuint request, void* argument, uint token)
    {
        lock (_calls)
        {
            _calls.Enqueue(new Call(descriptor, request, (nint)argument, token));
            Monitor.Pulse(_calls);
        }

        if (_thread == null)
        {
            _thread = new Thread(Run) { IsBackground = true, Name = "ioctl" };
            _thread.Start();
        }
    }

    /// <summary>Takes what has ended.</summary>
    /// <returns>How many.</returns>
    public int Reap(Span<IoCompletion> destination)
    {
        lock (_completions)
        {
            int count = 0;
            while (count < destination.Length && _completions.TryDequeue(out IoCompletion completion))
            {
                destination[count++] = completion;
            }

            _completionCount = _completions.Count;
            return count;
        }
    }

    /// <summary>Ends the thread, which finishes what it has.</summary>
    public void Dispose()
    {
        lock (_calls)
        {
            _stopping = true;
            Monitor.Pulse(_calls);
        }

        _thread?.Join();
    }

    private void Run()
    {
        while (TryTake(out Call call))
        {
            int result = ioctl(call.Descriptor, call.Request, (void*)call.Argument);
            result = result >= 0 ? result : -Marshal.GetLastPInvokeError();
            lock (_completions)
            {
                _completions.Enqueue(new IoCompletion(IoCompletionKind.Operation, call.Token, result));
                _completionCount = _completions.Count;
            }

            // After the report, so that who is woken finds it.
            wake();
        }
    }

    private bool TryTake(out Call call)
    {
        lock (_calls)
        {
            while (!_calls.TryDequeue(out call))
            {
                if (_stopping)
                {
                    return false;
                }

                Monitor.Wait(_calls);
            }

            return true;
        }
    }

    private readonly record struct Call(int Descriptor, nuint Request, nint Argument, uint Token);
}
