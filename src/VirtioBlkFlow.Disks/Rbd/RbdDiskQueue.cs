using System.Runtime.CompilerServices;
using Mono.Unix.Native;
using VirtioBlkFlow.Disks.Engine;
using static VirtioBlkFlow.Disks.Rbd.LibRbd;

namespace VirtioBlkFlow.Disks.Rbd;

/// <summary>
/// One queue's way to an image: each request is one operation of librbd after the other. Owned by the queue's thread, but for what librbd's
/// threads do when an operation ends: they put it on a list, and the first one wakes the queue, which takes the whole list at once.
/// </summary>
internal sealed unsafe class RbdDiskQueue : IDiskQueue
{
    // A discard or zeroing of more is done in steps, so that not all of its objects are in flight at once. Arbitrary.
    private const ulong MaxStepBytes = 1UL << 30;

    // Fixed at construction.
    private readonly RbdDisk _disk;
    private readonly nint _image;
    private readonly EngineAgenda _agenda;
    private readonly IDiskCompletions _completions;
    private readonly Action _collect;

    // Owned by the queue's thread.
    private readonly Work[] _works;
    private Operation* _operations;
    private GCHandle _self;
    private int _inFlight;

    // Shared: the operations that have ended, the last one first, and how many threads are just putting one there.
    private nint _ended;
    private int _callsUnderWay;

    public RbdDiskQueue(RbdDisk disk, EngineAgenda agenda, IDiskCompletions completions, int slotCount)
    {
        _disk = disk;
        _image = disk.Image.Handle;
        _agenda = agenda;
        _completions = completions;
        _collect = Collect;
        _works = new Work[slotCount];
        _self = GCHandle.Alloc(this);
        _operations = (Operation*)NativeMemory.AllocZeroed((nuint)slotCount, (nuint)sizeof(Operation));
        for (int slot = 0; slot < slotCount; slot++)
        {
            _operations[slot].Queue = GCHandle.ToIntPtr(_self);
            _operations[slot].Slot = slot;
        }
    }

    /// <inheritdoc/>
    public void Submit(int slot, in DiskRequest request)
    {
        ref Work work = ref _works[slot];
        work.Request = request;
        bool isReader = _disk.Properties.ReadOnly;
        switch (request.Operation)
        {
            case DiskOperation.Read or DiskOperation.Write when !IsInside(request.OffsetBytes, request.LengthBytes):
            case DiskOperation.Write when isReader || _disk.LockLost:
            case DiskOperation.Flush when _disk.LockLost:
            case DiskOperation.Discard or DiskOperation.WriteZeroes when !isReader && (_disk.LockLost || !AreInside(in request)):
                _completions.OnCompleted(slot, DiskOutcome.Failed);
                break;
            case DiskOperation.Read or DiskOperation.Write when request.LengthBytes == 0:
            case DiskOperation.Flush when isReader:
                _completions.OnCompleted(slot, DiskOutcome.Done);
                break;
            case DiskOperation.Read or DiskOperation.Write or DiskOperation.Flush:
                Begin(slot, ref work);
                break;
            case DiskOperation.Discard or DiskOperation.WriteZeroes when !isReader:
                work.RangeIndex = 0;
                work.RangeDoneBytes = 0;
                BeginNextStep(slot, ref work);
                break;
            default:
                _completions.OnCompleted(slot, DiskOutcome.Unsupported);
                break;
        }
    }

    /// <inheritdoc/>
    public void OnIoCompleted(int slot, int result) => Environment.FailFast($"Slot {slot} heard of an operation it did not start.");

    /// <inheritdoc/>
    public void Dispose()
    {
        // Who has put the last operation on the list may not have left yet. What is in flight, after a test that failed, has to find its record.
        if (_operations == null || _inFlight > 0)
        {
            return;
        }

        SpinWait spin = default;
        while (Volatile.Read(ref _callsUnderWay) > 0)
        {
            spin.SpinOnce();
        }

        NativeMemory.Free(_operations);
        _operations = null;
        _self.Free();
    }

    // On a thread of librbd's. The completion is the library's object, made anew for each operation: it cannot be used twice.
    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static void OnEnded(void* completion, void* argument)
    {
        var operation = (Operation*)argument;
        operation->Result = rbd_aio_get_return_value(completion);
        rbd_aio_release(completion);
        ((RbdDiskQueue)GCHandle.FromIntPtr(operation->Queue).Target!).Put(operation);
    }

    private void Put(Operation* operation)
    {
        Interlocked.Increment(ref _callsUnderWay);
        nint before = Volatile.Read(ref _ended);
        nint found;
        // From the exchange on the operation is the queue's, which may have ended it before we are back here.
        while ((found = Exchange(operation, before)) != before)
        {
            before = found;
        }

        if (before == 0)
        {
            _agenda.Post(_collect);
        }

        Interlocked.Decrement(ref _callsUnderWay);
    }

    private nint Exchange(Operation* operation, nint before)
    {
        operation->Next = (Operation*)before;
        return Interlocked.CompareExchange(ref _ended, (nint)operation, before);
    }

    // All that have ended until now, in the order they did.
    private void Collect()
    {
        Operation* newest = (Operation*)Interlocked.Exchange(ref _ended, 0);
        Operation* oldest = null;
        while (newest != null)
        {
            Operation* next = newest->Next;
            newest->Next = oldest;
            oldest = newest;
            newest = next;
        }

        while (oldest != null)
        {
            // A completion may begin the next operation of the slot.
            Operation* next = oldest->Next;
            End(oldest->Slot, oldest->Result);
            oldest = next;
        }
    }

    private void Begin(int slot, ref Work work)
    {
        ref DiskRequest request = ref work.Request;
        void* completion = null;
        int result = rbd_aio_create_completion(_operations + slot, &OnEnded, &completion);
        if (result == 0)
        {
            result = request.Operation switch
            {
                DiskOperation.Read => rbd_aio_readv(_image, request.Pieces, request.PieceCount, request.OffsetBytes, completion),
                DiskOperation.Write => rbd_aio_writev(_image, request.Pieces, request.PieceCount, request.OffsetBytes, completion),
                DiskOperation.Flush => rbd_aio_flush(_image, completion),
                // Not rbd_aio_discard, which leaves what is no whole multiple of 64 KiB as it was: this gives back the same space,
                // and all of the range reads as zeros.
                _ => rbd_aio_write_zeroes(_image, work.StepOffsetBytes, (nuint)work.StepBytes, completion, work.ZeroFlags, 0),
            };
            if (result < 0)
            {
                rbd_aio_release(completion);
            }
        }

        if (result < 0)
        {
            _completions.OnCompleted(slot, OutcomeOf(result));
        }
        else
        {
            _inFlight++;
        }
    }

    private void BeginNextStep(int slot, ref Work work)
    {
        ref DiskRequest request = ref work.Request;
        while (work.RangeIndex < request.RangeCount && request.Ranges[work.RangeIndex].LengthBytes == work.RangeDoneBytes)
        {
            work.RangeIndex++;
            work.RangeDoneBytes = 0;
        }

        if (work.RangeIndex == request.RangeCount)
        {
            _completions.OnCompleted(slot, DiskOutcome.Done);
            return;
        }

        DiskRange range = request.Ranges[work.RangeIndex];
        work.StepOffsetBytes = range.OffsetBytes + work.RangeDoneBytes;
        work.StepBytes = Math.Min(MaxStepBytes, range.LengthBytes - work.RangeDoneBytes);
        work.RangeDoneBytes += work.StepBytes;
        work.ZeroFlags = request.Operation == DiskOperation.Discard || range.MayDeallocate ? 0 : RBD_WRITE_ZEROES_FLAG_THICK_PROVISION;
        Begin(slot, ref work);
    }

    private void End(int slot, long result)
    {
        _inFlight--;
        ref Work work = ref _works[slot];
        if (result < 0)
        {
            _completions.OnCompleted(slot, OutcomeOf(result));
            return;
        }

        switch (work.Request.Operation)
        {
            // The image may have been made smaller meanwhile: what is beyond its end is neither read nor kept.
            case DiskOperation.Read:
                _completions.OnCompleted(slot, result == work.Request.LengthBytes ? DiskOutcome.Done : DiskOutcome.Failed);
                break;
            case DiskOperation.Write:
                _completions.OnCompleted(slot, IsInside(work.Request.OffsetBytes, work.Request.LengthBytes) ? DiskOutcome.Done : DiskOutcome.Failed);
                break;
            case DiskOperation.Flush:
                _completions.OnCompleted(slot, DiskOutcome.Done);
                break;
            default:
                BeginNextStep(slot, ref work);
                break;
        }
    }

    private DiskOutcome OutcomeOf(long result)
    {
        switch ((Errno)(-result))
        {
            case Errno.ENOSPC:
            case (Errno)LibC.EDQUOT:
                return DiskOutcome.NoSpace;
            // What OSDs answer to a client that was shut out (EBLOCKLISTED).
            case Errno.ESHUTDOWN:
                _disk.LoseLock();
                return DiskOutcome.Failed;
            // What librbd answers to a write without the lock: for good, or until it has renewed it.
            case Errno.EROFS:
                _disk.WantLook();
                return DiskOutcome.Failed;
            default:
                return DiskOutcome.Failed;
        }
    }

    private bool AreInside(in DiskRequest request)
    {
        foreach (DiskRange range in new ReadOnlySpan<DiskRange>(request.Ranges, request.RangeCount))
        {
            if (!IsInside(range.OffsetBytes, range.LengthBytes))
            {
                return false;
            }
        }

        return true;
    }

    private bool IsInside(ulong offsetBytes, ulong lengthBytes)
    {
        ulong capacityBytes = _disk.Properties.CapacityBytes;
        return offsetBytes <= capacityBytes && lengthBytes <= capacityBytes - offsetBytes;
    }

    private struct Work
    {
        public DiskRequest Request;
        public ulong StepOffsetBytes;
        public ulong StepBytes;
        public ulong RangeDoneBytes;
        public int RangeIndex;
        public int ZeroFlags;
    }

    /// <summary>What librbd is given to remember; native, so that it never moves. One for each slot.</summary>
    private struct Operation
    {
        public Operation* Next;
        public nint Queue;
        public nint Result;
        public int Slot;
    }
}
