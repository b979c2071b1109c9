using System.Collections.Concurrent;
using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;

namespace VirtioBlkFlow.ConformanceTests.Rig;

/// <summary>
/// A disk that keeps a record of every operation its inner disk gives to the engine, can hold requests back before they reach it, and can
/// make the host answer otherwise than it did. What is done to requests is done on the thread of their queue.
/// </summary>
internal sealed class ObservedDisk(IDisk inner, uint logicalBlockBytes = 512) : IDisk
{
    private readonly ConcurrentQueue<IoStep> _steps = new();
    private readonly ConcurrentBag<ObservedQueue> _queues = [];
    private volatile Func<DiskOperation, bool> _holds = _ => false;
    private volatile Func<IoKind, int, int> _resultOf = (_, result) => result;
    private int _heldCount;

    public DiskProperties Properties => inner.Properties with
    {
        LogicalBlockBytes = logicalBlockBytes,
        CanSecureErase = ClaimsSecureErase,
        HasLifetime = Lifetime is not null,
    };

    /// <summary>Whether it says that it can erase for good, which a file cannot.</summary>
    public bool ClaimsSecureErase { get; init; }

    /// <summary>What it says of its wear; null for nothing, as a file.</summary>
    public DiskLifetime? Lifetime { get; init; }

    public DiskResize Refresh() => inner.Refresh();

    /// <summary>Every operation of the engine so far, its beginning and its end.</summary>
    public IReadOnlyList<IoStep> Steps => [.. _steps];

    /// <summary>Requests held back now.</summary>
    public int HeldCount => Volatile.Read(ref _heldCount);

    /// <summary>Which requests to hold back until <see cref="ServedDevice.Release"/>.</summary>
    public void Hold(Func<DiskOperation, bool> which) => _holds = which;

    /// <summary>What to make of the host's answers: bytes or 0, or a negated errno.</summary>
    public void Answer(Func<IoKind, int, int> resultOf) => _resultOf = resultOf;

    public IDiskQueue OpenQueue(IIoEngine engine, IDiskCompletions completions, int slotCount)
    {
        ObservedQueue queue = new(this, inner.OpenQueue(new ObservedEngine(this, engine), completions, slotCount), slotCount);
        _queues.Add(queue);
        return queue;
    }

    public DiskOutcome Flush()
    {
        _steps.Enqueue(new IoStep(IoKind.Fdatasync, 0, true, HasEnded: false));
        DiskOutcome outcome = inner.Flush();
        _steps.Enqueue(new IoStep(IoKind.Fdatasync, 0, true, HasEnded: true));
        return outcome;
    }

    /// <summary>Gives what the calling thread's queue holds back to the inner disk, and holds nothing any more.</summary>
    public void ReleaseOwn()
    {
        foreach (ObservedQueue queue in _queues)
        {
            queue.ReleaseIfOwned();
        }
    }

    public void Dispose() => inner.Dispose();

    private sealed class ObservedQueue(ObservedDisk disk, IDiskQueue inner, int slotCount) : IDiskQueue
    {
        private readonly int _owner = Environment.CurrentManagedThreadId;
        private readonly List<(int Slot, DiskRequest Request)> _held = [];
        private readonly DiskOperation[] _operations = new DiskOperation[slotCount];

        public void Submit(int slot, in DiskRequest request)
        {
            _operations[slot] = request.Operation;
            if (disk._holds(request.Operation))
            {
                _held.Add((slot, request));
                Interlocked.Increment(ref disk._heldCount);
                return;
            }

            inner.Submit(slot, in request);
        }

        public void OnIoCompleted(int slot, int result)
        {
            IoKind kind = _operations[slot] switch
            {
                DiskOperation.Read => IoKind.Read,
                DiskOperation.Write => IoKind.Write,
                DiskOperation.Flush => IoKind.Fdatasync,
                _ => IoKind.Fallocate,
            };
            disk._steps.Enqueue(new IoStep(kind, 0, false, HasEnded: true));
            inner.OnIoCompleted(slot, disk._resultOf(kind, result));
        }

        public void ReleaseIfOwned()
        {
            if (_owner != Environment.CurrentManagedThreadId)
            {
                return;
            }

            (int Slot, DiskRequest Request)[] released = [.. _held];
            _held.Clear();
            foreach ((int slot, DiskRequest request) in released)
            {
                Interlocked.Decrement(ref disk._heldCount);
                inner.Submit(slot, in request);
            }
        }

        public void Dispose() => inner.Dispose();
    }

    private sealed unsafe class ObservedEngine(ObservedDisk disk, IIoEngine inner) : IIoEngine
    {
        public bool HasCompletions => inner.HasCompletions;

        public ulong SystemCallCount => inner.SystemCallCount;

        public EngineAgenda Agenda => inner.Agenda;

        public int RegisterFile(SafeFileHandle file) => inner.RegisterFile(file);

        public void Read(int file, Virtio.Iovec* pieces, int count, ulong offsetBytes, uint token)
        {
            disk._steps.Enqueue(new IoStep(IoKind.Read, offsetBytes, false, HasEnded: false));
            inner.Read(file, pieces, count, offsetBytes, token);
        }

        public void Write(int file, Virtio.Iovec* pieces, int count, ulong offsetBytes, bool durable, uint token)
        {
            disk._steps.Enqueue(new IoStep(IoKind.Write, offsetBytes, durable, HasEnded: false));
            inner.Write(file, pieces, count, offsetBytes, durable, token);
        }

        public void Fdatasync(int file, uint token)
        {
            disk._steps.Enqueue(new IoStep(IoKind.Fdatasync, 0, true, HasEnded: false));
            inner.Fdatasync(file, token);
        }

        public void Fallocate(int file, int mode, ulong offsetBytes, ulong lengthBytes, uint token)
        {
            disk._steps.Enqueue(new IoStep(IoKind.Fallocate, offsetBytes, false, HasEnded: false));
            inner.Fallocate(file, mode, offsetBytes, lengthBytes, token);
        }

        public void Ioctl(int file, nuint request, void* argument, uint token) => inner.Ioctl(file, request, argument, token);

        public void Watch(int watch, SafeFileHandle descriptor) => inner.Watch(watch, descriptor);

        public void Unwatch(int watch) => inner.Unwatch(watch);

        public void Submit() => inner.Submit();

        public void Wait(long timeoutNanoseconds) => inner.Wait(timeoutNanoseconds);

        public int Reap(Span<IoCompletion> destination) => inner.Reap(destination);

        public void Wake() => inner.Wake();

        public void Dispose()
        {
            // The reactor's, which outlives every disk queue.
        }
    }
}

/// <summary>What an engine is asked to do.</summary>
internal enum IoKind
{
    Read,
    Write,
    Fdatasync,
    Fallocate,
}

/// <summary>The beginning or the end of an operation.</summary>
internal readonly record struct IoStep(IoKind Kind, ulong OffsetBytes, bool Durable, bool HasEnded);
