using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.Virtio.Blk;

/// <summary>Why a chain is not a request that can be carried out.</summary>
public enum BlkParseError
{
    /// <summary>It is.</summary>
    None,

    /// <summary>No writable byte, or the last one lies outside guest memory: there is no status byte to write.</summary>
    NoStatusByte,

    /// <summary>Fewer than 16 readable bytes: no whole header.</summary>
    ShortHeader,

    /// <summary>The chain itself is faulty: see <see cref="DescriptorChain.Faults"/>.</summary>
    FaultyChain,
}

/// <summary>
/// A block request taken out of a chain, however the driver cut it into descriptors (VIRTIO 1.4, "Block Device", "Device
/// Operation", and "Message Framing"): header = first 16 readable bytes, status = last writable byte, data = the rest.
/// </summary>
public unsafe struct BlkRequest
{
    /// <summary>Size of a sector in bytes, whatever the logical block size is.</summary>
    public const int SectorBytes = 512;

    /// <summary>Size of the header: le32 type, le32 reserved (a priority once; ignored), le64 sector.</summary>
    public const int HeaderBytes = 16;

    /// <summary>What to do.</summary>
    public BlkRequestType Type;

    /// <summary>First sector; meaningful for IN and OUT.</summary>
    public ulong Sector;

    /// <summary>Where the status goes; null with <see cref="BlkParseError.NoStatusByte"/>.</summary>
    public byte* Status;

    /// <summary>Readable data after the header.</summary>
    public Iovec* DataOut;

    /// <summary>Pieces of <see cref="DataOut"/>.</summary>
    public int DataOutCount;

    /// <summary>Bytes of <see cref="DataOut"/>.</summary>
    public uint DataOutBytes;

    /// <summary>Writable data before the status.</summary>
    public Iovec* DataIn;

    /// <summary>Pieces of <see cref="DataIn"/>.</summary>
    public int DataInCount;

    /// <summary>Bytes of <see cref="DataIn"/>.</summary>
    public uint DataInBytes;

    /// <summary>
    /// Takes the request out of a chain. The chain's list of pieces is trimmed in place. Neither throws nor allocates.
    /// </summary>
    /// <returns>False with an error; <see cref="Status"/> is set whenever a status byte can be written.</returns>
    public static bool TryParse(in DescriptorChain chain, out BlkRequest request, out BlkParseError error)
    {
        request = default;
        if (chain.WritableCount == 0 || !chain.LastWritableIsMapped)
        {
            error = BlkParseError.NoStatusByte;
            return false;
        }

        request.DataIn = chain.Writable;
        request.DataInCount = chain.WritableCount;
        request.DataInBytes = chain.WritableBytes - 1;
        Iovec* last = chain.Writable + (chain.WritableCount - 1);
        last->LengthBytes--;
        request.Status = last->Base + last->LengthBytes;
        if (last->LengthBytes == 0)
        {
            request.DataInCount--;
        }

        if (chain.Faults != ChainFaults.None)
        {
            error = BlkParseError.FaultyChain;
            return false;
        }

        if (chain.ReadableBytes < HeaderBytes)
        {
            error = BlkParseError.ShortHeader;
            return false;
        }

        request.DataOut = chain.Pieces;
        request.DataOutCount = chain.ReadableCount;
        request.DataOutBytes = chain.ReadableBytes - HeaderBytes;
        ulong typeAndReserved;
        if (chain.Pieces->LengthBytes >= HeaderBytes)
        {
            typeAndReserved = Unsafe.ReadUnaligned<ulong>(chain.Pieces->Base);
            request.Sector = Unsafe.ReadUnaligned<ulong>(chain.Pieces->Base + sizeof(ulong));
        }
        else
        {
            Span<ulong> header = stackalloc ulong[HeaderBytes / sizeof(ulong)];
            Iovec.Gather(chain.Pieces, chain.ReadableCount, MemoryMarshal.AsBytes(header));
            typeAndReserved = header[0];
            request.Sector = header[1];
        }

        Iovec.Advance(ref request.DataOut, ref request.DataOutCount, HeaderBytes);
        request.Type = (BlkRequestType)(uint)typeAndReserved;
        error = BlkParseError.None;
        return true;
    }

    /// <summary>What is needed to answer the request.</summary>
    public readonly BlkReply Reply => new(Status, DataInBytes);
}
