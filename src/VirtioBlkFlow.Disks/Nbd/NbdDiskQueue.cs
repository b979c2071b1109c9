using VirtioBlkFlow.Disks.Engine;

namespace VirtioBlkFlow.Disks.Nbd;

/// <summary>
/// One queue's way to a server: makes commands of requests, takes a session while there are any, replays them when it is lost, and lets them
/// fail when that lasts too long. Owned by the queue's thread. Here is the way of a request; the other part is about sessions and time.
/// </summary>
internal sealed unsafe partial class NbdDiskQueue : IDiskQueue, INbdLinkOwner, IAgendaEntry
{
    // Longest range of a command without data. Some servers take no more than 31 bits; all file systems' chunks divide this.
    private const ulong MaxRangeBytes = 1 << 30;

    // Connections that a request may outlive. Arbitrary: one that servers die of must not be played to them for ever.
    private const int MaxReplays = 32;

    // Fixed at construction.
    private readonly NbdDisk _disk;
    private readonly NbdPool _pool;
    private readonly NbdDurability _durability;
    private readonly NbdDirtyMark _mark;
    private readonly EngineAgenda _agenda;
    private readonly IDiskCompletions _completions;
    private readonly NbdLink _link;
    private readonly NbdWork[] _works;

    // Owned by the queue's thread. Slots whose next command is to be sent, in a ring: each is in it once at most.
    private readonly int[] _pending;
    private int _pendingFirst;
    private int _pendingCount;
    private int _outstanding;

    public NbdDiskQueue(NbdDisk disk, IIoEngine engine, IDiskCompletions completions, int slotCount)
    {
        _disk = disk;
        _pool = disk.Pool;
        _durability = disk.Durability;
        _mark = _durability.Open();
        _agenda = engine.Agenda;
        _completions = completions;
        _works = new NbdWork[slotCount];
        _pending = new int[slotCount];
        _link = new NbdLink(engine, this, _works);
        _onOffered = OnOffered;
        _onNewGeneration = OnNewGeneration;
        _postNewGeneration = () => _agenda.Post(_onNewGeneration);
        _waiter = new NbdWaiter(() => _agenda.Post(_onOffered));
        _pool.Add(_postNewGeneration);
    }

    /// <inheritdoc/>
    public void Submit(int slot, in DiskRequest request)
    {
        if (FindOutcome(in request) is { } outcome)
        {
            _completions.OnCompleted(slot, outcome);
            return;
        }

        ref NbdWork work = ref _works[slot];
        work = new NbdWork { Request = request };
        _outstanding++;
        Queue(slot, ref work);
        Pump();
    }

    /// <inheritdoc/>
    public void OnIoCompleted(int slot, int result) => Environment.FailFast($"Slot {slot} heard of an operation it did not start.");

    bool INbdLinkOwner.TryNext(out int slot)
    {
        while (_pendingCount > 0 && !IsRetiring)
        {
            slot = Dequeue();
            ref NbdWork work = ref _works[slot];
            if (TryPrepare(ref work, _link.Session!.Export, out DiskOutcome outcome))
            {
                _sentSinceTaken++;
                return true;
            }

            Complete(slot, ref work, outcome);
        }

        slot = -1;
        return false;
    }

    void INbdLinkOwner.OnReply(int slot)
    {
        ref NbdWork work = ref _works[slot];
        NbdSession session = _link.Session!;
        if (!session.HasAnswered)
        {
            _pool.NoteAnswer(session);
        }

        // What the server was before another connection was lost says nothing about what it is now.
        if (session.Generation != _durability.Generation)
        {
            _link.Fail(Renewed);
            return;
        }

        if (work.Error == NbdWire.NBD_ESHUTDOWN)
        {
            _link.Fail("The server is shutting down.");
            return;
        }

        if (work.Error != 0)
        {
            Complete(slot, ref work, OutcomeOfError(in work));
            return;
        }

        if (work.Command == NbdCommand.NBD_CMD_FLUSH)
        {
            _durability.EndFlush(work.Epoch);
            work.IsFlushed = true;
        }
        else
        {
            Advance(ref work);
        }

        if (HasMore(ref work, session.Export))
        {
            Queue(slot, ref work);
        }
        else if (!IsVolatile(in work, session.Export) || _durability.TryAcknowledge(_mark, session.Generation))
        {
            Complete(slot, ref work, DiskOutcome.Done);
        }
        else
        {
            _link.Fail(Renewed);
        }
    }

    // What needs no server to be answered; null if it does. The caller has checked offsets and lengths against a capacity that may have been
    // larger.
    private DiskOutcome? FindOutcome(in DiskRequest request)
    {
        DiskProperties properties = _disk.Properties;
        if (request.Durable && _durability.IsLost)
        {
            return DiskOutcome.Failed;
        }

        switch (request.Operation)
        {
            case DiskOperation.Flush when properties.ReadOnly:
                return DiskOutcome.Done;
            case DiskOperation.Flush:
                return _durability.IsLost ? DiskOutcome.Failed : null;
            case DiskOperation.Write when properties.ReadOnly:
            case DiskOperation.Read or DiskOperation.Write when !IsInside(request.OffsetBytes, request.LengthBytes, properties):
                return DiskOutcome.Failed;
            case DiskOperation.Read or DiskOperation.Write:
                return request.LengthBytes == 0 ? DiskOutcome.Done : null;
            case DiskOperation.Discard when properties.CanDiscard:
            case DiskOperation.WriteZeroes when properties.CanWriteZeroes:
                bool isEmpty = true;
                for (int i = 0; i < request.RangeCount; i++)
                {
                    if (!IsInside(request.Ranges[i].OffsetBytes, request.Ranges[i].LengthBytes, properties))
                    {
                        return DiskOutcome.Failed;
                    }

                    isEmpty &= request.Ranges[i].LengthBytes == 0;
                }

                return isEmpty ? DiskOutcome.Done : null;
            default:
                return DiskOutcome.Unsupported;
        }
    }

    private static bool IsInside(ulong offsetBytes, ulong lengthBytes, DiskProperties properties) =>
        offsetBytes <= properties.CapacityBytes && lengthBytes <= properties.CapacityBytes - offsetBytes;

    // The next command of a request, for this export: a server may come back as another one.
    private bool TryPrepare(ref NbdWork work, NbdExport export, out DiskOutcome outcome)
    {
        ref DiskRequest request = ref work.Request;
        outcome = DiskOutcome.Done;
        if (_durability.IsLost && (request.Durable || request.Operation == DiskOperation.Flush))
        {
            outcome = DiskOutcome.Failed;
            return false;
        }

        if (!HasMore(ref work, export))
        {
            // A flush of a server that has nothing to flush.
            return false;
        }

        work.Flags = request.Durable && export.CanFua ? NbdWire.NBD_CMD_FLAG_FUA : (ushort)0;
        if (request.Operation is DiskOperation.Read or DiskOperation.Write && work.DoneBytes < request.LengthBytes)
        {
            work.Command = request.Operation == DiskOperation.Read ? NbdCommand.NBD_CMD_READ : NbdCommand.NBD_CMD_WRITE;
            work.Flags = request.Operation == DiskOperation.Read ? (ushort)0 : work.Flags;
            work.OffsetBytes = request.OffsetBytes + work.DoneBytes;
            work.LengthBytes = (uint)Math.Min(_disk.MaxPayloadBytes, request.LengthBytes - work.DoneBytes);
        }
        else if (request.Operation is DiskOperation.Discard or DiskOperation.WriteZeroes && work.RangeIndex < request.RangeCount)
        {
            bool isDiscard = request.Operation == DiskOperation.Discard;
            if (isDiscard ? !export.CanTrim : !export.CanWriteZeroes)
            {
                outcome = DiskOutcome.Unsupported;
                return false;
            }

            DiskRange range = request.Ranges[work.RangeIndex];
            work.Command = isDiscard ? NbdCommand.NBD_CMD_TRIM : NbdCommand.NBD_CMD_WRITE_ZEROES;
            work.Flags |= isDiscard || range.MayDeallocate ? (ushort)0 : NbdWire.NBD_CMD_FLAG_NO_HOLE;
            work.OffsetBytes = range.OffsetBytes + work.DoneBytes;
            work.LengthBytes = (uint)Math.Min(MaxRangeBytes, range.LengthBytes - work.DoneBytes);
        }
        else
        {
            work.Command = NbdCommand.NBD_CMD_FLUSH;
            work.Flags = 0;
            work.OffsetBytes = 0;
            work.LengthBytes = 0;
            work.Epoch = _durability.BeginFlush();
        }

        return true;
    }

    private static void Advance(ref NbdWork work)
    {
        work.DoneBytes += work.LengthBytes;
        if (work.Request.RangeCount > 0 && work.DoneBytes == work.Request.Ranges[work.RangeIndex].LengthBytes)
        {
            work.RangeIndex++;
            work.DoneBytes = 0;
        }
    }

    // Whether a command of the request is still to be sent. Ranges of nothing are passed over.
    private static bool HasMore(ref NbdWork work, NbdExport export)
    {
        ref DiskRequest request = ref work.Request;
        while (work.RangeIndex < request.RangeCount && request.Ranges[work.RangeIndex].LengthBytes == 0)
        {
            work.RangeIndex++;
        }

        bool isUndone = request.Operation switch
        {
            DiskOperation.Flush => false,
            DiskOperation.Read or DiskOperation.Write => work.DoneBytes < request.LengthBytes,
            _ => work.RangeIndex < request.RangeCount,
        };
        // Without FUA, durable is what a flush follows.
        bool wantsFlush = request.Operation == DiskOperation.Flush || (request.Durable && request.Operation != DiskOperation.Read && !export.CanFua);
        return isUndone || (wantsFlush && export.CanFlush && !work.IsFlushed);
    }

    // Whether what was done may be lost with the server before it is flushed.
    private static bool IsVolatile(in NbdWork work, NbdExport export) =>
        export.CanFlush && !work.Request.Durable && work.Request.Operation is DiskOperation.Write or DiskOperation.Discard or DiskOperation.WriteZeroes;

    private DiskOutcome OutcomeOfError(in NbdWork work)
    {
        // As with files: after a sync that failed nobody knows what the other side has forgotten of earlier writes, and EIO of a durable
        // write may come from the sync in it.
        if (work.Command == NbdCommand.NBD_CMD_FLUSH || ((work.Flags & NbdWire.NBD_CMD_FLAG_FUA) != 0 && work.Error == NbdWire.NBD_EIO))
        {
            _durability.Lose();
            return DiskOutcome.Failed;
        }

        return work.Error switch
        {
            NbdWire.NBD_ENOSPC => DiskOutcome.NoSpace,
            NbdWire.NBD_ENOTSUP when work.Command is NbdCommand.NBD_CMD_TRIM or NbdCommand.NBD_CMD_WRITE_ZEROES => DiskOutcome.Unsupported,
            _ => DiskOutcome.Failed,
        };
    }

    private void Queue(int slot, ref NbdWork work)
    {
        work.State = NbdWorkState.Pending;
        _pending[(_pendingFirst + _pendingCount) % _pending.Length] = slot;
        _pendingCount++;
    }

    private int Dequeue()
    {
        int slot = _pending[_pendingFirst];
        _pendingFirst = (_pendingFirst + 1) % _pending.Length;
        _pendingCount--;
        return slot;
    }

    private void Complete(int slot, ref NbdWork work, DiskOutcome outcome)
    {
        // Another queue may have heard meanwhile of a loss that concerns this request too.
        bool isPromise = work.Request.Durable || work.Request.Operation == DiskOperation.Flush;
        work.State = NbdWorkState.Idle;
        _outstanding--;
        _drainSinceNs = _outstanding == 0 ? 0 : _drainSinceNs;
        _completions.OnCompleted(slot, isPromise && _durability.IsLost ? DiskOutcome.Failed : outcome);
    }
}
