using VirtioBlkFlow.Disks.Engine;
using static VirtioBlkFlow.Disks.LibC;
using static VirtioBlkFlow.Disks.Nbd.NbdWire;

namespace VirtioBlkFlow.Disks.Nbd;

/// <summary>What a link needs of the queue whose commands it carries.</summary>
internal interface INbdLinkOwner
{
    /// <summary>The next command, put into the work of its slot.</summary>
    bool TryNext(out int slot);

    /// <summary>The command of a slot has ended: see its <see cref="NbdWork.Error"/>. Nothing uses its memory any more.</summary>
    void OnReply(int slot);

    /// <summary>Something has been sent or received or has failed, and all that this ended has been reported.</summary>
    void OnProgress();

    /// <summary>
    /// The link has ended after <see cref="NbdLink.Fail"/>: nothing uses its session or any memory any more. What is to follow waits for
    /// <see cref="OnProgress"/>, or for the end of the call that made it fail.
    /// </summary>
    void OnFailed(NbdSession session, string reason);
}

/// <summary>
/// Carries commands and replies over one session at a time, by the queue's engine: writes go out of guest memory and reads come into it
/// without a copy. At most one send and one receive are in flight; a receive only while replies are outstanding. Owned by the queue's thread.
/// Here is what is sent, and the life of the link; replies are in the other part.
/// </summary>
internal sealed unsafe partial class NbdLink : ISocketUser, IDisposable
{
    private const int SendToken = 0;
    private const int ReceiveToken = 1;

    // Fixed at construction.
    private readonly IIoEngine _engine;
    private readonly INbdLinkOwner _owner;
    private readonly NbdWork[] _works;
    private readonly Memory* _memory;
    private readonly byte* _headers;
    private readonly Iovec* _sendPieces;
    private readonly int[] _window = new int[IIoEngine.MaxPieces];

    // Owned by the queue's thread.
    private NbdSession? _session;
    private Iovec* _sendNext;
    private int _sendCount;
    private int _windowCount;
    private int _sendingSlot = -1;
    private uint _sendingDoneBytes;
    private uint _sequence;
    private bool _isSending;
    private bool _isReceiving;
    private string? _failure;
    private bool _isFreed;

    public NbdLink(IIoEngine engine, INbdLinkOwner owner, NbdWork[] works)
    {
        _engine = engine;
        _owner = owner;
        _works = works;
        _memory = (Memory*)NativeMemory.AllocZeroed((nuint)sizeof(Memory));
        _headers = (byte*)NativeMemory.AllocZeroed((nuint)works.Length, RequestBytes);
        _sendPieces = (Iovec*)NativeMemory.AllocZeroed(IIoEngine.MaxPieces, (nuint)sizeof(Iovec));
        _receivePieces = (Iovec*)NativeMemory.AllocZeroed(IIoEngine.MaxPieces, (nuint)sizeof(Iovec));
        _head = (byte*)NativeMemory.AllocZeroed(HeadBytes);
    }

    /// <summary>The session; null if there is none.</summary>
    public NbdSession? Session => _session;

    /// <summary>Whether it is about to end.</summary>
    public bool IsFailing => _failure != null;

    /// <summary>Commands without a reply.</summary>
    public int InFlight { get; private set; }

    /// <summary>
    /// When the server last gave a sign of life, or began to be waited for; as the agenda counts. It gives one with what it says, and when it
    /// reads so that more can be sent of what did not fit; not with what a socket takes at once.
    /// </summary>
    public long LastProgressNs { get; private set; }

    /// <summary>Whether it is reporting replies: what is to be done is done when it has.</summary>
    public bool IsInside { get; private set; }

    /// <summary>Whether nothing is under way, so that the session can be given back.</summary>
    public bool IsQuiet => InFlight == 0 && !_isSending && !_isReceiving && _sendCount == 0;

    /// <summary>Takes a session.</summary>
    public void Begin(NbdSession session)
    {
        _session = session;
        LastProgressNs = _engine.Agenda.NowNs;
    }

    /// <summary>Lets go of the session, which must be quiet.</summary>
    /// <returns>The session; null if it has said something that nobody asked for, and is given up.</returns>
    public NbdSession? End()
    {
        if (_headEnd > _headStart)
        {
            Fail("The server says what nobody asked for.");
            return null;
        }

        NbdSession? session = _session;
        _session = null;
        return session;
    }

    /// <summary>Sends what there is to send.</summary>
    public void Send()
    {
        bool wasQuiet = IsQuiet;
        if (_session == null || _isSending || _failure != null || (_sendCount == 0 && !Fill()))
        {
            return;
        }

        LastProgressNs = wasQuiet ? _engine.Agenda.NowNs : LastProgressNs;
        _isSending = true;
        _memory->ToSend.Pieces = _sendNext;
        _memory->ToSend.PieceCount = (nuint)_sendCount;
        _engine.Send(_session!.Socket.Handle, &_memory->ToSend, this, SendToken);
        if (!_isReceiving && InFlight > 0)
        {
            Receive();
        }
    }

    /// <summary>Gives the connection up. It has ended when the kernel uses no memory for it any more, which is soon.</summary>
    public void Fail(string reason)
    {
        if (_session == null || _failure != null)
        {
            return;
        }

        _failure = reason;
        _session.Socket.Shutdown();
        EndIfIdle();
    }

    /// <inheritdoc/>
    public void OnSocketCompleted(int token, int result)
    {
        IsInside = true;
        if (token == SendToken)
        {
            _isSending = false;
        }
        else
        {
            _isReceiving = false;
        }

        if (_failure != null)
        {
            EndIfIdle();
        }
        else if (result == 0 && token == ReceiveToken)
        {
            Fail("The server has closed the connection.");
        }
        else if (result < 0 && result is not (-EINTR or -EAGAIN))
        {
            Fail($"The connection broke: {Marshal.GetPInvokeErrorMessage(-result)}.");
        }
        else
        {
            GoOn(token, Math.Max(0, result));
        }

        IsInside = false;
        _owner.OnProgress();
    }

    /// <summary>Frees the memory. Nothing is under way, or the engine has ended.</summary>
    public void Dispose()
    {
        if (_isFreed)
        {
            return;
        }

        _isFreed = true;
        NativeMemory.Free(_memory);
        NativeMemory.Free(_headers);
        NativeMemory.Free(_sendPieces);
        NativeMemory.Free(_receivePieces);
        NativeMemory.Free(_head);
    }

    private void GoOn(int token, int bytes)
    {
        // An interruption is no sign of life.
        bool isAlive = bytes > 0;
        if (token == SendToken)
        {
            OnSent(bytes);
            isAlive &= _sendCount > 0;
        }
        else
        {
            OnReceived(bytes);
        }

        LastProgressNs = isAlive ? _engine.Agenda.NowNs : LastProgressNs;

        // Before anything is sent: what has been received makes no room for itself.
        if (_failure == null && _session != null && !_isReceiving && InFlight > 0)
        {
            Receive();
        }
    }

    // Commands one behind the other, each a header and perhaps data, as many as one call takes.
    private bool Fill()
    {
        _windowCount = 0;
        int count = 0;
        if (_sendingSlot >= 0)
        {
            _window[_windowCount++] = _sendingSlot;
        }

        // A header and the first piece of its data fit.
        while (count < IIoEngine.MaxPieces - 1)
        {
            if (_sendingSlot < 0)
            {
                if (!_owner.TryNext(out int slot))
                {
                    break;
                }

                _sendPieces[count++] = BeginCommand(slot);
            }

            ref NbdWork work = ref _works[_sendingSlot];
            if (work.Command == NbdCommand.NBD_CMD_WRITE)
            {
                count += CutPieces(
                    in work, _sendingDoneBytes, work.LengthBytes - _sendingDoneBytes, _sendPieces + count, IIoEngine.MaxPieces - count, out uint cutBytes);
                _sendingDoneBytes += cutBytes;
                if (_sendingDoneBytes < work.LengthBytes)
                {
                    break;
                }
            }

            _sendingSlot = -1;
        }

        _sendNext = _sendPieces;
        _sendCount = count;
        return count > 0;
    }

    private Iovec BeginCommand(int slot)
    {
        ref NbdWork work = ref _works[slot];
        work.State = NbdWorkState.Sent;
        work.IsSending = true;
        work.HasReply = false;
        work.Error = 0;
        work.CoveredBytes = 0;
        work.Sequence = ++_sequence;
        InFlight++;
        _readsInFlight += work.Command == NbdCommand.NBD_CMD_READ ? 1 : 0;
        _sendingSlot = slot;
        _sendingDoneBytes = 0;
        _window[_windowCount++] = slot;
        byte* header = _headers + (slot * RequestBytes);
        WriteRequest(new Span<byte>(header, RequestBytes), work.Flags, work.Command, CookieOf(slot, work.Sequence), work.OffsetBytes, work.LengthBytes);
        return new Iovec(header, RequestBytes);
    }

    private void OnSent(int bytes)
    {
        Iovec.Advance(ref _sendNext, ref _sendCount, (nuint)bytes);
        if (_sendCount > 0)
        {
            return;
        }

        foreach (int slot in _window.AsSpan(0, _windowCount))
        {
            if (slot == _sendingSlot)
            {
                continue;
            }

            ref NbdWork work = ref _works[slot];
            work.IsSending = false;
            // Its reply was faster than the end of what was sent with it.
            if (work.HasReply)
            {
                _owner.OnReply(slot);
                // With the link all of them have ended: some for good.
                if (_session == null || _failure != null)
                {
                    return;
                }
            }
        }

        _windowCount = 0;
    }

    private void EndIfIdle()
    {
        if (_isSending || _isReceiving)
        {
            return;
        }

        NbdSession session = _session!;
        string reason = _failure!;
        _session = null;
        _failure = null;
        _sendCount = 0;
        _sendingSlot = -1;
        _windowCount = 0;
        InFlight = 0;
        ForgetReplies();
        _owner.OnFailed(session, reason);
    }

    // 2^16 slots at most, and 2^32 commands until a cookie comes again.
    private static ulong CookieOf(int slot, uint sequence) => ((ulong)sequence << 16) | (uint)slot;

    /// <summary>The memory of a part of a command, as pieces in a list of ours.</summary>
    /// <param name="work">Whose command.</param>
    /// <param name="offsetBytes">Where the part begins, from the start of the command.</param>
    /// <param name="lengthBytes">How long it is.</param>
    /// <param name="pieces">The list.</param>
    /// <param name="room">How many have room in it.</param>
    /// <param name="cutBytes">How much found room.</param>
    /// <returns>How many pieces.</returns>
    private static int CutPieces(in NbdWork work, uint offsetBytes, uint lengthBytes, Iovec* pieces, int room, out uint cutBytes)
    {
        nuint skip = (nuint)(work.DoneBytes + offsetBytes);
        int count = 0;
        cutBytes = 0;
        for (int i = 0; i < work.Request.PieceCount && count < room && cutBytes < lengthBytes; i++)
        {
            Iovec piece = work.Request.Pieces[i];
            if (skip >= piece.LengthBytes)
            {
                skip -= piece.LengthBytes;
                continue;
            }

            nuint take = nuint.Min(piece.LengthBytes - skip, lengthBytes - cutBytes);
            pieces[count++] = new Iovec(piece.Base + skip, take);
            cutBytes += (uint)take;
            skip = 0;
        }

        return count;
    }

    // What the kernel reads and writes while operations are in flight.
    private struct Memory
    {
        public SocketMessage ToSend;
        public SocketMessage ToReceive;
    }
}
