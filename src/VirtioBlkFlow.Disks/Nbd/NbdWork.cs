namespace VirtioBlkFlow.Disks.Nbd;

/// <summary>Where a request is.</summary>
internal enum NbdWorkState : byte
{
    Idle,

    /// <summary>Its next command is to be sent.</summary>
    Pending,

    /// <summary>Its command has been given to the link.</summary>
    Sent,
}

/// <summary>
/// A request in progress: a sequence of commands, one after the other. If the connection is lost it begins anew: what a server has done and not
/// been asked to keep counts for nothing then, and doing it twice has the same effect. Its lists are therefore only read.
/// </summary>
internal struct NbdWork
{
    public DiskRequest Request;

    // How far it has got.
    public ulong DoneBytes;
    public int RangeIndex;
    public bool IsFlushed;
    public byte Replays;

    // The command.
    public NbdCommand Command;
    public ushort Flags;
    public ulong OffsetBytes;
    public uint LengthBytes;

    /// <summary>Makes the cookie of each command another one.</summary>
    public uint Sequence;

    /// <summary>Of a flush: see <see cref="NbdDurability.BeginFlush"/>.</summary>
    public long Epoch;

    public NbdWorkState State;

    /// <summary>The kernel may still read its memory.</summary>
    public bool IsSending;

    /// <summary>The reply has come: <see cref="Error"/>.</summary>
    public bool HasReply;
    public uint Error;

    /// <summary>Of a read: how much of it the server has said what it is.</summary>
    public uint CoveredBytes;

    /// <summary>From the beginning again.</summary>
    public void Restart()
    {
        DoneBytes = 0;
        RangeIndex = 0;
        IsFlushed = false;
        IsSending = false;
        HasReply = false;
        State = NbdWorkState.Pending;
    }
}
