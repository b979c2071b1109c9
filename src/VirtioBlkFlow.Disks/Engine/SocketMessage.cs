namespace VirtioBlkFlow.Disks.Engine;

/// <summary>What is sent or received at once: <c>struct msghdr</c> of <c>&lt;sys/socket.h&gt;</c>, 56 bytes on 64-bit Linux.</summary>
[StructLayout(LayoutKind.Sequential)]
public unsafe struct SocketMessage
{
    /// <summary><c>msg_name</c>; none for a connected socket.</summary>
    public void* Name;

    /// <summary><c>msg_namelen</c>.</summary>
    public uint NameBytes;

    /// <summary><c>msg_iov</c>.</summary>
    public Iovec* Pieces;

    /// <summary><c>msg_iovlen</c>, at most <see cref="IIoEngine.MaxPieces"/>.</summary>
    public nuint PieceCount;

    /// <summary><c>msg_control</c>.</summary>
    public void* Control;

    /// <summary><c>msg_controllen</c>.</summary>
    public nuint ControlBytes;

    /// <summary><c>msg_flags</c>, of what was received.</summary>
    public int Flags;
}

/// <summary>Hears of the ends of transfers over sockets.</summary>
public interface ISocketUser
{
    /// <summary>A transfer has ended. Inside <see cref="IIoEngine.Reap"/>, on the queue's thread.</summary>
    /// <param name="token">As it was given.</param>
    /// <param name="result">Bytes moved, perhaps fewer than asked for; of a receive 0 is the end; or a negated errno.</param>
    void OnSocketCompleted(int token, int result);
}
