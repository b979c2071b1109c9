using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.Frontend.Load;

/// <summary>
/// Where the requests of one queue are in guest memory: for each slot a cache line with header and status byte, an indirect table if
/// there is one, and a data buffer. Laid out once. Owned by the queue's thread.
/// </summary>
internal sealed unsafe class LoadSlots
{
    /// <summary>No status of the specification: it tells "not written".</summary>
    public const byte NotWritten = 0xff;

    // One cache line travels to the device and back for each request: header and status together, as Linux has them.
    private const int AreaBytes = 64;
    private const int StatusOffset = 32;

    // Buffers are whole pages, as a file opened with O_DIRECT wants them.
    private const ulong PageBytes = 4096;

    private readonly ulong _areasAddress;
    private readonly byte* _areasHost;
    private readonly ulong _dataAddress;
    private readonly byte* _dataHost;
    private readonly ulong _dataStride;
    private readonly uint _pieceBytes;

    /// <summary>Lays everything out, and fills the data buffers with random bytes.</summary>
    /// <param name="memory">Guest memory the back-end has been told of.</param>
    /// <param name="depth">Slots.</param>
    /// <param name="dataBytes">The largest request.</param>
    /// <param name="pieceBytes">The largest segment the back-end takes.</param>
    /// <param name="indirect">Whether chains get tables.</param>
    /// <param name="seed">Decides about the random bytes.</param>
    public LoadSlots(SharedMemory memory, int depth, uint dataBytes, uint pieceBytes, bool indirect, ulong seed)
    {
        _pieceBytes = pieceBytes;
        ChainLength = ChainLengthFor(dataBytes, pieceBytes);
        _areasAddress = memory.Allocate((ulong)depth * AreaBytes, AreaBytes);
        _areasHost = memory.Host(_areasAddress, (ulong)depth * AreaBytes);
        if (indirect)
        {
            ulong tablesBytes = (ulong)depth * TableStride(ChainLength);
            TableAddress = memory.Allocate(tablesBytes, AreaBytes);
            TableHost = (nint)memory.Host(TableAddress, tablesBytes);
        }

        _dataStride = (dataBytes + PageBytes - 1) & ~(PageBytes - 1);
        ulong dataTotal = _dataStride * (ulong)depth;
        _dataAddress = memory.Allocate(dataTotal, PageBytes);
        _dataHost = memory.Host(_dataAddress, dataTotal);
        var random = new LoadRandom(seed);
        for (ulong i = 0; i < dataTotal; i += sizeof(ulong))
        {
            *(ulong*)(_dataHost + i) = random.Next();
        }
    }

    /// <summary>Most descriptors in a chain.</summary>
    public int ChainLength { get; }

    /// <summary>Guest address of the first slot's indirect table; 0 without.</summary>
    public ulong TableAddress { get; }

    /// <summary>Where that is in this process; 0 without.</summary>
    public nint TableHost { get; }

    /// <summary>Descriptors in a chain for so much data.</summary>
    public static int ChainLengthFor(uint dataBytes, uint pieceBytes) => (int)((dataBytes + (ulong)pieceBytes - 1) / pieceBytes) + 2;

    /// <summary>Guest memory that one queue's slots and ring take, generously.</summary>
    public static ulong MemoryBytes(int depth, uint dataBytes, int chainLength, int queueSize) =>
        ((ulong)depth * (AreaBytes + TableStride(chainLength) + ((dataBytes + PageBytes - 1) & ~(PageBytes - 1)))) + ((ulong)queueSize * 64) + (16 * PageBytes);

    /// <summary>Writes the header of a slot's next request, and forgets its status.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void WriteHeader(int slot, BlkRequestType type, ulong sector)
    {
        byte* area = _areasHost + (slot * AreaBytes);
        *(ulong*)area = (ulong)type;
        *(ulong*)(area + sizeof(ulong)) = sector;
        area[StatusOffset] = NotWritten;
    }

    /// <summary>The status byte of a slot.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public byte ReadStatus(int slot) => *(_areasHost + (slot * AreaBytes) + StatusOffset);

    /// <summary>A slot's data.</summary>
    public Span<byte> Data(int slot, uint bytes) => new(_dataHost + ((ulong)slot * _dataStride), (int)bytes);

    /// <summary>Describes a slot's chain: header, data in as many pieces as the back-end wants, status.</summary>
    /// <returns>How many descriptors there are.</returns>
    public int Describe(int slot, uint bytes, bool deviceWrites, Span<DriverBuffer> chain)
    {
        ulong area = _areasAddress + (ulong)(slot * AreaBytes);
        ulong data = _dataAddress + ((ulong)slot * _dataStride);
        int count = 0;
        chain[count++] = DriverBuffer.Readable(area, BlkRequest.HeaderBytes);
        for (uint done = 0; done < bytes;)
        {
            uint piece = Math.Min(bytes - done, _pieceBytes);
            chain[count++] = new DriverBuffer(data + done, piece, deviceWrites);
            done += piece;
        }

        chain[count++] = DriverBuffer.Writable(area + StatusOffset, 1);
        return count;
    }

    private static ulong TableStride(int chainLength) => ((ulong)chainLength * 16 + 63) & ~63UL;
}
