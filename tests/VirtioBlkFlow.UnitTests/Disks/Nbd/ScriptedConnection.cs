using System.Buffers.Binary;
using System.Net.Sockets;
using VirtioBlkFlow.Disks.Nbd;
using static VirtioBlkFlow.Disks.Nbd.NbdWire;

namespace VirtioBlkFlow.UnitTests.Disks.Nbd;

/// <summary>One connection of a scripted server, on its thread.</summary>
/// <param name="server">Whose.</param>
/// <param name="socket">The connection's.</param>
/// <param name="number">How many there were, with this one.</param>
internal sealed class ScriptedConnection(ScriptedNbdServer server, Socket socket, int number)
{
    private bool _isStructured;

    /// <summary>1 for the first connection of the server.</summary>
    public int Number => number;

    public void Close() => socket.Dispose();

    public void Send(params ReadOnlySpan<byte> bytes)
    {
        while (bytes.Length > 0)
        {
            bytes = bytes[socket.Send(bytes)..];
        }
    }

    public byte[] Receive(int count)
    {
        byte[] bytes = new byte[count];
        for (int at = 0; at < count;)
        {
            int received = socket.Receive(bytes.AsSpan(at));
            at += received > 0 ? received : throw new EndOfStreamException();
        }

        return bytes;
    }

    /// <summary>Null if the client takes leave.</summary>
    public ScriptedRequest? ReceiveRequest()
    {
        ScriptedRequest request = ReceiveHeader();
        return request.Command switch
        {
            NbdCommand.NBD_CMD_DISC => null,
            NbdCommand.NBD_CMD_WRITE => request with { Data = Receive((int)request.LengthBytes) },
            _ => request,
        };
    }

    /// <summary>A command without the data of a write, which comes next.</summary>
    public ScriptedRequest ReceiveHeader()
    {
        byte[] header = Receive(RequestBytes);
        return new ScriptedRequest(
            (NbdCommand)BinaryPrimitives.ReadUInt16BigEndian(header.AsSpan(6)),
            BinaryPrimitives.ReadUInt16BigEndian(header.AsSpan(4)),
            BinaryPrimitives.ReadUInt64BigEndian(header.AsSpan(8)),
            BinaryPrimitives.ReadUInt64BigEndian(header.AsSpan(16)),
            BinaryPrimitives.ReadUInt32BigEndian(header.AsSpan(24)),
            []);
    }

    /// <summary>Does it and answers.</summary>
    public void Serve(ScriptedRequest request) => Send(AnswerTo(request));

    /// <summary>Does it.</summary>
    /// <returns>What is to be answered.</returns>
    public byte[] AnswerTo(ScriptedRequest request)
    {
        Span<byte> area = server.Image.AsSpan((int)request.OffsetBytes, (int)request.LengthBytes);
        switch (request.Command)
        {
            case NbdCommand.NBD_CMD_READ when _isStructured:
                return [.. DataChunk(request, request.OffsetBytes, area.ToArray(), isLast: false), .. Chunk(request, NBD_REPLY_TYPE_NONE, [], isLast: true)];
            case NbdCommand.NBD_CMD_READ:
                return [.. Simple(request, 0), .. area];
            case NbdCommand.NBD_CMD_WRITE:
                request.Data.CopyTo(area);
                break;
            case NbdCommand.NBD_CMD_TRIM or NbdCommand.NBD_CMD_WRITE_ZEROES:
                area.Clear();
                break;
            default:
                break;
        }

        return Done(request);
    }

    /// <summary>A reply without data.</summary>
    public byte[] Done(ScriptedRequest request) => _isStructured ? Chunk(request, NBD_REPLY_TYPE_NONE, [], isLast: true) : Simple(request, 0);

    /// <summary>An error.</summary>
    public byte[] Error(ScriptedRequest request, uint error, bool isLast = true)
    {
        byte[] payload = new byte[6 + 5];
        BinaryPrimitives.WriteUInt32BigEndian(payload, error);
        BinaryPrimitives.WriteUInt16BigEndian(payload.AsSpan(4), 5);
        "oh no"u8.CopyTo(payload.AsSpan(6));
        return _isStructured ? Chunk(request, NBD_REPLY_TYPE_ERROR_BIT | 1, payload, isLast) : Simple(request, error);
    }

    public static byte[] Simple(ScriptedRequest request, uint error)
    {
        byte[] reply = new byte[SimpleReplyBytes];
        BinaryPrimitives.WriteUInt32BigEndian(reply, NBD_SIMPLE_REPLY_MAGIC);
        BinaryPrimitives.WriteUInt32BigEndian(reply.AsSpan(4), error);
        BinaryPrimitives.WriteUInt64BigEndian(reply.AsSpan(8), request.Cookie);
        return reply;
    }

    public static byte[] Chunk(ScriptedRequest request, int type, byte[] payload, bool isLast)
    {
        byte[] chunk = new byte[ChunkHeaderBytes + payload.Length];
        BinaryPrimitives.WriteUInt32BigEndian(chunk, NBD_STRUCTURED_REPLY_MAGIC);
        BinaryPrimitives.WriteUInt16BigEndian(chunk.AsSpan(4), isLast ? NBD_REPLY_FLAG_DONE : (ushort)0);
        BinaryPrimitives.WriteUInt16BigEndian(chunk.AsSpan(6), (ushort)type);
        BinaryPrimitives.WriteUInt64BigEndian(chunk.AsSpan(8), request.Cookie);
        BinaryPrimitives.WriteUInt32BigEndian(chunk.AsSpan(16), (uint)payload.Length);
        payload.CopyTo(chunk, ChunkHeaderBytes);
        return chunk;
    }

    public static byte[] DataChunk(ScriptedRequest request, ulong offsetBytes, byte[] data, bool isLast)
    {
        byte[] payload = new byte[8 + data.Length];
        BinaryPrimitives.WriteUInt64BigEndian(payload, offsetBytes);
        data.CopyTo(payload, 8);
        return Chunk(request, NBD_REPLY_TYPE_OFFSET_DATA, payload, isLast);
    }

    public static byte[] HoleChunk(ScriptedRequest request, ulong offsetBytes, uint lengthBytes, bool isLast)
    {
        byte[] payload = new byte[12];
        BinaryPrimitives.WriteUInt64BigEndian(payload, offsetBytes);
        BinaryPrimitives.WriteUInt32BigEndian(payload.AsSpan(8), lengthBytes);
        return Chunk(request, NBD_REPLY_TYPE_OFFSET_HOLE, payload, isLast);
    }

    /// <summary>Fixed newstyle, with what the server has.</summary>
    public bool NegotiateProperly()
    {
        Send(Greeting());
        bool hasZeroes = (BinaryPrimitives.ReadUInt32BigEndian(Receive(4)) & NBD_FLAG_NO_ZEROES) == 0;
        while (true)
        {
            byte[] header = Receive(16);
            uint option = BinaryPrimitives.ReadUInt32BigEndian(header.AsSpan(8));
            byte[] data = Receive((int)BinaryPrimitives.ReadUInt32BigEndian(header.AsSpan(12)));
            switch (option)
            {
                case NBD_OPT_STRUCTURED_REPLY when server.HasStructuredReplies:
                    _isStructured = true;
                    Send(OptionReply(option, NBD_REP_ACK, []));
                    break;
                case NBD_OPT_GO when server.HasGo && data.Length > 0:
                    Send(
                    [
                        .. OptionReply(option, NBD_REP_INFO, [0, (byte)NBD_INFO_EXPORT, .. ExportInfo()]),
                        // What was not asked for: a name.
                        .. OptionReply(option, NBD_REP_INFO, [0, 1, (byte)'x']),
                        .. BlockSizeInfo(option),
                        .. OptionReply(option, NBD_REP_ACK, []),
                    ]);
                    return true;
                case NBD_OPT_EXPORT_NAME:
                    Send([.. ExportInfo(), .. new byte[hasZeroes ? 124 : 0]]);
                    return true;
                default:
                    Send(OptionReply(option, NBD_REP_ERR_UNSUP, []));
                    break;
            }
        }
    }

    public static byte[] Greeting()
    {
        byte[] greeting = new byte[18];
        BinaryPrimitives.WriteUInt64BigEndian(greeting, NBDMAGIC);
        BinaryPrimitives.WriteUInt64BigEndian(greeting.AsSpan(8), IHAVEOPT);
        BinaryPrimitives.WriteUInt16BigEndian(greeting.AsSpan(16), NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
        return greeting;
    }

    public static byte[] OptionReply(uint option, uint type, byte[] data)
    {
        byte[] reply = new byte[20 + data.Length];
        BinaryPrimitives.WriteUInt64BigEndian(reply, OptionReplyMagic);
        BinaryPrimitives.WriteUInt32BigEndian(reply.AsSpan(8), option);
        BinaryPrimitives.WriteUInt32BigEndian(reply.AsSpan(12), type);
        BinaryPrimitives.WriteUInt32BigEndian(reply.AsSpan(16), (uint)data.Length);
        data.CopyTo(reply, 20);
        return reply;
    }

    private byte[] ExportInfo()
    {
        byte[] info = new byte[10];
        BinaryPrimitives.WriteUInt64BigEndian(info, server.ExportBytes);
        BinaryPrimitives.WriteUInt16BigEndian(info.AsSpan(8), server.Flags);
        return info;
    }

    private byte[] BlockSizeInfo(uint option)
    {
        if (server.BlockSizes is not var (min, preferred, max))
        {
            return [];
        }

        byte[] info = [0, (byte)NBD_INFO_BLOCK_SIZE, .. new byte[12]];
        BinaryPrimitives.WriteUInt32BigEndian(info.AsSpan(2), min);
        BinaryPrimitives.WriteUInt32BigEndian(info.AsSpan(6), preferred);
        BinaryPrimitives.WriteUInt32BigEndian(info.AsSpan(10), max);
        return OptionReply(option, NBD_REP_INFO, info);
    }
}
