using System.Buffers.Binary;
using System.Text;
using static VirtioBlkFlow.Disks.Nbd.NbdWire;

namespace VirtioBlkFlow.Disks.Nbd;

/// <summary>What a server has said about an export.</summary>
/// <param name="SizeBytes">Its size.</param>
/// <param name="Flags">Transmission flags.</param>
/// <param name="HasStructuredReplies">Whether replies come in chunks.</param>
/// <param name="MinBlockBytes">Smallest transfer; 1 if the server does not say.</param>
/// <param name="PreferredBlockBytes">Below it, transfers cost more; 0 if the server does not say.</param>
/// <param name="MaxPayloadBytes">Largest transfer.</param>
internal sealed record NbdExport(
    ulong SizeBytes, ushort Flags, bool HasStructuredReplies, uint MinBlockBytes, uint PreferredBlockBytes, uint MaxPayloadBytes)
{
    public bool IsReadOnly => Has(NBD_FLAG_READ_ONLY);

    public bool CanFlush => Has(NBD_FLAG_SEND_FLUSH);

    public bool CanFua => Has(NBD_FLAG_SEND_FUA);

    public bool CanTrim => Has(NBD_FLAG_SEND_TRIM);

    public bool CanWriteZeroes => Has(NBD_FLAG_SEND_WRITE_ZEROES);

    public bool CanMultiConn => Has(NBD_FLAG_CAN_MULTI_CONN);

    private bool Has(ushort flag) => (Flags & flag) != 0;
}

/// <summary>
/// Comes to terms with a server: fixed newstyle, structured replies, NBD_OPT_GO; with an older one NBD_OPT_EXPORT_NAME (proto.md, "Newstyle
/// negotiation").
/// </summary>
internal static class NbdNegotiation
{
    // Longest answer to an option that is taken. Those that are asked for have some ten bytes, or a message: "Maximum string length".
    private const uint MaxReplyBytes = 64 << 10;

    /// <exception cref="IOException">The server does not answer, or nothing that makes sense.</exception>
    /// <exception cref="DiskOpenException">It has no such export for us.</exception>
    public static NbdExport Run(NbdSocket socket, string exportName)
    {
        Span<byte> greeting = stackalloc byte[16];
        socket.Receive(greeting);
        ulong style = BinaryPrimitives.ReadUInt64BigEndian(greeting[8..]);
        if (BinaryPrimitives.ReadUInt64BigEndian(greeting) != NBDMAGIC || style != IHAVEOPT)
        {
            throw new IOException(style == OldstyleMagic ? "The server speaks the old style of the protocol." : "That is no NBD server.");
        }

        Span<byte> flagBytes = stackalloc byte[2];
        socket.Receive(flagBytes);
        ushort offered = BinaryPrimitives.ReadUInt16BigEndian(flagBytes);
        bool hasOptions = (offered & NBD_FLAG_FIXED_NEWSTYLE) != 0;
        bool hasNoZeroes = (offered & NBD_FLAG_NO_ZEROES) != 0;
        Span<byte> chosen = stackalloc byte[4];
        BinaryPrimitives.WriteUInt32BigEndian(chosen, (uint)(offered & (NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES)));
        socket.Send(chosen);
        bool isStructured = hasOptions && AskForStructuredReplies(socket);
        NbdExport? export = hasOptions ? Go(socket, exportName, isStructured) : null;
        return export ?? ByName(socket, exportName, isStructured, hasNoZeroes);
    }

    private static bool AskForStructuredReplies(NbdSocket socket)
    {
        SendOption(socket, NBD_OPT_STRUCTURED_REPLY, []);
        return ReceiveReply(socket, NBD_OPT_STRUCTURED_REPLY, out _) == NBD_REP_ACK;
    }

    // Null if the server does not know this option.
    private static NbdExport? Go(NbdSocket socket, string exportName, bool isStructured)
    {
        byte[] name = Encoding.UTF8.GetBytes(exportName);
        byte[] data = new byte[4 + name.Length + 4];
        BinaryPrimitives.WriteUInt32BigEndian(data, (uint)name.Length);
        name.CopyTo(data, 4);
        // One kind of information beside what always comes.
        BinaryPrimitives.WriteUInt16BigEndian(data.AsSpan(4 + name.Length), 1);
        BinaryPrimitives.WriteUInt16BigEndian(data.AsSpan(6 + name.Length), NBD_INFO_BLOCK_SIZE);
        SendOption(socket, NBD_OPT_GO, data);
        NbdExport export = new(0, 0, isStructured, 1, 0, DefaultMaxPayloadBytes);
        bool hasExport = false;
        while (true)
        {
            uint reply = ReceiveReply(socket, NBD_OPT_GO, out byte[] content);
            switch (reply)
            {
                case NBD_REP_ACK:
                    return hasExport ? export : throw Garbled();
                case NBD_REP_INFO when content.Length >= 2:
                    hasExport |= TakeInformation(ref export, content);
                    break;
                case NBD_REP_ERR_UNSUP:
                    return null;
                case NBD_REP_ERR_SHUTDOWN:
                    throw new IOException("The server is shutting down.");
                default:
                    throw (reply & NBD_REP_FLAG_ERROR) != 0 ? Refused(exportName, reply, content) : Garbled();
            }
        }
    }

    private static bool TakeInformation(ref NbdExport export, byte[] content)
    {
        ReadOnlySpan<byte> value = content.AsSpan(2);
        switch (BinaryPrimitives.ReadUInt16BigEndian(content))
        {
            case NBD_INFO_EXPORT when value.Length == 10:
                export = export with { SizeBytes = BinaryPrimitives.ReadUInt64BigEndian(value), Flags = BinaryPrimitives.ReadUInt16BigEndian(value[8..]) };
                return true;
            case NBD_INFO_BLOCK_SIZE when value.Length == 12:
                export = export with
                {
                    MinBlockBytes = BinaryPrimitives.ReadUInt32BigEndian(value),
                    PreferredBlockBytes = BinaryPrimitives.ReadUInt32BigEndian(value[4..]),
                    MaxPayloadBytes = BinaryPrimitives.ReadUInt32BigEndian(value[8..]),
                };
                return false;
            case NBD_INFO_EXPORT or NBD_INFO_BLOCK_SIZE:
                throw Garbled();
            default:
                // Servers may tell more than they were asked.
                return false;
        }
    }

    private static NbdExport ByName(NbdSocket socket, string exportName, bool isStructured, bool hasNoZeroes)
    {
        SendOption(socket, NBD_OPT_EXPORT_NAME, Encoding.UTF8.GetBytes(exportName));
        // Size, flags, and in former times zeros.
        Span<byte> answer = stackalloc byte[hasNoZeroes ? 10 : 10 + 124];
        try
        {
            socket.Receive(answer);
        }
        catch (IOException exception) when (exception.Message.Contains("closed", StringComparison.Ordinal))
        {
            // All that this option lets a server say.
            throw new DiskOpenException($"The server has no export '{exportName}'. Check its name.", exception);
        }

        return new NbdExport(
            BinaryPrimitives.ReadUInt64BigEndian(answer), BinaryPrimitives.ReadUInt16BigEndian(answer[8..]), isStructured, 1, 0, DefaultMaxPayloadBytes);
    }

    private static void SendOption(NbdSocket socket, uint option, ReadOnlySpan<byte> data)
    {
        byte[] message = new byte[16 + data.Length];
        BinaryPrimitives.WriteUInt64BigEndian(message, IHAVEOPT);
        BinaryPrimitives.WriteUInt32BigEndian(message.AsSpan(8), option);
        BinaryPrimitives.WriteUInt32BigEndian(message.AsSpan(12), (uint)data.Length);
        data.CopyTo(message.AsSpan(16));
        socket.Send(message);
    }

    private static uint ReceiveReply(NbdSocket socket, uint option, out byte[] content)
    {
        Span<byte> header = stackalloc byte[20];
        socket.Receive(header);
        uint lengthBytes = BinaryPrimitives.ReadUInt32BigEndian(header[16..]);
        if (BinaryPrimitives.ReadUInt64BigEndian(header) != OptionReplyMagic
            || BinaryPrimitives.ReadUInt32BigEndian(header[8..]) != option
            || lengthBytes > MaxReplyBytes)
        {
            throw Garbled();
        }

        content = new byte[lengthBytes];
        socket.Receive(content);
        return BinaryPrimitives.ReadUInt32BigEndian(header[12..]);
    }

    private static DiskOpenException Refused(string exportName, uint reply, byte[] content)
    {
        string said = content.Length > 0 ? $" It says: {Printable(content)}" : "";
        return new DiskOpenException(reply switch
        {
            NBD_REP_ERR_UNKNOWN => $"The server has no export '{exportName}'. Check its name.{said}",
            NBD_REP_ERR_TLS_REQD => $"The server insists on TLS, which there is not here. Let it serve '{exportName}' without.{said}",
            NBD_REP_ERR_POLICY => $"The server does not let us have export '{exportName}'. Check what it allows.{said}",
            _ => $"The server refuses export '{exportName}' (reply 0x{reply:x}). Check its configuration.{said}",
        });
    }

    // It goes to a log.
    private static string Printable(byte[] message) =>
        string.Concat(Encoding.UTF8.GetString(message.AsSpan(0, Math.Min(message.Length, 200))).Select(one => char.IsControl(one) ? ' ' : one));

    private static IOException Garbled() => new("What the server answers makes no sense.");
}
