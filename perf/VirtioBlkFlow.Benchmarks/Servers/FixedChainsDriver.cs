using System.Runtime.InteropServices;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.Benchmarks.Servers;

/// <summary>
/// The least driver there can be: reads of 4 KiB in chains of three descriptors that are written once. For each request it writes a
/// sector and an available entry, and reads a used element and a status byte. It neither kicks nor waits for calls. Owned by one thread.
/// </summary>
internal sealed unsafe class FixedChainsDriver : IDisposable
{
    /// <summary>Entries in the ring: chains of three for 128 requests, rounded up to a power of two.</summary>
    public const int QueueSize = 512;

    /// <summary>Most requests in flight.</summary>
    public const int MaxDepth = QueueSize / DescriptorsPerChain;

    /// <summary>Data of one request.</summary>
    public const int DataBytes = 4096;

    /// <summary>What was negotiated.</summary>
    public const VirtioFeatures Features =
        VirtioFeatures.VIRTIO_F_VERSION_1 | VirtioFeatures.VIRTIO_RING_F_EVENT_IDX | VirtioFeatures.VIRTIO_RING_F_INDIRECT_DESC;

    private const int DescriptorsPerChain = 3;
    private const uint UsedBytes = DataBytes + 1;
    private const byte NoStatus = 0xff;
    private const int PageBytes = 4096;

    // Where guest memory begins. Arbitrary, but not 0, so that translation has something to do.
    private const ulong GuestBase = 0x1000_0000;

    // Fixed at construction.
    private readonly RawSplitRing _raw;
    private readonly ulong[] _sectors;
    private readonly byte* _memory;
    private readonly byte* _headers;
    private readonly byte* _data;
    private readonly byte* _statuses;

    // Owned by the driver's thread.
    private readonly bool[] _inFlight = new bool[QueueSize];
    private ushort _availableIndex;
    private ushort _usedIndex;
    private int _nextSector;
    private bool _sawWrongAnswer;

    /// <summary>Places ring, headers, data and status bytes in native memory.</summary>
    /// <param name="depth">Requests of a round, a power of two.</param>
    /// <param name="sectors">First sectors of the reads, one after the other and from the start again; a power of two of them.</param>
    public FixedChainsDriver(int depth, ulong[] sectors)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(depth, MaxDepth);
        Depth = depth;
        _sectors = sectors;
        int available = SplitRingLayout.DescriptorTableBytes(QueueSize);
        int used = RoundUp(available + SplitRingLayout.AvailableRingBytes(QueueSize));
        int headers = RoundUp(used + SplitRingLayout.UsedRingBytes(QueueSize));
        int statuses = RoundUp(headers + (BlkRequest.HeaderBytes * depth));
        int data = RoundUp(statuses + depth);
        int length = data + (DataBytes * depth);
        _memory = (byte*)NativeMemory.AlignedAlloc((nuint)length, PageBytes);
        new Span<byte>(_memory, length).Clear();
        Memory = new GuestMemory([new GuestMemoryRegion(GuestBase, (ulong)length, (nint)_memory)]);
        Addresses = new RingAddresses((nint)_memory, (nint)(_memory + available), (nint)(_memory + used));
        _raw = new RawSplitRing(QueueSize, Addresses);
        _headers = _memory + headers;
        _statuses = _memory + statuses;
        _data = _memory + data;
        for (int i = 0; i < depth; i++)
        {
            WriteChain(i);
        }
    }

    /// <summary>Requests of a round.</summary>
    public int Depth { get; }

    /// <summary>Guest memory as the device sees it.</summary>
    public GuestMemory Memory { get; }

    /// <summary>The ring as the device sees it.</summary>
    public RingAddresses Addresses { get; }

    /// <summary>What a device needs to serve the ring.</summary>
    public VirtqueueSetup Setup => new()
    {
        QueueSize = QueueSize,
        Addresses = Addresses,
        Memory = Memory,
        Features = Features,
        Position = default,
    };

    /// <summary>Whether some request was answered wrongly: an error, a wrong length, a head that was not in flight.</summary>
    public bool SawWrongAnswer => _sawWrongAnswer;

    /// <summary>The ring as bare words.</summary>
    public RawSplitRing Raw => _raw;

    /// <summary>Makes a round of requests available, with one store of the index.</summary>
    public void MakeAvailable()
    {
        for (int i = 0; i < Depth; i++)
        {
            ushort head = (ushort)(i * DescriptorsPerChain);
            ((ulong*)_headers)[(2 * i) + 1] = _sectors[_nextSector++ & (_sectors.Length - 1)];
            _inFlight[head] = true;
            _raw.WriteAvailableEntry(_availableIndex++, head);
        }

        _raw.AvailableIndex = _availableIndex;
    }

    /// <summary>Takes what was used, and looks at each answer.</summary>
    /// <returns>How many were taken.</returns>
    public int TakeUsed()
    {
        int count = (ushort)(_raw.UsedIndex - _usedIndex);
        bool wrong = false;
        for (int i = 0; i < count; i++)
        {
            (uint head, uint writtenBytes) = _raw.ReadUsedElement(_usedIndex++);
            wrong |= !_inFlight[head] || writtenBytes != UsedBytes || _statuses[head / DescriptorsPerChain] != 0;
            _inFlight[head] = false;
        }

        _sawWrongAnswer |= wrong;
        // With event_idx: asks for a call at the next used element.
        _raw.UsedEvent = _usedIndex;
        return count;
    }

    /// <summary>
    /// For measuring the driver alone: the used ring as a device leaves it that answers all requests in order. It stays right, because
    /// the depth divides the size of the ring.
    /// </summary>
    public void FillUsedRing(RingAddresses addresses)
    {
        ulong* elements = (ulong*)(addresses.DeviceArea + SplitRingLayout.RingOffset);
        for (int i = 0; i < QueueSize; i++)
        {
            ulong element = (uint)(i % Depth * DescriptorsPerChain) | ((ulong)UsedBytes << 32);
            System.Runtime.CompilerServices.Unsafe.WriteUnaligned(elements + i, element);
        }
    }

    /// <summary>One round without a device, over a ring made by <see cref="FillUsedRing"/>.</summary>
    public void RoundWithoutDevice()
    {
        MakeAvailable();
        _raw.UsedIndex = _availableIndex;
        TakeUsed();
    }

    /// <summary>One round, served by a device.</summary>
    public void Round(BlkServer server)
    {
        MakeAvailable();
        int left = Depth;
        do
        {
            server.Turn();
            left -= TakeUsed();
        }
        while (left > 0);
    }

    /// <summary>
    /// Runs some rounds and checks every request of them on its own: answered once, with OK, the right length and, if the disk has data, the
    /// right data.
    /// </summary>
    /// <param name="server">The device.</param>
    /// <param name="isRight">Whether data belongs to a sector; null for a disk that writes none.</param>
    /// <exception cref="InvalidOperationException">Something is wrong: what would be measured is not the work it claims to be.</exception>
    public void Validate(BlkServer server, DataCheck? isRight)
    {
        // More than once around the ring.
        for (int round = 0; round <= QueueSize / Depth; round++)
        {
            new Span<byte>(_statuses, Depth).Fill(NoStatus);
            new Span<byte>(_data, Depth * DataBytes).Fill(NoStatus);
            Round(server);
            for (int i = 0; i < Depth; i++)
            {
                Require(!_inFlight[i * DescriptorsPerChain], $"request {i} was not returned");
                Require(_statuses[i] == (byte)BlkStatus.VIRTIO_BLK_S_OK, $"request {i} has status {_statuses[i]}");
                ulong sector = ((ulong*)_headers)[(2 * i) + 1];
                Require(isRight == null || isRight(sector, new ReadOnlySpan<byte>(_data + (i * DataBytes), DataBytes)), $"request {i} has other data");
            }

            Require(_raw.UsedIndex == _availableIndex, "the used index is not where the available index is");
            Require(server.InFlightCount == 0, "requests are in flight");
            RequireRightAnswers();
        }
    }

    /// <summary>Throws if some request was answered wrongly.</summary>
    public void RequireRightAnswers() => Require(!_sawWrongAnswer, "a used element has a wrong head or length");

    /// <inheritdoc/>
    public void Dispose() => NativeMemory.AlignedFree(_memory);

    private static int RoundUp(int length) => (length + PageBytes - 1) & -PageBytes;

    private static void Require(bool condition, string complaint)
    {
        if (!condition)
        {
            throw new InvalidOperationException($"Validation failed: {complaint}.");
        }
    }

    private void WriteChain(int chain)
    {
        int head = chain * DescriptorsPerChain;
        ((ulong*)_headers)[2 * chain] = (ulong)BlkRequestType.VIRTIO_BLK_T_IN;
        WriteDescriptor(head, _headers + (chain * BlkRequest.HeaderBytes), BlkRequest.HeaderBytes, DescriptorFlags.VIRTQ_DESC_F_NEXT);
        WriteDescriptor(
            head + 1, _data + (chain * DataBytes), DataBytes, DescriptorFlags.VIRTQ_DESC_F_NEXT | DescriptorFlags.VIRTQ_DESC_F_WRITE);
        WriteDescriptor(head + 2, _statuses + chain, 1, DescriptorFlags.VIRTQ_DESC_F_WRITE);
    }

    private void WriteDescriptor(int index, byte* place, uint lengthBytes, DescriptorFlags flags) => _raw.WriteDescriptor(index, new Descriptor
    {
        Address = GuestBase + (ulong)(place - _memory),
        LengthBytes = lengthBytes,
        Flags = flags,
        Next = (flags & DescriptorFlags.VIRTQ_DESC_F_NEXT) != 0 ? (ushort)(index + 1) : (ushort)0,
    });
}

/// <summary>Whether data is what a disk has at a sector.</summary>
internal delegate bool DataCheck(ulong sector, ReadOnlySpan<byte> data);
