using System.Buffers.Binary;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.ConformanceTests.Rig;

/// <summary>What a request came back with.</summary>
/// <param name="Status">The status byte; <see cref="RequestPlace.NotWritten"/> if there is none.</param>
/// <param name="UsedBytes">The used length.</param>
internal readonly record struct Answer(byte Status, uint UsedBytes);

/// <summary>
/// Guest memory for one request, header, data and status, and the bare ring to send it by: for requests cut, filled and made wrong by hand.
/// </summary>
internal sealed class RequestPlace
{
    /// <summary>No status of the specification: it tells a byte that was not written.</summary>
    public const byte NotWritten = 0xee;

    private readonly SharedMemory _memory;
    private readonly FrontendQueue _queue;
    private readonly ulong _header;
    private readonly ulong _status;

    public RequestPlace(SharedMemory memory, FrontendQueue queue, int dataBytes = 64 * 1024)
    {
        _memory = memory;
        _queue = queue;
        _header = memory.Allocate(64);
        _status = memory.Allocate(1);
        DataAddress = memory.Allocate((ulong)dataBytes, 4096);
        DataBytes = dataBytes;
        Prepare(BlkRequestType.VIRTIO_BLK_T_IN);
    }

    public RequestPlace(FrontendSession session, int queue = 0, int dataBytes = 64 * 1024)
        : this(session.Memory, session.Queues[queue], dataBytes)
    {
    }

    public ulong DataAddress { get; }

    public int DataBytes { get; }

    public DriverBuffer Header => DriverBuffer.Readable(_header, BlkRequest.HeaderBytes);

    public DriverBuffer Status => DriverBuffer.Writable(_status, 1);

    public Span<byte> HeaderSpan => _memory.Span(_header, BlkRequest.HeaderBytes);

    public Span<byte> Data => _memory.Span(DataAddress, DataBytes);

    public byte StatusByte
    {
        get => Volatile.Read(ref _memory.Span(_status, 1)[0]);
        set => _memory.Span(_status, 1)[0] = value;
    }

    public DriverBuffer In(int lengthBytes, int offset = 0) => DriverBuffer.Writable(DataAddress + (ulong)offset, (uint)lengthBytes);

    public DriverBuffer Out(int lengthBytes, int offset = 0) => DriverBuffer.Readable(DataAddress + (ulong)offset, (uint)lengthBytes);

    /// <summary>Writes the header.</summary>
    public RequestPlace Prepare(BlkRequestType type, ulong sector = 0, uint reserved = 0)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(HeaderSpan, (uint)type);
        BinaryPrimitives.WriteUInt32LittleEndian(HeaderSpan[4..], reserved);
        BinaryPrimitives.WriteUInt64LittleEndian(HeaderSpan[8..], sector);
        StatusByte = NotWritten;
        return this;
    }

    public RequestPlace Segments(params ReadOnlySpan<BlkSegment> segments)
    {
        System.Runtime.InteropServices.MemoryMarshal.AsBytes(segments).CopyTo(Data);
        return this;
    }

    /// <summary>Adds a chain and makes it visible, without a kick.</summary>
    /// <returns>Its head.</returns>
    public ushort Publish(params ReadOnlySpan<DriverBuffer> chain)
    {
        Assert.True(_queue.Ring.TryAdd(chain, out ushort head), "The ring is full.");
        _queue.Ring.Publish();
        return head;
    }

    /// <summary>Adds a chain, makes it visible, kicks, whether the device wants that or not.</summary>
    public ushort Send(params ReadOnlySpan<DriverBuffer> chain)
    {
        ushort head = Publish(chain);
        _queue.Kick.Signal();
        return head;
    }

    /// <summary>Sends a chain, and waits for it.</summary>
    public Answer Run(params ReadOnlySpan<DriverBuffer> chain)
    {
        ushort head = Send(chain);
        UsedChain used = TakeUsed();
        Assert.Equal(head, used.Head);
        return new Answer(StatusByte, used.WrittenBytes);
    }

    /// <summary>The same through the head's indirect table.</summary>
    public Answer RunIndirect(ReadOnlySpan<DriverBuffer> direct, ReadOnlySpan<DriverBuffer> indirect)
    {
        Assert.True(_queue.Ring.TryAddMixed(direct, indirect, out ushort head));
        _queue.Ring.Publish();
        _queue.Kick.Signal();
        UsedChain used = TakeUsed();
        Assert.Equal(head, used.Head);
        return new Answer(StatusByte, used.WrittenBytes);
    }

    public UsedChain TakeUsed()
    {
        Await.Until(() => _queue.Ring.HasUsed, "a request comes back");
        Assert.True(_queue.Ring.TryTakeUsed(out UsedChain used));
        return used;
    }

    /// <summary>A whole read.</summary>
    public Answer Read(ulong sector, int lengthBytes)
    {
        Prepare(BlkRequestType.VIRTIO_BLK_T_IN, sector);
        return Run(Header, In(lengthBytes), Status);
    }

    /// <summary>A whole write of what is in the data.</summary>
    public Answer Write(ulong sector, int lengthBytes)
    {
        Prepare(BlkRequestType.VIRTIO_BLK_T_OUT, sector);
        return Run(Header, Out(lengthBytes), Status);
    }

    public Answer Flush()
    {
        Prepare(BlkRequestType.VIRTIO_BLK_T_FLUSH);
        return Run(Header, Status);
    }

    /// <summary>A whole DISCARD or WRITE_ZEROES.</summary>
    public Answer RunSegments(BlkRequestType type, params ReadOnlySpan<BlkSegment> segments)
    {
        Prepare(type).Segments(segments);
        return Run(Header, Out(segments.Length * BlkSegment.SizeBytes), Status);
    }
}
