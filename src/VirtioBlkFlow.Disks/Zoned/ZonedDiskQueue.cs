using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.File;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.Disks.Zoned;

/// <summary>
/// One queue's way to a zoned disk: asks the zone table, lets the image's own queue move the data, stores what the zones have become, and
/// makes that durable where asked for. Owned by the queue's thread.
/// </summary>
internal sealed unsafe class ZonedDiskQueue : IDiskQueue, IDiskCompletions
{
    // Fixed at construction.
    private readonly ZonedDisk _disk;
    private readonly ZoneTable _zones;
    private readonly IDiskQueue _image;
    private readonly IDiskCompletions _completions;
    private readonly SyncStep _storeSync;
    private readonly Work[] _works;

    // One range for each slot: what a reset throws away. Null after the end.
    private DiskRange* _ranges;

    public ZonedDiskQueue(ZonedDisk disk, FileDisk image, IIoEngine engine, IDiskCompletions completions, int slotCount)
    {
        _disk = disk;
        _zones = disk.Zones;
        _completions = completions;
        _image = image.OpenQueue(engine, this, slotCount);
        _storeSync = new SyncStep(image, engine, engine.RegisterFile(disk.Store.File), slotCount);
        _works = new Work[slotCount];
        _ranges = (DiskRange*)NativeMemory.AllocZeroed((nuint)slotCount, (nuint)sizeof(DiskRange));
    }

    // What a slot waits for.
    private enum Stage : byte
    {
        Idle,

        // The image does all that is to be done.
        Image,
        Write,
        Clear,
        FlushImage,
        SyncStore,
    }

    /// <inheritdoc/>
    public void Submit(int slot, in DiskRequest request)
    {
        ref Work work = ref _works[slot];
        work.Request = request;
        work.Zone = -1;
        switch (request.Operation)
        {
            case DiskOperation.Read:
                StartRead(slot, ref work);
                break;
            case DiskOperation.Write:
            case DiskOperation.Append:
                StartWrite(slot, ref work);
                break;
            case DiskOperation.Flush:
                work.Stage = Stage.FlushImage;
                _image.Submit(slot, in request);
                break;
            case DiskOperation.ZoneReport:
                Report(in request);
                Complete(slot, ref work, DiskOutcome.Done);
                break;
            case DiskOperation.ZoneOpen:
            case DiskOperation.ZoneClose:
            case DiskOperation.ZoneFinish:
                ChangeState(slot, ref work);
                break;
            case DiskOperation.ZoneReset:
            case DiskOperation.ZoneResetAll:
                StartReset(slot, ref work);
                break;
            default:
                Complete(slot, ref work, DiskOutcome.Unsupported);
                break;
        }
    }

    /// <inheritdoc/>
    public void OnIoCompleted(int slot, int result)
    {
        ref Work work = ref _works[slot];
        if (work.Stage != Stage.SyncStore)
        {
            _image.OnIoCompleted(slot, result);
        }
        else if (_storeSync.End(slot, result) is DiskOutcome outcome)
        {
            if (outcome == DiskOutcome.Done)
            {
                _disk.EndSync(work.Epoch);
            }

            Complete(slot, ref work, outcome);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _image.Dispose();
        NativeMemory.Free(_ranges);
        _ranges = null;
    }

    // The image's queue has done its part.
    void IDiskCompletions.OnCompleted(int slot, DiskOutcome outcome)
    {
        ref Work work = ref _works[slot];
        switch (work.Stage)
        {
            case Stage.Write:
                OnWritten(slot, ref work, outcome);
                break;
            case Stage.Clear:
                OnCleared(slot, ref work, outcome);
                break;
            case Stage.FlushImage when outcome == DiskOutcome.Done && !_disk.Properties.ReadOnly:
                SyncStore(slot, ref work);
                break;
            default:
                Complete(slot, ref work, outcome);
                break;
        }
    }

    private void StartRead(int slot, ref Work work)
    {
        ref DiskRequest request = ref work.Request;
        DiskOutcome outcome;
        uint storedBytes;
        lock (_zones.Sync)
        {
            outcome = _zones.CheckRead(request.OffsetBytes, request.LengthBytes, out storedBytes);
        }

        if (outcome != DiskOutcome.Done)
        {
            Complete(slot, ref work, outcome);
            return;
        }

        if (storedBytes < request.LengthBytes)
        {
            ClearFrom(ref request, storedBytes);
        }

        work.Stage = Stage.Image;
        _image.Submit(slot, in request);
    }

    // What was not written since the last reset reads as zeros, whatever the image holds there.
    private static void ClearFrom(ref DiskRequest request, uint storedBytes)
    {
        nuint left = storedBytes;
        int kept = 0;
        for (int i = 0; i < request.PieceCount; i++)
        {
            Iovec* piece = request.Pieces + i;
            nuint keep = Math.Min(left, piece->LengthBytes);
            NativeMemory.Clear(piece->Base + keep, piece->LengthBytes - keep);
            piece->LengthBytes = keep;
            left -= keep;
            kept += keep > 0 ? 1 : 0;
        }

        request.PieceCount = kept;
        request.LengthBytes = storedBytes;
    }

    private void StartWrite(int slot, ref Work work)
    {
        ref DiskRequest request = ref work.Request;
        DiskOutcome outcome = DiskOutcome.Done;
        if (request.LengthBytes != 0)
        {
            lock (_zones.Sync)
            {
                outcome = request.Operation == DiskOperation.Append
                    ? _zones.BeginAppend(request.OffsetBytes, request.LengthBytes, out work.Zone, out request.OffsetBytes)
                    : _zones.BeginWrite(request.OffsetBytes, request.LengthBytes, out work.Zone);
            }
        }

        if (outcome != DiskOutcome.Done)
        {
            Complete(slot, ref work, outcome);
            return;
        }

        // To the image an append is a write like any other.
        work.IsAppend = request.Operation == DiskOperation.Append;
        request.Operation = DiskOperation.Write;
        work.Stage = work.Zone < 0 ? Stage.Image : Stage.Write;
        _image.Submit(slot, in request);
    }

    private void OnWritten(int slot, ref Work work, DiskOutcome outcome)
    {
        ref DiskRequest request = ref work.Request;
        bool stored = true;
        lock (_zones.Sync)
        {
            _zones.EndWrite(work.Zone, request.OffsetBytes, request.LengthBytes, outcome == DiskOutcome.Done);
            if (outcome == DiskOutcome.Done)
            {
                stored = _disk.Store.TryStore(work.Zone, _zones);
            }
        }

        if (outcome == DiskOutcome.Done && work.IsAppend)
        {
            _completions.OnAppended(slot, request.OffsetBytes);
        }

        EndStored(slot, ref work, stored ? outcome : DiskOutcome.Failed);
    }

    private void ChangeState(int slot, ref Work work)
    {
        ulong startBytes = work.Request.OffsetBytes;
        bool stored = true;
        DiskOutcome outcome;
        lock (_zones.Sync)
        {
            switch (work.Request.Operation)
            {
                case DiskOperation.ZoneOpen:
                    outcome = _zones.Open(startBytes);
                    break;
                case DiskOperation.ZoneClose:
                    outcome = _zones.Close(startBytes);
                    break;
                default:
                    outcome = _zones.Finish(startBytes, out int zone);
                    stored = outcome != DiskOutcome.Done || _disk.Store.TryStore(zone, _zones);
                    break;
            }
        }

        // That a zone is open ends with the power: only a finished one has something to make durable.
        work.Request.Durable &= work.Request.Operation == DiskOperation.ZoneFinish;
        EndStored(slot, ref work, stored ? outcome : DiskOutcome.Failed);
    }

    private void StartReset(int slot, ref Work work)
    {
        bool all = work.Request.Operation == DiskOperation.ZoneResetAll;
        DiskOutcome outcome;
        lock (_zones.Sync)
        {
            outcome = all ? _zones.BeginResetAll() : _zones.BeginReset(work.Request.OffsetBytes, out work.Zone);
            work.Zone = all && outcome == DiskOutcome.Done ? _zones.NextInResetAll(0) : work.Zone;
        }

        if (outcome != DiskOutcome.Done || work.Zone < 0)
        {
            // That a zone is empty already may not be durable yet.
            EndStored(slot, ref work, outcome);
        }
        else
        {
            ClearOrEnd(slot, ref work);
        }
    }

    private void ClearOrEnd(int slot, ref Work work)
    {
        if (work.Zone < _zones.Count)
        {
            Clear(slot, ref work);
        }
        else
        {
            EndStored(slot, ref work, DiskOutcome.Done);
        }
    }

    // First the data, then the write pointer: old data never stands below a new one.
    private void Clear(int slot, ref Work work)
    {
        _ranges[slot] = new DiskRange(_zones.StartOf(work.Zone), _zones.LengthOf(work.Zone), MayDeallocate: true);
        work.Stage = Stage.Clear;
        _image.Submit(slot, new DiskRequest { Operation = DiskOperation.WriteZeroes, Ranges = _ranges + slot, RangeCount = 1, Durable = work.Request.Durable });
    }

    private void OnCleared(int slot, ref Work work, DiskOutcome outcome)
    {
        bool all = work.Request.Operation == DiskOperation.ZoneResetAll;
        int next;
        lock (_zones.Sync)
        {
            _zones.EndReset(work.Zone, outcome == DiskOutcome.Done);
            if (outcome == DiskOutcome.Done && !_disk.Store.TryStore(work.Zone, _zones))
            {
                outcome = DiskOutcome.Failed;
            }

            next = all ? _zones.NextInResetAll(work.Zone + 1) : _zones.Count;
            // After a failure the others are left as they are.
            for (int i = next; outcome != DiskOutcome.Done && i < _zones.Count; i = _zones.NextInResetAll(i))
            {
                _zones.EndReset(i, succeeded: false);
            }
        }

        if (all && outcome == DiskOutcome.Done)
        {
            work.Zone = next;
            ClearOrEnd(slot, ref work);
        }
        else
        {
            EndStored(slot, ref work, outcome);
        }
    }

    // The header and as many zones as the request has room for; the caller has counted them.
    private void Report(in DiskRequest request)
    {
        Iovec* pieces = request.Pieces;
        int count = request.PieceCount;
        ulong descriptors = (request.LengthBytes - BlkZoneReportHeader.SizeBytes) / BlkZoneDescriptor.SizeBytes;
        int zone = _zones.IndexOf(request.OffsetBytes);
        var header = new BlkZoneReportHeader { ZoneCount = descriptors };
        Put(MemoryMarshal.AsBytes(new ReadOnlySpan<BlkZoneReportHeader>(in header)));
        for (ulong i = 0; i < descriptors; i++, zone++)
        {
            BlkZoneDescriptor descriptor;
            lock (_zones.Sync)
            {
                descriptor = _zones.Describe(zone);
            }

            Put(MemoryMarshal.AsBytes(new ReadOnlySpan<BlkZoneDescriptor>(in descriptor)));
        }

        void Put(ReadOnlySpan<byte> bytes)
        {
            Iovec.Scatter(bytes, pieces, count);
            Iovec.Advance(ref pieces, ref count, (nuint)bytes.Length);
        }
    }

    // The zones' records are written; a durable request waits until they are durable.
    private void EndStored(int slot, ref Work work, DiskOutcome outcome)
    {
        if (outcome != DiskOutcome.Done || !work.Request.Durable)
        {
            Complete(slot, ref work, outcome);
        }
        else
        {
            SyncStore(slot, ref work);
        }
    }

    private void SyncStore(int slot, ref Work work)
    {
        work.Stage = Stage.SyncStore;
        work.Epoch = _disk.BeginSync();
        if (!_storeSync.TryStart(slot))
        {
            Complete(slot, ref work, DiskOutcome.Failed);
        }
    }

    private void Complete(int slot, ref Work work, DiskOutcome outcome)
    {
        work.Stage = Stage.Idle;
        _completions.OnCompleted(slot, outcome);
    }

    private struct Work
    {
        public DiskRequest Request;
        public Stage Stage;
        public bool IsAppend;
        public int Zone;
        public ulong Epoch;
    }
}
