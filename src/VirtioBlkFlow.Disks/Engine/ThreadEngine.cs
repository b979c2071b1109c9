using System.Diagnostics;
using System.Runtime.CompilerServices;
using static VirtioBlkFlow.Disks.LibC;

namespace VirtioBlkFlow.Disks.Engine;

/// <summary>
/// I/O by blocking calls on threads of its own, for hosts where io_uring is refused. The owner sleeps in epoll_wait(2). Slower, and
/// the same otherwise.
/// </summary>
internal sealed unsafe partial class ThreadEngine : IIoEngine
{
    // Threads of one engine, started as they are needed. Arbitrary: about what a disk likes to have in flight.
    private const int MaxThreads = 16;
    private const int MaxEvents = 16;

    // struct epoll_event is packed on x86-64 only (<sys/epoll.h>): u32 events, then 8 bytes of data.
    private static readonly int s_eventDataOffset = RuntimeInformation.ProcessArchitecture == Architecture.X64 ? 4 : 8;
    private static readonly int s_eventBytes = s_eventDataOffset + 8;

    // Fixed at construction.
    private readonly SafeFileHandle _epoll;
    private readonly SafeFileHandle _wakeEvent;

    // Owned by the queue's thread.
    private readonly List<SafeFileHandle> _files = [];
    private readonly Dictionary<int, SafeFileHandle> _watches = [];
    private readonly Queue<uint> _signals = new();
    private readonly Queue<Operation> _collected = new();
    private ulong _systemCallCount;

    // Shared, under the lock of _work.
    private readonly Queue<Operation> _work = new();
    private readonly List<Thread> _threads = [];
    private int _idleThreads;
    private bool _stopping;

    // Shared, under its own lock; the count is read without it.
    private readonly Queue<IoCompletion> _completions = new();
    private volatile int _completionCount;
    private volatile bool _ownerSleeps;

    public ThreadEngine()
    {
        _epoll = Own(epoll_create1(EPOLL_CLOEXEC), "epoll_create1(2)");
        _wakeEvent = Own(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd(2)");
        ControlEpoll(EPOLL_CTL_ADD, _wakeEvent, IIoEngine.WakeToken);
        Agenda = new EngineAgenda(TimeProvider.System, Wake);
    }

    private enum Call : byte
    {
        Read,
        Write,
        Fdatasync,
        Fallocate,
        Ioctl,
    }

    public EngineAgenda Agenda { get; }

    public bool HasCompletions => _completionCount > 0 || _signals.Count > 0 || _endedSocketOperations.Count > 0 || Agenda.HasDue;

    public ulong SystemCallCount => _systemCallCount;

    public int RegisterFile(SafeFileHandle file)
    {
        int known = _files.IndexOf(file);
        if (known >= 0)
        {
            return known;
        }

        bool referenced = false;
        file.DangerousAddRef(ref referenced);
        _files.Add(file);
        return _files.Count - 1;
    }

    public void Read(int file, Iovec* pieces, int count, ulong offsetBytes, uint token) =>
        Collect(new Operation { Call = Call.Read, Descriptor = DescriptorOf(file), Pieces = pieces, Count = count, OffsetBytes = offsetBytes, Token = token });

    public void Write(int file, Iovec* pieces, int count, ulong offsetBytes, bool durable, uint token) =>
        Collect(new Operation
        {
            Call = Call.Write,
            Descriptor = DescriptorOf(file),
            Pieces = pieces,
            Count = count,
            OffsetBytes = offsetBytes,
            Token = token,
            Flags = durable ? RWF_DSYNC : 0,
        });

    public void Fdatasync(int file, uint token) => Collect(new Operation { Call = Call.Fdatasync, Descriptor = DescriptorOf(file), Token = token });

    public void Fallocate(int file, int mode, ulong offsetBytes, ulong lengthBytes, uint token) =>
        Collect(new Operation { Call = Call.Fallocate, Descriptor = DescriptorOf(file), Flags = mode, OffsetBytes = offsetBytes, LengthBytes = lengthBytes, Token = token });

    public void Ioctl(int file, nuint request, void* argument, uint token) =>
        Collect(new Operation { Call = Call.Ioctl, Descriptor = DescriptorOf(file), Request = request, Argument = argument, Token = token });

    public void Watch(int watch, SafeFileHandle descriptor)
    {
        // First what may fail: a descriptor that is not watched must not be unwatched.
        ControlEpoll(EPOLL_CTL_ADD, descriptor, (uint)watch);
        bool referenced = false;
        descriptor.DangerousAddRef(ref referenced);
        _watches.Add(watch, descriptor);
    }

    public void Unwatch(int watch)
    {
        if (_watches.Remove(watch, out SafeFileHandle? descriptor))
        {
            ControlEpoll(EPOLL_CTL_DEL, descriptor, (uint)watch);
            descriptor.DangerousRelease();
        }
    }

    public void Submit()
    {
        SubmitSockets();
        if (_collected.Count == 0)
        {
            return;
        }

        lock (_work)
        {
            while (_collected.TryDequeue(out Operation operation))
            {
                _work.Enqueue(operation);
                if (_idleThreads >= _work.Count)
                {
                    Monitor.Pulse(_work);
                }
                else if (_threads.Count < MaxThreads)
                {
                    StartThread();
                }
            }
        }
    }

    public void Wait(long timeoutNanoseconds)
    {
        Submit();
        _ownerSleeps = true;
        // StoreLoad: our sleep before the look at what is done, against a thread that reports and then looks whether we sleep.
        Interlocked.MemoryBarrier();
        long sleep = HasCompletions ? 0 : Agenda.LimitSleep(timeoutNanoseconds);
        PollSignals(sleep < 0 ? -1 : (int)Math.Min(sleep / 1_000_000 + (sleep % 1_000_000 > 0 ? 1 : 0), int.MaxValue));
        _ownerSleeps = false;
    }

    public int Reap(Span<IoCompletion> destination)
    {
        int count = 0;
        if (Agenda.HasDue)
        {
            Agenda.Run();
            destination[count++] = new IoCompletion(IoCompletionKind.Signal, IIoEngine.WakeToken, 0);
        }

        while (count < destination.Length && _signals.TryDequeue(out uint token))
        {
            destination[count++] = new IoCompletion(IoCompletionKind.Signal, token, 0);
        }

        count += ReapSockets(destination[count..]);
        if (_completionCount > 0)
        {
            lock (_completions)
            {
                while (count < destination.Length && _completions.TryDequeue(out IoCompletion completion))
                {
                    destination[count++] = completion;
                }

                _completionCount = _completions.Count;
            }
        }

        return count;
    }

    public void Wake()
    {
        ulong one = 1;
        bool referenced = false;
        try
        {
            _wakeEvent.DangerousAddRef(ref referenced);
            // A full counter (EAGAIN) means that a wake is pending already.
            write((int)_wakeEvent.DangerousGetHandle(), &one, sizeof(ulong));
        }
        catch (ObjectDisposedException)
        {
            // Nobody sleeps here any more.
        }
        finally
        {
            if (referenced)
            {
                _wakeEvent.DangerousRelease();
            }
        }
    }

    /// <summary>Order: end the threads, which finish what they have; then let go of what they used.</summary>
    public void Dispose()
    {
        lock (_work)
        {
            _stopping = true;
            Monitor.PulseAll(_work);
        }

        foreach (Thread thread in _threads)
        {
            thread.Join();
        }

        foreach (int watch in _watches.Keys.ToArray())
        {
            Unwatch(watch);
        }

        _wakeEvent.Dispose();
        _epoll.Dispose();
        foreach (SafeFileHandle file in _files)
        {
            file.DangerousRelease();
        }

        _files.Clear();
    }

    private static SafeFileHandle Own(int descriptor, string call) => descriptor >= 0
        ? new SafeFileHandle(descriptor, ownsHandle: true)
        : throw new IOException($"{call} failed: {Marshal.GetLastPInvokeErrorMessage()}.");

    private int DescriptorOf(int file) => (int)_files[file].DangerousGetHandle();

    // Each operation is one call, on a thread that has no counter of its own.
    private void Collect(Operation operation)
    {
        _systemCallCount++;
        _collected.Enqueue(operation);
    }

    // Edge-triggered: each write to an eventfd is reported once, and nobody has to read it.
    private void ControlEpoll(int operation, SafeFileHandle descriptor, uint token)
    {
        byte* epollEvent = stackalloc byte[16];
        *(uint*)epollEvent = EPOLLIN | EPOLLET;
        Unsafe.WriteUnaligned(epollEvent + s_eventDataOffset, (ulong)token);
        if (epoll_ctl((int)_epoll.DangerousGetHandle(), operation, (int)descriptor.DangerousGetHandle(), epollEvent) != 0)
        {
            throw new IOException($"epoll_ctl(2) failed: {Marshal.GetLastPInvokeErrorMessage()}.");
        }
    }

    private void PollSignals(int timeoutMs)
    {
        _systemCallCount++;
        byte* events = stackalloc byte[MaxEvents * 16];
        int count = epoll_wait((int)_epoll.DangerousGetHandle(), events, MaxEvents, timeoutMs);
        // A negative count is an interruption: the owner looks around and comes back.
        for (int i = 0; i < count; i++)
        {
            ulong data = Unsafe.ReadUnaligned<ulong>(events + (i * s_eventBytes) + s_eventDataOffset);
            if ((data & SocketMark) != 0)
            {
                OnSocketReady((int)(uint)data);
            }
            else
            {
                _signals.Enqueue((uint)data);
            }
        }
    }

    private void StartThread()
    {
        var thread = new Thread(Work) { IsBackground = true, Name = $"io-{_threads.Count}" };
        _threads.Add(thread);
        thread.Start();
    }

    private void Work()
    {
        while (true)
        {
            Operation operation;
            lock (_work)
            {
                while (!_work.TryDequeue(out operation))
                {
                    if (_stopping)
                    {
                        return;
                    }

                    _idleThreads++;
                    Monitor.Wait(_work);
                    _idleThreads--;
                }
            }

            int result = Perform(in operation);
            lock (_completions)
            {
                _completions.Enqueue(new IoCompletion(IoCompletionKind.Operation, operation.Token, result));
                _completionCount = _completions.Count;
            }

            // StoreLoad: the report before the look whether the owner sleeps; see Wait.
            Interlocked.MemoryBarrier();
            if (_ownerSleeps)
            {
                Wake();
            }
        }
    }

    private static int Perform(in Operation operation)
    {
        int descriptor = operation.Descriptor;
        long offset = (long)operation.OffsetBytes;
        nint result = operation.Call switch
        {
            Call.Read => preadv(descriptor, operation.Pieces, operation.Count, offset),
            Call.Write => pwritev2(descriptor, operation.Pieces, operation.Count, offset, operation.Flags),
            Call.Fdatasync => fdatasync(descriptor),
            Call.Fallocate => fallocate(descriptor, operation.Flags, offset, (long)operation.LengthBytes),
            Call.Ioctl => ioctl(descriptor, operation.Request, operation.Argument),
            _ => throw new UnreachableException(),
        };
        return result >= 0 ? (int)result : -Marshal.GetLastPInvokeError();
    }

    private struct Operation
    {
        public Call Call;
        public int Descriptor;
        public int Flags;
        public Iovec* Pieces;
        public int Count;
        public ulong OffsetBytes;
        public ulong LengthBytes;
        public nuint Request;
        public void* Argument;
        public uint Token;
    }
}
