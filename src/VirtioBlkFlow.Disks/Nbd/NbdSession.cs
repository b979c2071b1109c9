using System.Buffers.Binary;
using static VirtioBlkFlow.Disks.Nbd.NbdWire;

namespace VirtioBlkFlow.Disks.Nbd;

/// <summary>
/// A connection on which terms have been agreed, and no reply is outstanding unless a queue says so. One owner at a time: the pool, a queue's
/// link, or a call on the control path.
/// </summary>
internal sealed class NbdSession : IDisposable
{
    // No request of a queue has it.
    private const ulong ControlCookie = ulong.MaxValue;

    private NbdSession(NbdSocket socket, NbdExport export, long generation, int sizeVersion)
    {
        Socket = socket;
        Export = export;
        Generation = generation;
        SizeVersion = sizeVersion;
    }

    public NbdSocket Socket { get; }

    public NbdExport Export { get; }

    /// <summary>How many connections had been lost when this one began: see <see cref="NbdDurability"/>.</summary>
    public long Generation { get; }

    /// <summary>How often the size had changed when this one began.</summary>
    public int SizeVersion { get; }

    /// <summary>Whether the server has ever answered a request on it. Owned by who has the session.</summary>
    public bool HasAnswered { get; set; }

    /// <summary>Connects and comes to terms.</summary>
    /// <exception cref="IOException">Nobody answers, or nothing that makes sense.</exception>
    /// <exception cref="DiskOpenException">There is no such export.</exception>
    public static NbdSession Connect(NbdAddress address, TimeSpan patience, long generation, int sizeVersion)
    {
        NbdSocket socket = NbdSocket.Connect(address, patience);
        try
        {
            NbdExport export = NbdNegotiation.Run(socket, address.Export);
            socket.AllowForEver();
            return new NbdSession(socket, export, generation, sizeVersion);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    /// <summary>Has the server make durable what it has acknowledged, and waits for it.</summary>
    /// <returns>Whether it says so.</returns>
    /// <exception cref="IOException">It does not answer, or nothing that makes sense.</exception>
    public bool Flush(TimeSpan patience)
    {
        Socket.Allow(patience);
        Span<byte> request = stackalloc byte[RequestBytes];
        WriteRequest(request, 0, NbdCommand.NBD_CMD_FLUSH, ControlCookie, 0, 0);
        Socket.Send(request);
        Span<byte> reply = stackalloc byte[ChunkHeaderBytes];
        Socket.Receive(reply[..SimpleReplyBytes]);
        ulong cookie = BinaryPrimitives.ReadUInt64BigEndian(reply[8..]);
        if (BinaryPrimitives.ReadUInt32BigEndian(reply) == NBD_SIMPLE_REPLY_MAGIC && cookie == ControlCookie)
        {
            Socket.AllowForEver();
            return BinaryPrimitives.ReadUInt32BigEndian(reply[4..]) == 0;
        }

        if (BinaryPrimitives.ReadUInt32BigEndian(reply) != NBD_STRUCTURED_REPLY_MAGIC || cookie != ControlCookie || !Export.HasStructuredReplies)
        {
            throw new IOException("What the server answers makes no sense.");
        }

        Socket.Receive(reply[SimpleReplyBytes..]);
        uint lengthBytes = BinaryPrimitives.ReadUInt32BigEndian(reply[16..]);
        bool isDone = (BinaryPrimitives.ReadUInt16BigEndian(reply[4..]) & NBD_REPLY_FLAG_DONE) != 0;
        if (!isDone || lengthBytes > 2 * MaxStringBytes)
        {
            throw new IOException("What the server answers makes no sense.");
        }

        Socket.Receive(new byte[lengthBytes]);
        Socket.AllowForEver();
        return BinaryPrimitives.ReadUInt16BigEndian(reply[6..]) == NBD_REPLY_TYPE_NONE;
    }

    /// <summary>Takes leave, without waiting, and closes. Nothing is outstanding.</summary>
    public void EndPolitely()
    {
        Span<byte> request = stackalloc byte[RequestBytes];
        WriteRequest(request, 0, NbdCommand.NBD_CMD_DISC, ControlCookie, 0, 0);
        Socket.TrySend(request);
        Dispose();
    }

    public void Dispose() => Socket.Dispose();
}
