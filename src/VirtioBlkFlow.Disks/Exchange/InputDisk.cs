using VirtioBlkFlow.Disks.Engine;
using static VirtioBlkFlow.Disks.LibC;

namespace VirtioBlkFlow.Disks.Exchange;

/// <summary>A file of any length as a read-only disk: behind its last byte are zeros. Shared by all queues.</summary>
internal sealed class InputDisk(SafeFileHandle file, ulong lengthBytes, ulong capacityBytes) : IDisk
{
    public DiskProperties Properties { get; } = new() { CapacityBytes = capacityBytes, PhysicalBlockBytes = 4096, ReadOnly = true };

    public IDiskQueue OpenQueue(IIoEngine engine, IDiskCompletions completions, int slotCount) =>
        new Queue(engine, engine.RegisterFile(file), lengthBytes, capacityBytes, completions, slotCount);

    public DiskOutcome Flush() => DiskOutcome.Done;

    public void Dispose() => file.Dispose();

    /// <summary>Owned by the queue's thread. One operation of the engine after the other for each slot, until the request is whole.</summary>
    private sealed unsafe class Queue(
        IIoEngine engine, int file, ulong lengthBytes, ulong capacityBytes, IDiskCompletions completions, int slotCount) : IDiskQueue
    {
        // EAGAIN and EINTR of one operation that are answered by trying again. Arbitrary; it only has to end.
        private const int MaxRetries = 16;

        private readonly Work[] _works = new Work[slotCount];

        public void Submit(int slot, in DiskRequest request)
        {
            switch (request.Operation)
            {
                case DiskOperation.Read when request.OffsetBytes > capacityBytes || request.LengthBytes > capacityBytes - request.OffsetBytes:
                case DiskOperation.Write:
                    completions.OnCompleted(slot, DiskOutcome.Failed);
                    break;
                case DiskOperation.Read:
                    _works[slot] = new Work { Request = request };
                    Go(slot, ref _works[slot]);
                    break;
                case DiskOperation.Flush:
                    completions.OnCompleted(slot, DiskOutcome.Done);
                    break;
                default:
                    completions.OnCompleted(slot, DiskOutcome.Unsupported);
                    break;
            }
        }

        public void OnIoCompleted(int slot, int result)
        {
            ref Work work = ref _works[slot];
            if (result is -EAGAIN or -EINTR && work.Retries++ < MaxRetries)
            {
                Go(slot, ref work);
                return;
            }

            // Nothing where there was something: the file was cut short since.
            if (result <= 0)
            {
                completions.OnCompleted(slot, DiskOutcome.Failed);
                return;
            }

            // A read of the last sector may bring more than the input had when it was opened; the guest sees zeros there, always.
            uint bytes = (uint)Math.Min((ulong)result, lengthBytes - work.Request.OffsetBytes);
            work.Request.OffsetBytes += bytes;
            work.Request.LengthBytes -= bytes;
            Iovec.Advance(ref work.Request.Pieces, ref work.Request.PieceCount, bytes);
            Go(slot, ref work);
        }

        public void Dispose()
        {
        }

        private void Go(int slot, ref Work work)
        {
            ref DiskRequest request = ref work.Request;
            if (request.LengthBytes > 0 && request.OffsetBytes < lengthBytes)
            {
                engine.Read(file, request.Pieces, Math.Min(request.PieceCount, IIoEngine.MaxPieces), request.OffsetBytes, (uint)slot);
                return;
            }

            for (int i = 0; i < request.PieceCount; i++)
            {
                NativeMemory.Clear(request.Pieces[i].Base, request.Pieces[i].LengthBytes);
            }

            completions.OnCompleted(slot, DiskOutcome.Done);
        }

        private struct Work
        {
            public DiskRequest Request;
            public int Retries;
        }
    }
}
