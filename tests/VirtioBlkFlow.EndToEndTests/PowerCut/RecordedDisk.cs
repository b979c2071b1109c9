using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Virtio;

namespace VirtioBlkFlow.EndToEndTests.PowerCut;

/// <summary>A disk over one file that writes down what is asked of that file. All is done, and by the device's own engine.</summary>
/// <param name="inner">Belongs to this one.</param>
/// <param name="log">Where to write it down.</param>
internal sealed class RecordedDisk(IDisk inner, StorageLog log) : IDisk
{
    public DiskProperties Properties => inner.Properties;

    public IDiskQueue OpenQueue(IIoEngine engine, IDiskCompletions completions, int slotCount) => new Queue(inner, log, engine, completions, slotCount);

    public DiskOutcome Flush()
    {
        int operation = log.BeginSync();
        DiskOutcome outcome = inner.Flush();
        log.End(operation, outcome == DiskOutcome.Done ? 0 : -1);
        return outcome;
    }

    public void Dispose() => inner.Dispose();

    private sealed class Queue : IDiskQueue
    {
        private readonly StorageLog _log;
        private readonly RecordingEngine _engine;
        private readonly IDiskQueue _inner;

        public Queue(IDisk inner, StorageLog log, IIoEngine engine, IDiskCompletions completions, int slotCount)
        {
            _log = log;
            _engine = new RecordingEngine(log, engine, slotCount);
            _inner = inner.OpenQueue(_engine, completions, slotCount);
        }

        public void Submit(int slot, in DiskRequest request) => _inner.Submit(slot, in request);

        public void OnIoCompleted(int slot, int result)
        {
            // A slot has one operation in flight at a time. Reads are not written down.
            if (_engine.OperationOf[slot] != 0)
            {
                _log.End(_engine.OperationOf[slot], result);
                _engine.OperationOf[slot] = 0;
            }

            _inner.OnIoCompleted(slot, result);
        }

        public bool EndHeld() => _inner.EndHeld();

        public void Dispose() => _inner.Dispose();
    }

    private sealed unsafe class RecordingEngine(StorageLog log, IIoEngine inner, int slotCount) : IIoEngine
    {
        /// <summary>What a slot has in flight; 0 for nothing that is written down.</summary>
        public int[] OperationOf { get; } = new int[slotCount];

        public bool HasCompletions => inner.HasCompletions;

        public ulong SystemCallCount => inner.SystemCallCount;

        public EngineAgenda Agenda => inner.Agenda;

        public int RegisterFile(SafeFileHandle file) => inner.RegisterFile(file);

        public void Read(int file, Iovec* pieces, int count, ulong offsetBytes, uint token) => inner.Read(file, pieces, count, offsetBytes, token);

        public void Write(int file, Iovec* pieces, int count, ulong offsetBytes, bool durable, uint token)
        {
            nuint length = 0;
            foreach (Iovec piece in new ReadOnlySpan<Iovec>(pieces, count))
            {
                length += piece.LengthBytes;
            }

            byte[] data = new byte[length];
            Iovec.Gather(pieces, count, data);
            OperationOf[token] = log.BeginWrite((long)offsetBytes, data, durable);
            inner.Write(file, pieces, count, offsetBytes, durable, token);
        }

        public void Fdatasync(int file, uint token)
        {
            OperationOf[token] = log.BeginSync();
            inner.Fdatasync(file, token);
        }

        public void Fallocate(int file, int mode, ulong offsetBytes, ulong lengthBytes, uint token)
        {
            OperationOf[token] = log.BeginZeroes((long)offsetBytes, (long)lengthBytes);
            inner.Fallocate(file, mode, offsetBytes, lengthBytes, token);
        }

        public void Ioctl(int file, nuint request, void* argument, uint token) => throw new NotSupportedException("A file is asked for nothing by ioctl.");

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
