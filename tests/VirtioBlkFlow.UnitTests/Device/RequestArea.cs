using System.Buffers.Binary;
using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.UnitTests.Device;

/// <summary>Guest memory of one request: header, data, status. A driver uses one for each request it has in flight.</summary>
internal sealed class RequestArea
{
    public const int MaxDataBytes = 8192;

    /// <summary>What no device writes: it tells a status byte that was not written.</summary>
    public const byte NoStatus = 0xa5;

    private readonly SharedMemory _memory;
    private readonly ulong _header;

    public RequestArea(SharedMemory memory)
    {
        _memory = memory;
        _header = memory.Allocate(16);
        StatusAddress = memory.Allocate(1);
        DataAddress = memory.Allocate(MaxDataBytes, 4096);
    }

    public ulong DataAddress { get; }

    public ulong StatusAddress { get; }

    public DriverBuffer Header => DriverBuffer.Readable(_header, BlkRequest.HeaderBytes);

    public DriverBuffer Status => DriverBuffer.Writable(StatusAddress, 1);

    public byte StatusByte
    {
        get => _memory.Span(StatusAddress, 1)[0];
        set => _memory.Span(StatusAddress, 1)[0] = value;
    }

    public Span<byte> Data(int lengthBytes) => _memory.Span(DataAddress, lengthBytes);

    public void WriteHeader(BlkRequestType type, ulong sector)
    {
        Span<byte> header = _memory.Span(_header, BlkRequest.HeaderBytes);
        BinaryPrimitives.WriteUInt32LittleEndian(header, (uint)type);
        // Linux puts an I/O priority here; nobody may take offence.
        BinaryPrimitives.WriteUInt32LittleEndian(header[4..], 0x6007);
        BinaryPrimitives.WriteUInt64LittleEndian(header[8..], sector);
        StatusByte = NoStatus;
    }

    public DriverBuffer[] Chain(BlkRequestType type, ulong sector, uint dataBytes)
    {
        WriteHeader(type, sector);
        if (dataBytes == 0)
        {
            return [Header, Status];
        }

        bool deviceWrites = type is BlkRequestType.VIRTIO_BLK_T_IN or BlkRequestType.VIRTIO_BLK_T_GET_ID;
        return [Header, new DriverBuffer(DataAddress, dataBytes, deviceWrites), Status];
    }

    public void WriteSegments(params ReadOnlySpan<BlkSegment> segments) =>
        System.Runtime.InteropServices.MemoryMarshal.AsBytes(segments).CopyTo(Data(MaxDataBytes));
}
