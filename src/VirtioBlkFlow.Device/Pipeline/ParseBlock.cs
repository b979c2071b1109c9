using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using VirtioBlkFlow.Device.Latency;
using VirtioBlkFlow.Device.Lint;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Virtio.Blk;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.Device.Pipeline;

/// <summary>
/// Second stage: decodes headers, checks requests, and puts them into the disk's words. What needs no I/O is answered here: errors, GET_ID,
/// GET_LIFETIME, unknown types.
/// </summary>
public sealed unsafe class ParseBlock : ReactorBlock<RequestBatch, RequestBatch>
{
    /// <summary>Bytes of a serial (VIRTIO 1.4, "Block Device", "Device Operation", VIRTIO_BLK_ID_BYTES).</summary>
    public const int IdBytes = 20;

    private readonly IDisk _disk;
    private readonly RequestTable _table;
    private readonly ServedLimits _limits;
    private readonly WriteCache _writeCache;
    private readonly QueueLint _lint;
    private readonly byte[] _id;

    internal ParseBlock(
        string name, TaskScheduler scheduler, IDisk disk, RequestTable table, ServedLimits limits, WriteCache writeCache, ReadOnlySpan<byte> id,
        QueueLint lint)
        : base(name, scheduler)
    {
        _disk = disk;
        _table = table;
        _limits = limits;
        _writeCache = writeCache;
        _lint = lint;
        _id = new byte[IdBytes];
        id[..Math.Min(id.Length, IdBytes)].CopyTo(_id);
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.NoInlining)]
    protected override void Process(RequestBatch message)
    {
        BlkLimits limits = _limits.Current;
        RequestSlot* table = _table.Slots;
        DescriptorChain* first = message.Chains;
        DescriptorChain* beyond = first + message.Count;
        bool mayJoin = false;
        ulong end = ulong.MaxValue;
        for (DescriptorChain* chain = first; chain < beyond; chain++)
        {
            RequestSlot* slot = table + chain->Slot;
            slot->Advance(SlotState.Free, SlotState.Parsed);
            slot->BatchNumber = message.Number;
            slot->Position = (ushort)(chain - first);
            bool isWhole = BlkRequest.TryParse(in *chain, out BlkRequest request, out BlkParseError error);
            slot->Reply = request.Reply;
            if (isWhole)
            {
                slot->TypeNumber = QueueCounters.NumberOf(request.Type);
                Check(chain->Slot, ref *slot, in request, limits);
                // Found here, where all of it is at hand; whether it is meant is left to who joins. What is no transfer has no end of meaning.
                mayJoin |= slot->Io.OffsetBytes == end;
                end = slot->Io.OffsetBytes + slot->Io.LengthBytes;
            }
            else
            {
                RefuseUnparsed(chain, slot, error);
            }
        }

        message.MayJoin = mayJoin;
        Emit(message);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private void RefuseUnparsed(DescriptorChain* chain, RequestSlot* slot, BlkParseError error)
    {
        slot->TypeNumber = QueueCounters.OtherType;
        slot->DataInWritten = 0;
        slot->DataInTouched = 0;
        Decide(ref *slot, BlkStatus.VIRTIO_BLK_S_IOERR);
        _lint.OnUnparsed(in *chain, error);
    }

    private static void Decide(ref RequestSlot slot, BlkStatus status)
    {
        slot.IsDecided = true;
        slot.Status = status;
    }

    // One caller, once for each request. Reads are by themselves: of all other types together the compiler would make a jump through a table,
    // and use up the registers of the loop.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void Check(ushort number, ref RequestSlot slot, in BlkRequest request, BlkLimits limits)
    {
        slot.IsDecided = false;
        BlkStatus status;
        if (request.Type == BlkRequestType.VIRTIO_BLK_T_IN)
        {
            status = limits.CheckTransfer(request.Sector, request.DataInBytes);
            ref DiskRequest io = ref slot.Io;
            io.Operation = DiskOperation.Read;
            io.Durable = false;
            io.OffsetBytes = request.Sector * BlkRequest.SectorBytes;
            io.Pieces = request.DataIn;
            io.PieceCount = request.DataInCount;
            io.LengthBytes = request.DataInBytes;
            slot.DataInWritten = request.DataInBytes;
            slot.DataInTouched = request.DataInBytes;
        }
        else if (!TryPrepareOther(number, ref slot, in request, limits, out status))
        {
            return;
        }

        if (status != BlkStatus.VIRTIO_BLK_S_OK)
        {
            Refuse(ref slot, status, in request, limits);
        }
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private void Refuse(ref RequestSlot slot, BlkStatus status, in BlkRequest request, BlkLimits limits)
    {
        slot.DataInWritten = 0;
        slot.DataInTouched = 0;
        Decide(ref slot, status);
        _lint.OnRefused(in request, limits);
    }

    /// <returns>Whether there is a status; if not, the request was answered.</returns>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private bool TryPrepareOther(ushort number, ref RequestSlot slot, in BlkRequest request, BlkLimits limits, out BlkStatus status)
    {
        ref DiskRequest io = ref slot.Io;
        slot.DataInWritten = 0;
        slot.DataInTouched = 0;
        status = BlkStatus.VIRTIO_BLK_S_OK;
        switch (request.Type)
        {
            case BlkRequestType.VIRTIO_BLK_T_OUT:
                status = limits.ReadOnly ? BlkStatus.VIRTIO_BLK_S_IOERR : limits.CheckTransfer(request.Sector, request.DataOutBytes);
                io.Operation = DiskOperation.Write;
                io.Durable = _writeCache.IsWritethrough;
                io.OffsetBytes = request.Sector * BlkRequest.SectorBytes;
                io.Pieces = request.DataOut;
                io.PieceCount = request.DataOutCount;
                io.LengthBytes = request.DataOutBytes;
                break;
            case BlkRequestType.VIRTIO_BLK_T_FLUSH:
                io.Operation = DiskOperation.Flush;
                io.Durable = false;
                break;
            case BlkRequestType.VIRTIO_BLK_T_DISCARD:
                io.Operation = DiskOperation.Discard;
                status = CheckSegments(number, ref slot, in request, limits);
                break;
            case BlkRequestType.VIRTIO_BLK_T_WRITE_ZEROES:
                io.Operation = DiskOperation.WriteZeroes;
                status = CheckSegments(number, ref slot, in request, limits);
                break;
            case BlkRequestType.VIRTIO_BLK_T_SECURE_ERASE:
                io.Operation = DiskOperation.SecureErase;
                status = CheckSegments(number, ref slot, in request, limits);
                break;
            case BlkRequestType.VIRTIO_BLK_T_GET_ID:
                Answer(ref slot, in request, _id);
                return false;
            case BlkRequestType.VIRTIO_BLK_T_GET_LIFETIME when limits.HasLifetime:
                AnswerLifetime(ref slot, in request);
                return false;
            case BlkRequestType.VIRTIO_BLK_T_ZONE_APPEND:
                status = limits.CheckAppend(request.Sector, request.DataOutBytes, request.DataInBytes);
                io.Operation = DiskOperation.Append;
                io.Durable = _writeCache.IsWritethrough;
                io.OffsetBytes = request.Sector * BlkRequest.SectorBytes;
                io.Pieces = request.DataOut;
                io.PieceCount = request.DataOutCount;
                io.LengthBytes = request.DataOutBytes;
                break;
            case BlkRequestType.VIRTIO_BLK_T_ZONE_REPORT:
                status = limits.CheckReport(request.Sector, request.DataInBytes, out uint reportBytes);
                io.Operation = DiskOperation.ZoneReport;
                io.Durable = false;
                io.OffsetBytes = request.Sector * BlkRequest.SectorBytes;
                io.Pieces = request.DataIn;
                io.PieceCount = request.DataInCount;
                io.LengthBytes = reportBytes;
                slot.DataInWritten = reportBytes;
                slot.DataInTouched = reportBytes;
                break;
            case BlkRequestType.VIRTIO_BLK_T_ZONE_OPEN:
                status = PrepareZone(ref io, DiskOperation.ZoneOpen, request.Sector, limits);
                break;
            case BlkRequestType.VIRTIO_BLK_T_ZONE_CLOSE:
                status = PrepareZone(ref io, DiskOperation.ZoneClose, request.Sector, limits);
                break;
            case BlkRequestType.VIRTIO_BLK_T_ZONE_FINISH:
                status = PrepareZone(ref io, DiskOperation.ZoneFinish, request.Sector, limits);
                break;
            case BlkRequestType.VIRTIO_BLK_T_ZONE_RESET:
                status = PrepareZone(ref io, DiskOperation.ZoneReset, request.Sector, limits);
                break;
            case BlkRequestType.VIRTIO_BLK_T_ZONE_RESET_ALL:
                // The sector means nothing here.
                status = PrepareZone(ref io, DiskOperation.ZoneResetAll, 0, limits);
                break;
            default:
                status = BlkStatus.VIRTIO_BLK_S_UNSUPP;
                break;
        }

        return true;
    }

    private void AnswerLifetime(ref RequestSlot slot, in BlkRequest request)
    {
        BlkLifetime lifetime = _disk.Lifetime?.Payload ?? default;
        Answer(ref slot, in request, MemoryMarshal.AsBytes(new ReadOnlySpan<BlkLifetime>(in lifetime)));
    }

    // As much as there is room for.
    private static void Answer(ref RequestSlot slot, in BlkRequest request, ReadOnlySpan<byte> data)
    {
        slot.DataInWritten = (uint)Iovec.Scatter(data, request.DataIn, request.DataInCount);
        slot.DataInTouched = slot.DataInWritten;
        Decide(ref slot, BlkStatus.VIRTIO_BLK_S_OK);
    }

    private BlkStatus PrepareZone(ref DiskRequest io, DiskOperation operation, ulong sector, BlkLimits limits)
    {
        io.Operation = operation;
        io.Durable = _writeCache.IsWritethrough;
        io.OffsetBytes = sector * BlkRequest.SectorBytes;
        return limits.CheckZone(sector);
    }

    // Copies the segments once, checks the copy, keeps it as byte ranges.
    private BlkStatus CheckSegments(ushort number, ref RequestSlot slot, in BlkRequest request, BlkLimits limits)
    {
        Iovec* list = request.DataOut;
        int pieces = request.DataOutCount;
        uint listBytes = request.DataOutBytes;
        if (listBytes == 0 && request.Type == BlkRequestType.VIRTIO_BLK_T_SECURE_ERASE)
        {
            // Linux tells the direction of data by bit 0 of the type, so the list of a SECURE_ERASE (14) lies where the device could
            // write. It is taken from there, and left as it is.
            list = request.DataIn;
            pieces = request.DataInCount;
            listBytes = request.DataInBytes;
        }

        // More than are allowed are looked at as well: a reserved flag counts before their number.
        Span<BlkSegment> segments = stackalloc BlkSegment[BlkLimits.MaxSegments];
        int copied = Iovec.Gather(list, pieces, MemoryMarshal.AsBytes(segments));
        segments = segments[..(copied / BlkSegment.SizeBytes)];
        BlkStatus status = limits.CheckSegments(request.Type, listBytes, segments);
        if (status != BlkStatus.VIRTIO_BLK_S_OK)
        {
            return status;
        }

        DiskRange* ranges = _table.RangesOf(number);
        slot.Io.Durable = _writeCache.IsWritethrough;
        slot.Io.Ranges = ranges;
        slot.Io.RangeCount = segments.Length;
        for (int i = 0; i < segments.Length; i++)
        {
            ranges[i] = new DiskRange(
                segments[i].Sector * BlkRequest.SectorBytes,
                segments[i].SectorCount * (ulong)BlkRequest.SectorBytes,
                (segments[i].Flags & BlkSegment.UnmapFlag) != 0);
        }

        return BlkStatus.VIRTIO_BLK_S_OK;
    }
}
