using System.Collections.Concurrent;
using System.Net.Sockets;
using VirtioBlkFlow.Disks.Nbd;
using static VirtioBlkFlow.Disks.Nbd.NbdWire;

namespace VirtioBlkFlow.UnitTests.Disks.Nbd;

/// <summary>A command as a server sees it.</summary>
internal sealed record ScriptedRequest(NbdCommand Command, ushort Flags, ulong Cookie, ulong OffsetBytes, uint LengthBytes, byte[] Data)
{
    public bool IsDurable => (Flags & NBD_CMD_FLAG_FUA) != 0;
}

/// <summary>What becomes of a command.</summary>
internal enum ScriptedAnswer
{
    /// <summary>It is done, and answered as it should be.</summary>
    Serve,

    /// <summary>Nothing; perhaps the script has sent something itself.</summary>
    Nothing,

    /// <summary>The connection ends.</summary>
    Close,
}

/// <summary>
/// A server in this process that does what real ones never do: the test says what becomes of each command. Left alone, it serves an image of
/// zeros. Each connection has a thread.
/// </summary>
internal sealed class ScriptedNbdServer : IDisposable
{
    public const int SizeBytes = 1 << 20;

    private const ushort AllFlags =
        1 | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_CAN_MULTI_CONN;

    private readonly NbdTestFolder _folder = new();
    private readonly ConcurrentDictionary<ScriptedConnection, bool> _open = new();
    private readonly List<Thread> _threads = [];
    private Socket? _listener;
    private int _connections;
    private int _mostAtOnce;

    public ushort Flags { get; set; } = AllFlags;

    public bool HasStructuredReplies { get; set; } = true;

    /// <summary>Whether it knows NBD_OPT_GO.</summary>
    public bool HasGo { get; set; } = true;

    /// <summary>Smallest, preferred and largest transfer; null to say nothing.</summary>
    public (uint Min, uint Preferred, uint Max)? BlockSizes { get; set; }

    public ulong ExportBytes { get; set; } = SizeBytes;

    /// <summary>Takes the place of all negotiation; false to end the connection.</summary>
    public Func<ScriptedConnection, bool>? Negotiate { get; set; }

    /// <summary>What becomes of a command; on the connection's thread.</summary>
    public Func<ScriptedConnection, ScriptedRequest, ScriptedAnswer> Script { get; set; } = (_, _) => ScriptedAnswer.Serve;

    public byte[] Image { get; } = new byte[SizeBytes];

    /// <summary>All commands there were.</summary>
    public ConcurrentQueue<ScriptedRequest> Requests { get; } = new();

    /// <summary>Connections that were ever accepted.</summary>
    public int Connections => Volatile.Read(ref _connections);

    public int MostAtOnce => _mostAtOnce;

    public NbdAddress Address => _folder.Address;

    /// <summary>A disk on it, for who waits a little.</summary>
    public NbdDiskOptions Options => new() { Address = Address, Timeout = TimeSpan.FromSeconds(20), Reconnect = TimeSpan.FromSeconds(20) };

    public ScriptedNbdServer Start()
    {
        _listener = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        _listener.Bind(new UnixDomainSocketEndPoint(Address.SocketPath!));
        _listener.Listen(16);
        StartThread(Accept);
        return this;
    }

    /// <summary>As if it died: nobody is connected, and nobody can connect.</summary>
    public void Stop()
    {
        _listener?.Dispose();
        File.Delete(Address.SocketPath!);
        DropAll();
    }

    /// <summary>Ends all connections.</summary>
    public void DropAll()
    {
        foreach (ScriptedConnection connection in _open.Keys)
        {
            connection.Close();
        }
    }

    public void Dispose()
    {
        Stop();
        Thread[] threads;
        lock (_threads)
        {
            threads = [.. _threads];
        }

        Array.ForEach(threads, thread => thread.Join());
        _folder.Dispose();
    }

    private void StartThread(Action run)
    {
        var thread = new Thread(() => run()) { IsBackground = true, Name = "scripted-nbd" };
        lock (_threads)
        {
            _threads.Add(thread);
        }

        thread.Start();
    }

    private void Accept()
    {
        Socket listener = _listener!;
        try
        {
            while (true)
            {
                var connection = new ScriptedConnection(this, listener.Accept(), Interlocked.Increment(ref _connections));
                _open[connection] = true;
                _mostAtOnce = Math.Max(_mostAtOnce, _open.Count);
                StartThread(() => Serve(connection));
            }
        }
        catch (Exception exception) when (exception is SocketException or ObjectDisposedException)
        {
            // Stopped.
        }
    }

    private void Serve(ScriptedConnection connection)
    {
        try
        {
            if (Negotiate?.Invoke(connection) ?? connection.NegotiateProperly())
            {
                while (connection.ReceiveRequest() is { } request)
                {
                    Requests.Enqueue(request);
                    switch (Script(connection, request))
                    {
                        case ScriptedAnswer.Close:
                            return;
                        case ScriptedAnswer.Serve:
                            connection.Serve(request);
                            break;
                        default:
                            break;
                    }
                }
            }
        }
        catch (Exception exception) when (exception is SocketException or ObjectDisposedException or EndOfStreamException)
        {
            // The other side, or a test, has ended it.
        }
        finally
        {
            _open.TryRemove(connection, out _);
            connection.Close();
        }
    }
}
