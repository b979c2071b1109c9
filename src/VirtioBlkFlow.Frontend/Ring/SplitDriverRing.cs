using System.Diagnostics;
using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.Frontend.Ring;

/// <summary>
/// The driver side of a split virtqueue (VIRTIO 1.4, "Split Virtqueues"). Owned by one thread. Nothing is allocated after construction.
/// </summary>
[DebuggerDisplay("size {QueueSize}, avail {_availableIndex}, used {_usedIndex}, in flight {InFlightCount}, free {FreeDescriptorCount}")]
public sealed unsafe class SplitDriverRing : DriverRing
{
    // Fixed at construction.
    private readonly ulong _indirectTables;
    private readonly byte* _indirectTablesHost;

    // Owned by the driver's thread. The free list is ours alone: the table in guest memory is never read back.
    private readonly ushort[] _next;
    private readonly ushort[] _chainLengths;
    private ushort _firstFree;
    private ushort _availableIndex;
    private ushort _availableIndexAtLastDecision;
    private ushort _usedIndex;

    // IN_ORDER only. The free list then goes round the table for ever, so that the oldest chain in flight is where the last one taken ended.
    private ushort _oldestInFlight;
    private int _batchLeft;
    private uint _batchLastLengthBytes;

    /// <summary>Places a ring in guest memory and zeroes it.</summary>
    /// <param name="memory">Where to.</param>
    /// <param name="queueSize">Entries: a power of two up to 32768.</param>
    /// <param name="features">What was negotiated.</param>
    /// <param name="indirectEntries">Entries of the indirect table each head gets; 0 for none.</param>
    /// <param name="startIndex">Where both indices start: 0 for a fresh ring, other values to test the wrap.</param>
    public SplitDriverRing(SharedMemory memory, int queueSize, VirtioFeatures features, int indirectEntries = 0, ushort startIndex = 0)
        : this(memory, queueSize, features, new DriverRingOptions { IndirectEntries = indirectEntries, StartIndex = startIndex })
    {
    }

    /// <summary>Places a ring in guest memory and zeroes it.</summary>
    /// <param name="memory">Where to.</param>
    /// <param name="queueSize">Entries: a power of two up to 32768.</param>
    /// <param name="features">What was negotiated.</param>
    /// <param name="options">What the driver does of its own will.</param>
    public SplitDriverRing(SharedMemory memory, int queueSize, VirtioFeatures features, DriverRingOptions options)
        : base(queueSize, features, options)
    {
        ArgumentNullException.ThrowIfNull(memory);
        if (queueSize < 0 || !SplitRingLayout.IsValidQueueSize((uint)queueSize))
        {
            throw new ArgumentOutOfRangeException(nameof(queueSize), queueSize, "The size of a split virtqueue is a power of two up to 32768.");
        }

        DescriptorTableAddress = Place(memory, SplitRingLayout.DescriptorTableBytes(queueSize), SplitRingLayout.DescriptorTableAlignment, out byte* table);
        AvailableRingAddress = Place(memory, SplitRingLayout.AvailableRingBytes(queueSize), SplitRingLayout.AvailableRingAlignment, out byte* available);
        UsedRingAddress = Place(memory, SplitRingLayout.UsedRingBytes(queueSize), SplitRingLayout.UsedRingAlignment, out byte* used);
        HostAddresses = new RingAddresses((nint)table, (nint)available, (nint)used);
        Raw = new RawSplitRing(queueSize, HostAddresses);
        if (IndirectEntries > 0)
        {
            int bytes = checked(IndirectEntries * queueSize * SplitRingLayout.DescriptorBytes);
            _indirectTables = Place(memory, bytes, SplitRingLayout.DescriptorTableAlignment, out _indirectTablesHost);
        }

        _next = new ushort[queueSize];
        for (int i = 0; i < queueSize; i++)
        {
            _next[i] = (ushort)((i + 1) % queueSize);
        }

        _chainLengths = new ushort[queueSize];
        _availableIndex = _availableIndexAtLastDecision = _usedIndex = options.StartIndex;
        Raw.AvailableIndex = options.StartIndex;
        Raw.UsedIndex = options.StartIndex;
    }

    /// <summary>Guest-physical address of the descriptor table.</summary>
    public ulong DescriptorTableAddress { get; }

    /// <summary>Guest-physical address of the available ring.</summary>
    public ulong AvailableRingAddress { get; }

    /// <summary>Guest-physical address of the used ring.</summary>
    public ulong UsedRingAddress { get; }

    /// <inheritdoc/>
    public override ulong DescriptorAreaAddress => DescriptorTableAddress;

    /// <inheritdoc/>
    public override ulong DriverAreaAddress => AvailableRingAddress;

    /// <inheritdoc/>
    public override ulong DeviceAreaAddress => UsedRingAddress;

    /// <summary>Where the parts are in this process; also where a device in this process finds them.</summary>
    public RingAddresses HostAddresses { get; }

    /// <summary>The ring as bare words, for breaking it.</summary>
    public RawSplitRing Raw { get; }

    /// <summary>Index the next chain gets, modulo 65536.</summary>
    public ushort NextAvailable => _availableIndex;

    /// <summary>Index of the next used element to take, modulo 65536.</summary>
    public ushort NextUsed => _usedIndex;

    /// <inheritdoc/>
    public override bool HasUsed => Raw.UsedIndex != _usedIndex;

    /// <inheritdoc/>
    public override uint Base => _usedIndex;

    /// <inheritdoc/>
    public override uint BaseAfterCrash => Raw.UsedIndex;

    /// <inheritdoc/>
    public override bool TryAddMixed(ReadOnlySpan<DriverBuffer> direct, ReadOnlySpan<DriverBuffer> indirect, out ushort head)
    {
        int needed = direct.Length + (indirect.IsEmpty ? 0 : 1);
        ArgumentOutOfRangeException.ThrowIfZero(needed, nameof(direct));
        ArgumentOutOfRangeException.ThrowIfGreaterThan(indirect.Length, IndirectEntries, nameof(indirect));
        head = _firstFree;
        if (needed > FreeDescriptorCount)
        {
            return false;
        }

        ushort index = head;
        int left = needed;
        foreach (ref readonly DriverBuffer buffer in direct)
        {
            left--;
            WriteNext(index, in buffer, isLast: left == 0);
            index = _next[index];
        }

        if (!indirect.IsEmpty)
        {
            // The head's own table: a head is in flight once at most, so its table is free now.
            Raw.WriteDescriptor(index, new Descriptor
            {
                Address = WriteIndirectTable(head, indirect),
                LengthBytes = (uint)(indirect.Length * SplitRingLayout.DescriptorBytes),
                Flags = DescriptorFlags.VIRTQ_DESC_F_INDIRECT,
            });
            index = _next[index];
        }

        _firstFree = index;
        FreeDescriptorCount -= needed;
        _chainLengths[head] = (ushort)needed;
        InFlightCount++;
        Raw.WriteAvailableEntry(_availableIndex, head);
        _availableIndex++;
        return true;
    }

    /// <inheritdoc/>
    public override bool Publish()
    {
        Raw.AvailableIndex = _availableIndex;
        // StoreLoad: the index before the device's wish, against the device that writes its wish and then re-reads the index. Without
        // it both could miss the other's store, and a kick would be lost.
        Interlocked.MemoryBarrier();
        ushort old = _availableIndexAtLastDecision;
        _availableIndexAtLastDecision = _availableIndex;
        return UsesEventIndex
            ? SplitRingLayout.NeedEvent(Raw.AvailableEvent, _availableIndex, old)
            : (Raw.UsedFlags & SplitRingLayout.VIRTQ_USED_F_NO_NOTIFY) == 0;
    }

    /// <inheritdoc/>
    public override bool TryTakeUsed(out UsedChain used)
    {
        used = default;
        ushort ready = (ushort)(Raw.UsedIndex - _usedIndex);
        if (ready == 0)
        {
            return false;
        }

        if (ready > InFlightCount)
        {
            throw new DeviceBrokeRingException($"The used index is {ready} ahead, with {InFlightCount} chains in flight.");
        }

        if (_batchLeft > 0)
        {
            bool isLast = --_batchLeft == 0;
            return Take(new UsedChain(_oldestInFlight, isLast ? _batchLastLengthBytes : 0, WasSkipped: !isLast), out used);
        }

        (uint id, uint lengthBytes) = Raw.ReadUsedElement(_usedIndex);
        if (id >= (uint)QueueSize || _chainLengths[id] == 0)
        {
            throw new DeviceBrokeRingException($"Used element {_usedIndex} returns head {id}, which is not in flight.");
        }

        if (IsInOrder && id != _oldestInFlight)
        {
            return TakeFirstOfBatch((ushort)id, ready, lengthBytes, out used);
        }

        return Take(new UsedChain((ushort)id, lengthBytes), out used);
    }

    /// <inheritdoc/>
    public override void SuppressCalls()
    {
        if (UsesEventIndex)
        {
            // An index just passed: it is not passed again for another 65535 chains.
            Raw.UsedEvent = (ushort)(_usedIndex - 1);
        }
        else
        {
            Raw.AvailableFlags = SplitRingLayout.VIRTQ_AVAIL_F_NO_INTERRUPT;
        }
    }

    /// <inheritdoc/>
    public override bool RequestCalls(ushort afterChains = 0)
    {
        if (UsesEventIndex)
        {
            Raw.UsedEvent = (ushort)(_usedIndex + afterChains);
        }
        else
        {
            Raw.AvailableFlags = 0;
        }

        // StoreLoad: our wish before the re-read of used.idx, against the device that moves used.idx and then reads our wish.
        Interlocked.MemoryBarrier();
        return (ushort)(Raw.UsedIndex - _usedIndex) > (UsesEventIndex ? afterChains : (ushort)0);
    }

    private void WriteNext(ushort index, in DriverBuffer buffer, bool isLast) => Raw.WriteDescriptor(index, new Descriptor
    {
        Address = buffer.GuestAddress,
        LengthBytes = buffer.LengthBytes,
        Flags = (buffer.DeviceWritable ? DescriptorFlags.VIRTQ_DESC_F_WRITE : DescriptorFlags.None)
            | (isLast ? DescriptorFlags.None : DescriptorFlags.VIRTQ_DESC_F_NEXT),
        Next = isLast ? (ushort)0 : _next[index],
    });

    private ulong WriteIndirectTable(ushort head, ReadOnlySpan<DriverBuffer> chain)
    {
        ulong offset = (ulong)head * (ulong)IndirectEntries * SplitRingLayout.DescriptorBytes;
        byte* place = _indirectTablesHost + offset;
        for (int i = 0; i < chain.Length; i++)
        {
            bool isLast = i == chain.Length - 1;
            RawSplitRing.WriteDescriptor(place, new Descriptor
            {
                Address = chain[i].GuestAddress,
                LengthBytes = chain[i].LengthBytes,
                Flags = (chain[i].DeviceWritable ? DescriptorFlags.VIRTQ_DESC_F_WRITE : DescriptorFlags.None)
                    | (isLast ? DescriptorFlags.None : DescriptorFlags.VIRTQ_DESC_F_NEXT),
                Next = isLast ? (ushort)0 : (ushort)(i + 1),
            });
            place += SplitRingLayout.DescriptorBytes;
        }

        return _indirectTables + offset;
    }

    // One used element, with the head of the batch's last chain, stands for all of them (VIRTIO 1.4, "In-order use of descriptors").
    private bool TakeFirstOfBatch(ushort last, ushort ready, uint lengthBytes, out UsedChain used)
    {
        int count = 1;
        for (ushort head = _oldestInFlight; head != last; head = AfterChain(head))
        {
            count++;
            if (count > ready)
            {
                throw new DeviceBrokeRingException(
                    $"IN_ORDER: used element {_usedIndex} returns head {last} before {_oldestInFlight}, and used.idx is only {ready} ahead.");
            }
        }

        if (!AcceptsInOrderBatches)
        {
            throw new DeviceBrokeRingException($"IN_ORDER: used element {_usedIndex} returns head {last} where {_oldestInFlight} was due.");
        }

        // The length belongs to the last one, and is given when its turn comes.
        _batchLeft = count - 1;
        _batchLastLengthBytes = lengthBytes;
        return Take(new UsedChain(_oldestInFlight, 0, WasSkipped: true), out used);
    }

    private bool Take(UsedChain chain, out UsedChain used)
    {
        used = chain;
        _usedIndex++;
        Free(chain.Head);
        return true;
    }

    private ushort AfterChain(ushort head) => (ushort)((head + _chainLengths[head]) & (QueueSize - 1));

    private void Free(ushort head)
    {
        int length = _chainLengths[head];
        if (IsInOrder)
        {
            // The links go round the whole table and stay.
            _oldestInFlight = AfterChain(head);
        }
        else
        {
            // The links of the chain are still in _next: its tail gets the old free list as continuation.
            ushort tail = head;
            for (int i = 1; i < length; i++)
            {
                tail = _next[tail];
            }

            _next[tail] = _firstFree;
            _firstFree = head;
        }

        FreeDescriptorCount += length;
        _chainLengths[head] = 0;
        InFlightCount--;
    }
}
