using System.Buffers.Binary;

namespace VirtioBlkFlow.Disks.Nbd;

/// <summary>
/// Numbers of the NBD protocol, by their names in its specification (doc/proto.md of the NetworkBlockDevice project, "Values"). All of it is
/// big-endian.
/// </summary>
internal static class NbdWire
{
    // "Fixed newstyle negotiation"
    public const ulong NBDMAGIC = 0x4e42444d41474943;
    public const ulong IHAVEOPT = 0x49484156454f5054;
    public const ulong OldstyleMagic = 0x00420281861253;
    public const ulong OptionReplyMagic = 0x0003e889045565a9;

    // "Handshake flags" and "Client flags"
    public const ushort NBD_FLAG_FIXED_NEWSTYLE = 1;
    public const ushort NBD_FLAG_NO_ZEROES = 2;

    // "Option types"
    public const uint NBD_OPT_EXPORT_NAME = 1;
    public const uint NBD_OPT_GO = 7;
    public const uint NBD_OPT_STRUCTURED_REPLY = 8;

    // "Option reply types"
    public const uint NBD_REP_ACK = 1;
    public const uint NBD_REP_INFO = 3;
    public const uint NBD_REP_FLAG_ERROR = 1u << 31;
    public const uint NBD_REP_ERR_UNSUP = NBD_REP_FLAG_ERROR | 1;
    public const uint NBD_REP_ERR_POLICY = NBD_REP_FLAG_ERROR | 2;
    public const uint NBD_REP_ERR_INVALID = NBD_REP_FLAG_ERROR | 3;
    public const uint NBD_REP_ERR_TLS_REQD = NBD_REP_FLAG_ERROR | 5;
    public const uint NBD_REP_ERR_UNKNOWN = NBD_REP_FLAG_ERROR | 6;
    public const uint NBD_REP_ERR_SHUTDOWN = NBD_REP_FLAG_ERROR | 7;

    public const ushort NBD_INFO_EXPORT = 0;
    public const ushort NBD_INFO_BLOCK_SIZE = 3;

    // "Transmission flags"
    public const ushort NBD_FLAG_READ_ONLY = 1 << 1;
    public const ushort NBD_FLAG_SEND_FLUSH = 1 << 2;
    public const ushort NBD_FLAG_SEND_FUA = 1 << 3;
    public const ushort NBD_FLAG_SEND_TRIM = 1 << 5;
    public const ushort NBD_FLAG_SEND_WRITE_ZEROES = 1 << 6;
    public const ushort NBD_FLAG_CAN_MULTI_CONN = 1 << 8;

    // "Request message", "Simple reply message", "Structured reply chunk message"
    public const uint NBD_REQUEST_MAGIC = 0x25609513;
    public const uint NBD_SIMPLE_REPLY_MAGIC = 0x67446698;
    public const uint NBD_STRUCTURED_REPLY_MAGIC = 0x668e33ef;
    public const int RequestBytes = 28;
    public const int SimpleReplyBytes = 16;
    public const int ChunkHeaderBytes = 20;
    public const ushort NBD_REPLY_FLAG_DONE = 1;
    public const ushort NBD_REPLY_TYPE_NONE = 0;
    public const ushort NBD_REPLY_TYPE_OFFSET_DATA = 1;
    public const ushort NBD_REPLY_TYPE_OFFSET_HOLE = 2;
    public const ushort NBD_REPLY_TYPE_ERROR_BIT = 1 << 15;

    // "Command flags"
    public const ushort NBD_CMD_FLAG_FUA = 1;
    public const ushort NBD_CMD_FLAG_NO_HOLE = 2;

    // "Error values"
    public const uint NBD_EIO = 5;
    public const uint NBD_ENOSPC = 28;
    public const uint NBD_ENOTSUP = 95;
    public const uint NBD_ESHUTDOWN = 108;

    /// <summary>"Maximum string length".</summary>
    public const int MaxStringBytes = 4096;

    /// <summary>Largest payload of a server that does not say ("Block size constraints").</summary>
    public const uint DefaultMaxPayloadBytes = 32 << 20;

    public static void WriteRequest(Span<byte> destination, ushort flags, NbdCommand command, ulong cookie, ulong offsetBytes, uint lengthBytes)
    {
        BinaryPrimitives.WriteUInt32BigEndian(destination, NBD_REQUEST_MAGIC);
        BinaryPrimitives.WriteUInt16BigEndian(destination[4..], flags);
        BinaryPrimitives.WriteUInt16BigEndian(destination[6..], (ushort)command);
        BinaryPrimitives.WriteUInt64BigEndian(destination[8..], cookie);
        BinaryPrimitives.WriteUInt64BigEndian(destination[16..], offsetBytes);
        BinaryPrimitives.WriteUInt32BigEndian(destination[24..], lengthBytes);
    }
}

/// <summary>"Request types".</summary>
internal enum NbdCommand : ushort
{
    NBD_CMD_READ = 0,
    NBD_CMD_WRITE = 1,
    NBD_CMD_DISC = 2,
    NBD_CMD_FLUSH = 3,
    NBD_CMD_TRIM = 4,
    NBD_CMD_WRITE_ZEROES = 6,
}
