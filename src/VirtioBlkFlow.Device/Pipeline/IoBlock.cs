using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using VirtioBlkFlow.Device.Latency;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Virtio.Blk;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.Device.Pipeline;

/// <summary>
/// Third stage: gives requests to the disk and gathers what has ended. A batch comes in whole; completions go out per turn, in
/// the order they came. How many batches are in flight is bounded by the pool they come from.
/// </summary>
public sealed unsafe class IoBlock : ReactorBlock<RequestBatch, CompletionBurst>, IDiskCompletions
{
    // Fixed at construction.
    private readonly RequestTable _table;
    private readonly BatchPool _batches;
    private readonly BurstPool _bursts;
    private readonly bool _joinsAdjacent;
    private readonly StageTimer? _timer;

    // Owned by the queue's thread.
    private IDiskQueue? _disk;
    private CompletionBurst _burst;

    internal IoBlock(string name, TaskScheduler scheduler, RequestTable table, BatchPool batches, BurstPool bursts, bool joinsAdjacent, StageTimer? timer)
        : base(name, scheduler)
    {
        _table = table;
        _batches = batches;
        _bursts = bursts;
        _joinsAdjacent = joinsAdjacent;
        _timer = timer;
        _burst = bursts.Rent();
    }

    /// <summary>Requests the disk works on.</summary>
    public int SubmittedCount { get; private set; }

    /// <inheritdoc/>
    protected override bool IsBusy => SubmittedCount > 0 || _burst.Count > 0;

    /// <inheritdoc/>
    void IDiskCompletions.OnCompleted(int slot, DiskOutcome outcome)
    {
        ref RequestSlot request = ref _table[slot];
        if (request.RunCount > 1)
        {
            CompleteRun(ref request, outcome);
        }
        else if (outcome != DiskOutcome.Done)
        {
            CompleteFailed(slot, ref request, outcome);
        }
        else
        {
            SubmittedCount--;
            request.Status = BlkStatus.VIRTIO_BLK_S_OK;
            Finish(slot, ref request, SlotState.Submitted);
        }
    }

    /// <inheritdoc/>
    void IDiskCompletions.OnAppended(int slot, ulong offsetBytes)
    {
        ref RequestSlot request = ref _table[slot];
        // The eight bytes before the status, whose byte was taken off the last piece when the request was parsed.
        ref readonly DescriptorChain chain = ref _batches[request.BatchNumber].Chains[request.Position];
        uint dataInBytes = chain.WritableBytes - 1;
        Iovec* pieces = chain.Writable;
        int count = chain.WritableCount;
        Iovec.Advance(ref pieces, ref count, dataInBytes - sizeof(ulong));
        ulong sector = offsetBytes / BlkRequest.SectorBytes;
        Iovec.Scatter(MemoryMarshal.AsBytes(new ReadOnlySpan<ulong>(in sector)), pieces, count);
        request.DataInWritten = dataInBytes == sizeof(ulong) ? sizeof(ulong) : 0u;
        request.DataInTouched = dataInBytes;
    }

    /// <summary>Sets where requests go; before the first message.</summary>
    internal void Use(IDiskQueue disk) => _disk = disk;

    /// <summary>Passes on what ended since the last time. Called once a turn.</summary>
    internal bool EmitBurst()
    {
        if (_burst.Count == 0)
        {
            return false;
        }

        CompletionBurst burst = _burst;
        _burst = _bursts.Rent();
        _timer?.OnEnded(burst);
        Emit(burst);
        TryFinish();
        return true;
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.NoInlining)]
    protected override void Process(RequestBatch message)
    {
        _timer?.OnParsed(message);
        if (_joinsAdjacent && message.MayJoin)
        {
            SubmitRuns(message);
            return;
        }

        RequestSlot* table = _table.Slots;
        IDiskQueue disk = _disk!;
        foreach (ushort number in message.Slots)
        {
            RequestSlot* slot = table + number;
            if (slot->IsDecided)
            {
                Finish(number, ref *slot, SlotState.Parsed);
            }
            else
            {
                Submit(disk, number, slot);
            }
        }
    }

    // For a batch in which some requests may lie one behind the other on the disk.
    private void SubmitRuns(RequestBatch batch)
    {
        ReadOnlySpan<ushort> slots = batch.Slots;
        for (int i = 0; i < slots.Length;)
        {
            ushort number = slots[i];
            RequestSlot* slot = _table.Slots + number;
            int run = slot->IsDecided ? 0 : AdjacentRequests.CountRun(_table, slots, i);
            if (run > 1)
            {
                i += SubmitRun(batch, i, run);
                continue;
            }

            if (run == 0)
            {
                Finish(number, ref *slot, SlotState.Parsed);
            }
            else
            {
                Submit(_disk!, number, slot);
            }

            i++;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void Submit(IDiskQueue disk, ushort number, RequestSlot* slot)
    {
        slot->Advance(SlotState.Parsed, SlotState.Submitted);
        disk.Submit(number, in slot->Io);
        // After the fact: a disk that throws holds nothing. One that completes at once has already counted it off.
        SubmittedCount++;
    }

    /// <returns>How many requests of the run were taken.</returns>
    private int SubmitRun(RequestBatch batch, int start, int count)
    {
        ReadOnlySpan<ushort> run = batch.Slots.Slice(start, count);
        (DiskRequest joined, count) = AdjacentRequests.Join(_table, run, batch.Pieces);
        if (count == 0)
        {
            // No room for the list of even the first: it goes with its own.
            joined = _table[run[0]].Io;
            count = 1;
        }

        foreach (ushort number in run[..count])
        {
            _table[number].Advance(SlotState.Parsed, SlotState.Submitted);
        }

        ref RequestSlot head = ref _table[run[0]];
        head.RunCount = (ushort)count;
        _disk!.Submit(run[0], in joined);
        SubmittedCount += count;
        return count;
    }

    private void CompleteFailed(int slot, ref RequestSlot request, DiskOutcome outcome)
    {
        SubmittedCount--;
        request.Status = StatusOf(outcome);
        request.DataInWritten = 0;
        Finish(slot, ref request, SlotState.Submitted);
    }

    private void CompleteRun(ref RequestSlot head, DiskOutcome outcome)
    {
        ReadOnlySpan<ushort> run = _batches[head.BatchNumber].Slots.Slice(head.Position, head.RunCount);
        SubmittedCount -= run.Length;
        head.RunCount = 0;
        foreach (ushort number in run)
        {
            ref RequestSlot slot = ref _table[number];
            if (outcome == DiskOutcome.Done)
            {
                slot.Status = BlkStatus.VIRTIO_BLK_S_OK;
                Finish(number, ref slot, SlotState.Submitted);
            }
            else
            {
                // Which of them it was about is not known: each is asked for again, and has its own outcome then.
                _disk!.Submit(number, in slot.Io);
                SubmittedCount++;
            }
        }
    }

    private static BlkStatus StatusOf(DiskOutcome outcome) => outcome switch
    {
        DiskOutcome.Done => BlkStatus.VIRTIO_BLK_S_OK,
        DiskOutcome.Unsupported => BlkStatus.VIRTIO_BLK_S_UNSUPP,
        DiskOutcome.ZoneInvalidCommand => BlkStatus.VIRTIO_BLK_S_ZONE_INVALID_CMD,
        DiskOutcome.ZoneUnalignedWrite => BlkStatus.VIRTIO_BLK_S_ZONE_UNALIGNED_WP,
        DiskOutcome.ZoneOpenResource => BlkStatus.VIRTIO_BLK_S_ZONE_OPEN_RESOURCE,
        DiskOutcome.ZoneActiveResource => BlkStatus.VIRTIO_BLK_S_ZONE_ACTIVE_RESOURCE,
        _ => BlkStatus.VIRTIO_BLK_S_IOERR,
    };

    private void Finish(int number, ref RequestSlot slot, SlotState from)
    {
        slot.Advance(from, SlotState.Completed);
        _burst.Add((ushort)number);
    }
}
