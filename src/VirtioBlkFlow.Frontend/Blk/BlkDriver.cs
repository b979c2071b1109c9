using System.Diagnostics;
using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.Frontend.Blk;

/// <summary>
/// A virtio-blk driver on one queue: reads, writes and the rest, one at a time or several in flight. Owned by one thread. The path
/// of a request allocates nothing.
/// </summary>
/// <remarks>
/// It distrusts the device: a status byte that was not written, a used length that says more than can have been written, a head that comes
/// back twice are exceptions, because they are bugs of a back-end.
/// </remarks>
[DebuggerDisplay("{InFlightCount} in flight of {QueueDepth}, queue {_queue.Index}")]
public sealed unsafe partial class BlkDriver
{
    // Where header and status are in a slot's area. A cache line each, so that the device's write to one slot does not disturb the next.
    private const int SlotBytes = 128;
    private const int AppendSectorOffset = 48;
    private const int StatusOffset = 64;

    // No status of the specification: it tells "not written".
    private const byte NotWritten = 0xff;

    // Data buffers of a request that the caller cuts himself: what fits the stack comfortably. Arbitrary.
    private const int MaxCallerPieces = 256;

    // Fixed at construction.
    private readonly FrontendQueue _queue;
    private readonly DriverRing _ring;
    private readonly bool _indirect;
    private readonly CompletionWait _wait;
    private readonly int _timeoutMs;
    private readonly ulong _slotsAddress;
    private readonly byte* _slotsHost;
    private readonly ulong _dataAddress;
    private readonly byte* _dataHost;
    private readonly ulong _dataStride;

    // Owned by the driver's thread.
    private readonly int[] _freeSlots;
    private readonly int[] _slotOfHead;
    private readonly SlotState[] _slots;
    private int _freeSlotCount;

    /// <summary>Places headers, status bytes and data buffers in memory.</summary>
    /// <param name="memory">Guest memory the back-end has been told of.</param>
    /// <param name="queue">A queue; it may be started later.</param>
    /// <param name="options">How to use it.</param>
    /// <exception cref="ArgumentException">The queue is too small for the depth.</exception>
    public BlkDriver(SharedMemory memory, FrontendQueue queue, BlkDriverOptions options)
    {
        ArgumentNullException.ThrowIfNull(memory);
        ArgumentNullException.ThrowIfNull(queue);
        ArgumentNullException.ThrowIfNull(options);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(options.QueueDepth, nameof(options));
        _queue = queue;
        _ring = queue.Ring;
        _indirect = options.UseIndirect;
        _wait = options.Wait;
        _timeoutMs = options.TimeoutMs;
        int depth = options.QueueDepth;
        if (depth > _ring.QueueSize)
        {
            throw new ArgumentException($"{depth} requests cannot be in flight in a queue of {_ring.QueueSize}.", nameof(options));
        }

        ulong slotsBytes = (ulong)depth * SlotBytes;
        _slotsAddress = memory.Allocate(slotsBytes, SlotBytes);
        _slotsHost = memory.Host(_slotsAddress, slotsBytes);
        // Whole pages, as a file opened with O_DIRECT wants them.
        const ulong PageBytes = 4096;
        _dataStride = ((ulong)options.MaxTransferBytes + PageBytes - 1) & ~(PageBytes - 1);
        ulong dataBytes = _dataStride * (ulong)depth;
        _dataAddress = memory.Allocate(dataBytes, PageBytes);
        _dataHost = memory.Host(_dataAddress, dataBytes);
        MaxTransferBytes = options.MaxTransferBytes;
        QueueDepth = depth;
        _freeSlots = new int[depth];
        for (int i = 0; i < depth; i++)
        {
            _freeSlots[i] = depth - 1 - i;
        }

        _freeSlotCount = depth;
        _slots = new SlotState[depth];
        _slotOfHead = new int[_ring.QueueSize];
        if (_wait == CompletionWait.Poll)
        {
            _ring.SuppressCalls();
        }
    }

    /// <summary>Requests that can be in flight at once.</summary>
    public int QueueDepth { get; }

    /// <summary>Size of each slot's data buffer in bytes.</summary>
    public int MaxTransferBytes { get; }

    /// <summary>Requests submitted and not completed.</summary>
    public int InFlightCount => QueueDepth - _freeSlotCount;

    /// <summary>The slot the next submission takes; to fill its data buffer first. -1 when all are in flight.</summary>
    public int NextSlot => _freeSlotCount > 0 ? _freeSlots[_freeSlotCount - 1] : -1;

    /// <summary>The data buffer of a slot.</summary>
    public Span<byte> Data(int slot) => new(_dataHost + ((ulong)slot * _dataStride), MaxTransferBytes);

    /// <summary>Guest-physical address of a slot's data buffer.</summary>
    public ulong DataAddress(int slot) => _dataAddress + ((ulong)slot * _dataStride);

    /// <summary>Guest-physical address of the header of a slot's request.</summary>
    public ulong HeaderAddress(int slot) => AreaOf(slot);

    /// <summary>
    /// Adds a request with the data in its slot's own buffer. The device does not see it before <see cref="Kick"/>.
    /// </summary>
    /// <param name="type">What to do. IN and GET_ID write the buffer, everything else reads it.</param>
    /// <param name="sector">First sector.</param>
    /// <param name="dataBytes">Bytes of data, from the start of the buffer.</param>
    /// <param name="tag">Comes back with the completion.</param>
    /// <returns>False, with nothing done, when no slot or no descriptor is free.</returns>
    public bool TrySubmit(BlkRequestType type, ulong sector, uint dataBytes, ulong tag)
    {
        int slot = NextSlot;
        if (slot < 0)
        {
            return false;
        }

        ArgumentOutOfRangeException.ThrowIfGreaterThan(dataBytes, (uint)MaxTransferBytes, nameof(dataBytes));
        bool deviceWrites = IsWrittenByDevice(type);
        if (dataBytes == 0)
        {
            return TrySubmitChain(slot, type, sector, [HeaderOf(slot), StatusOf(slot)], 0, tag);
        }

        var data = new DriverBuffer(DataAddress(slot), dataBytes, deviceWrites);
        return TrySubmitChain(slot, type, sector, [HeaderOf(slot), data, StatusOf(slot)], deviceWrites ? dataBytes : 0, tag);
    }

    /// <summary>
    /// The same with data anywhere in guest memory, cut as the caller likes, at most 256 pieces.
    /// </summary>
    /// <param name="type">What to do.</param>
    /// <param name="sector">First sector.</param>
    /// <param name="data">The data, readable buffers before writable ones.</param>
    /// <param name="tag">Comes back with the completion.</param>
    public bool TrySubmit(BlkRequestType type, ulong sector, ReadOnlySpan<DriverBuffer> data, ulong tag)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(data.Length, MaxCallerPieces, nameof(data));
        int slot = NextSlot;
        if (slot < 0)
        {
            return false;
        }

        Span<DriverBuffer> chain = stackalloc DriverBuffer[data.Length + 2];
        uint writableBytes = 0;
        chain[0] = HeaderOf(slot);
        for (int i = 0; i < data.Length; i++)
        {
            chain[i + 1] = data[i];
            writableBytes += data[i].DeviceWritable ? data[i].LengthBytes : 0;
        }

        chain[^1] = StatusOf(slot);
        return TrySubmitChain(slot, type, sector, chain, writableBytes, tag);
    }

    /// <summary>
    /// Adds a ZONE_APPEND with the data in its slot's own buffer: the device says in <see cref="AppendedSector"/> where it put it.
    /// </summary>
    /// <param name="sector">First sector of the zone.</param>
    /// <param name="dataBytes">Bytes of data, from the start of the buffer.</param>
    /// <param name="tag">Comes back with the completion.</param>
    /// <returns>False, with nothing done, when no slot or no descriptor is free.</returns>
    public bool TrySubmitZoneAppend(ulong sector, uint dataBytes, ulong tag)
    {
        int slot = NextSlot;
        if (slot < 0)
        {
            return false;
        }

        ArgumentOutOfRangeException.ThrowIfGreaterThan(dataBytes, (uint)MaxTransferBytes, nameof(dataBytes));
        Unsafe.WriteUnaligned(_slotsHost + (slot * SlotBytes) + AppendSectorOffset, ulong.MaxValue);
        return TrySubmitChain(
            slot,
            BlkRequestType.VIRTIO_BLK_T_ZONE_APPEND,
            sector,
            [HeaderOf(slot), DriverBuffer.Readable(DataAddress(slot), dataBytes), DriverBuffer.Writable(AreaOf(slot) + AppendSectorOffset, sizeof(ulong)), StatusOf(slot)],
            sizeof(ulong),
            tag);
    }

    /// <summary>The <c>append_sector</c> of a ZONE_APPEND that came back OK, until its slot is used again.</summary>
    public ulong AppendedSector(int slot) => Unsafe.ReadUnaligned<ulong>(_slotsHost + (slot * SlotBytes) + AppendSectorOffset);

    /// <summary>
    /// Adds a chain the caller has framed himself, header and status included, wherever they are. For requests that are cut oddly, or wrong:
    /// nothing is checked of what comes back but the ring's own rules, and the completion's status is that of no byte: 0.
    /// </summary>
    /// <param name="chain">The whole chain.</param>
    /// <param name="tag">Comes back with the completion.</param>
    /// <returns>False, with nothing done, when no slot or no descriptor is free.</returns>
    public bool TrySubmitRaw(ReadOnlySpan<DriverBuffer> chain, ulong tag)
    {
        int slot = NextSlot;
        if (slot < 0 || !TryAddToRing(chain, out ushort head))
        {
            return false;
        }

        Take(slot, head, new SlotState(tag, default, 0, IsRaw: true));
        return true;
    }

    /// <summary>Makes what was submitted visible to the device, and kicks it if it wants that.</summary>
    public void Kick()
    {
        if (_ring.Publish())
        {
            _queue.Kick.Signal();
        }
    }

    /// <summary>Takes one completion.</summary>
    /// <returns>False when there is none.</returns>
    /// <exception cref="DeviceBrokeRingException">The device broke the ring, wrote no status, or claims to have written too much.</exception>
    public bool TryComplete(out BlkCompletion completion)
    {
        if (!_ring.TryTakeUsed(out UsedChain used))
        {
            completion = default;
            return false;
        }

        int slot = _slotOfHead[used.Head];
        ref SlotState state = ref _slots[slot];
        byte status = state.IsRaw ? (byte)0 : *(_slotsHost + (slot * SlotBytes) + StatusOffset);
        if (!state.IsRaw)
        {
            CheckWhatWasWritten(in state, status, in used);
        }

        _freeSlots[_freeSlotCount++] = slot;
        completion = new BlkCompletion(slot, state.Tag, (BlkStatus)status, used.WrittenBytes);
        return true;
    }

    /// <summary>Waits until a completion can be taken, on the call eventfd or by looking.</summary>
    /// <returns>False when the deadline passed first.</returns>
    public bool WaitForCompletion(Deadline deadline)
    {
        if (_wait == CompletionWait.Poll)
        {
            var spinner = default(SpinWait);
            while (!_ring.HasUsed)
            {
                // It yields in between, for the device's thread may need this very processor, but never sleeps.
                spinner.SpinOnce(sleep1Threshold: -1);
                if (spinner.NextSpinWillYield && deadline.HasPassed)
                {
                    return _ring.HasUsed;
                }
            }

            return true;
        }

        while (!_ring.HasUsed && !_ring.RequestCalls())
        {
            if (!_queue.Call.Wait(deadline))
            {
                return _ring.HasUsed;
            }

            // Taken before the ring is looked at again: a signal after this belongs to something used later.
            _queue.Call.Take();
        }

        return true;
    }

    private static bool IsWrittenByDevice(BlkRequestType type) =>
        type is BlkRequestType.VIRTIO_BLK_T_IN or BlkRequestType.VIRTIO_BLK_T_GET_ID
            or BlkRequestType.VIRTIO_BLK_T_GET_LIFETIME or BlkRequestType.VIRTIO_BLK_T_ZONE_REPORT;

    private bool TrySubmitChain(int slot, BlkRequestType type, ulong sector, ReadOnlySpan<DriverBuffer> chain, uint writableBytes, ulong tag)
    {
        byte* area = _slotsHost + (slot * SlotBytes);
        Unsafe.WriteUnaligned(area, (ulong)type);
        Unsafe.WriteUnaligned(area + sizeof(ulong), sector);
        area[StatusOffset] = NotWritten;
        if (!TryAddToRing(chain, out ushort head))
        {
            return false;
        }

        Take(slot, head, new SlotState(tag, type, writableBytes));
        return true;
    }

    private bool TryAddToRing(ReadOnlySpan<DriverBuffer> chain, out ushort head) =>
        _indirect ? _ring.TryAddIndirect(chain, out head) : _ring.TryAdd(chain, out head);

    private void Take(int slot, ushort head, in SlotState state)
    {
        _freeSlotCount--;
        _slotOfHead[head] = slot;
        _slots[slot] = state;
    }

    private ulong AreaOf(int slot) => _slotsAddress + ((ulong)slot * SlotBytes);

    private DriverBuffer HeaderOf(int slot) => DriverBuffer.Readable(AreaOf(slot), BlkRequest.HeaderBytes);

    private DriverBuffer StatusOf(int slot) => DriverBuffer.Writable(AreaOf(slot) + StatusOffset, 1);

    private static void CheckWhatWasWritten(in SlotState state, byte status, in UsedChain used)
    {
        uint writableBytes = state.WritableDataBytes + 1;
        // A device may report less than it wrote, never more. A transfer that is OK has filled all there is to fill.
        bool mustFill = status == (byte)BlkStatus.VIRTIO_BLK_S_OK && !used.WasSkipped
            && state.Type is BlkRequestType.VIRTIO_BLK_T_IN or BlkRequestType.VIRTIO_BLK_T_OUT or BlkRequestType.VIRTIO_BLK_T_FLUSH
                or BlkRequestType.VIRTIO_BLK_T_DISCARD or BlkRequestType.VIRTIO_BLK_T_WRITE_ZEROES;
        bool isRight = mustFill ? used.WrittenBytes == writableBytes : used.WrittenBytes <= writableBytes;
        if (status == NotWritten || !isRight)
        {
            throw new DeviceBrokeRingException(
                $"{state.Type} came back with status {status} and a used length of {used.WrittenBytes}; {writableBytes} bytes could be written.");
        }
    }

    private void RequireIdle()
    {
        if (InFlightCount > 0)
        {
            throw new InvalidOperationException($"{InFlightCount} requests are in flight; one at a time needs an idle driver.");
        }
    }

    private readonly record struct SlotState(ulong Tag, BlkRequestType Type, uint WritableDataBytes, bool IsRaw = false);
}
