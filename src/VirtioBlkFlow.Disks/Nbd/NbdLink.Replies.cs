using System.Buffers.Binary;
using VirtioBlkFlow.Disks.Engine;
using static VirtioBlkFlow.Disks.Nbd.NbdWire;

namespace VirtioBlkFlow.Disks.Nbd;

/// <content>
/// Replies. A header is received into a buffer of ours, and with it no more than the headers that may follow; data is received where it
/// belongs. Nothing that a server says is believed: not whom a reply is for, not what it is, not where its data belongs.
/// </content>
internal sealed unsafe partial class NbdLink
{
    // Room for headers, and for an error with a message: "Maximum string length", and what stands before it.
    private const int HeadBytes = 8192;
    private const int MaxErrorBytes = MaxStringBytes + 64;

    // A chunk's header and the offset of its data: more would be data already.
    private const int DataHeaderBytes = ChunkHeaderBytes + sizeof(ulong);

    private const string Garbled = "What the server answers makes no sense.";

    // Fixed at construction.
    private readonly byte* _head;
    private readonly Iovec* _receivePieces;

    // Owned by the queue's thread. What has been received of headers and not been understood yet; it takes at least the needed bytes to
    // understand more of it.
    private int _headStart;
    private int _headEnd;
    private int _neededBytes;

    // The data that comes next: whose, where in the command, how much, and whether its chunk is the last of the reply.
    private int _dataSlot = -1;
    private uint _dataOffset;
    private uint _dataLeft;
    private bool _dataIsLast;
    private int _readsInFlight;

    private void Receive()
    {
        _isReceiving = true;
        int count = 0;
        uint cutBytes = 0;
        if (_dataLeft > 0)
        {
            count = CutPieces(in _works[_dataSlot], _dataOffset, _dataLeft, _receivePieces, IIoEngine.MaxPieces - 1, out cutBytes);
        }

        if (cutBytes == _dataLeft)
        {
            MakeRoom();
            int have = _headEnd;
            // Only while reads are outstanding may what follows a header be data.
            int least = _session!.Export.HasStructuredReplies ? DataHeaderBytes : SimpleReplyBytes;
            int wanted = _readsInFlight > 0 ? Math.Max(Math.Max(_neededBytes, least) - have, 1) : HeadBytes - have;
            _receivePieces[count++] = new Iovec(_head + have, (nuint)wanted);
        }

        _memory->ToReceive.Pieces = _receivePieces;
        _memory->ToReceive.PieceCount = (nuint)count;
        _engine.Receive(_session!.Socket.Handle, &_memory->ToReceive, this, ReceiveToken);
    }

    private void OnReceived(int bytes)
    {
        uint data = Math.Min((uint)bytes, _dataLeft);
        // First: what the data ends may end the link, and then nothing that came over it counts.
        _headEnd += bytes - (int)data;
        if (_dataLeft > 0)
        {
            TakeData(data);
        }

        while (_session != null && _failure == null && _dataLeft == 0 && TryUnderstand())
        {
        }
    }

    private void ForgetReplies()
    {
        _headStart = _headEnd = _neededBytes = 0;
        _dataSlot = -1;
        _dataLeft = 0;
        _readsInFlight = 0;
    }

    private void MakeRoom()
    {
        if (_headStart > 0)
        {
            new ReadOnlySpan<byte>(_head + _headStart, _headEnd - _headStart).CopyTo(new Span<byte>(_head, HeadBytes));
            _headEnd -= _headStart;
            _headStart = 0;
        }
    }

    // The next reply or chunk; false if not all of its header is there, or it was followed by data that is not all there.
    private bool TryUnderstand()
    {
        var head = new ReadOnlySpan<byte>(_head + _headStart, _headEnd - _headStart);
        if (!Has(head, SimpleReplyBytes))
        {
            return false;
        }

        ulong cookie;
        switch (BinaryPrimitives.ReadUInt32BigEndian(head))
        {
            case NBD_SIMPLE_REPLY_MAGIC:
                cookie = BinaryPrimitives.ReadUInt64BigEndian(head[8..]);
                return TakeSimpleReply(BinaryPrimitives.ReadUInt32BigEndian(head[4..]), cookie);
            case NBD_STRUCTURED_REPLY_MAGIC when _session!.Export.HasStructuredReplies:
                return Has(head, ChunkHeaderBytes) && TakeChunk(head);
            default:
                Fail(Garbled);
                return false;
        }
    }

    private bool Has(ReadOnlySpan<byte> head, int bytes)
    {
        _neededBytes = head.Length >= bytes ? 0 : bytes;
        return _neededBytes == 0;
    }

    private bool TakeSimpleReply(uint error, ulong cookie)
    {
        int slot = SlotOf(cookie);
        // To a read there are structured replies only, once they were agreed upon ("Structured replies").
        if (slot < 0 || (_works[slot].Command == NbdCommand.NBD_CMD_READ && _session!.Export.HasStructuredReplies))
        {
            Fail(Garbled);
            return false;
        }

        _headStart += SimpleReplyBytes;
        ref NbdWork work = ref _works[slot];
        work.Error = error;
        if (error != 0 || work.Command != NbdCommand.NBD_CMD_READ)
        {
            EndReply(slot);
            return true;
        }

        work.CoveredBytes = work.LengthBytes;
        ExpectData(slot, 0, work.LengthBytes, isLast: true);
        return true;
    }

    private bool TakeChunk(ReadOnlySpan<byte> head)
    {
        ushort flags = BinaryPrimitives.ReadUInt16BigEndian(head[4..]);
        ushort type = BinaryPrimitives.ReadUInt16BigEndian(head[6..]);
        int slot = SlotOf(BinaryPrimitives.ReadUInt64BigEndian(head[8..]));
        uint lengthBytes = BinaryPrimitives.ReadUInt32BigEndian(head[16..]);
        bool isLast = (flags & NBD_REPLY_FLAG_DONE) != 0;
        if (slot < 0)
        {
            Fail(Garbled);
            return false;
        }

        switch (type)
        {
            case NBD_REPLY_TYPE_NONE when lengthBytes == 0 && isLast:
                _headStart += ChunkHeaderBytes;
                EndReply(slot);
                return true;
            case NBD_REPLY_TYPE_OFFSET_DATA when lengthBytes > sizeof(ulong):
                return Has(head, DataHeaderBytes) && TakeDataChunk(head, slot, lengthBytes - sizeof(ulong), isLast);
            case NBD_REPLY_TYPE_OFFSET_HOLE when lengthBytes == sizeof(ulong) + sizeof(uint):
                return Has(head, DataHeaderBytes + sizeof(uint)) && TakeHole(head, slot, isLast);
            case >= NBD_REPLY_TYPE_ERROR_BIT when lengthBytes is >= sizeof(uint) + sizeof(ushort) and <= MaxErrorBytes:
                return Has(head, ChunkHeaderBytes + (int)lengthBytes) && TakeError(head, slot, (int)lengthBytes, isLast);
            default:
                Fail(Garbled);
                return false;
        }
    }

    private bool TakeDataChunk(ReadOnlySpan<byte> head, int slot, uint lengthBytes, bool isLast)
    {
        if (!TryCover(head, slot, lengthBytes, out uint offset))
        {
            return false;
        }

        _headStart += DataHeaderBytes;
        ExpectData(slot, offset, lengthBytes, isLast);
        return true;
    }

    private bool TakeHole(ReadOnlySpan<byte> head, int slot, bool isLast)
    {
        uint lengthBytes = BinaryPrimitives.ReadUInt32BigEndian(head[DataHeaderBytes..]);
        if (lengthBytes == 0 || !TryCover(head, slot, lengthBytes, out uint offset))
        {
            Fail(Garbled);
            return false;
        }

        _headStart += DataHeaderBytes + sizeof(uint);
        while (lengthBytes > 0)
        {
            int count = CutPieces(in _works[slot], offset, lengthBytes, _receivePieces, IIoEngine.MaxPieces, out uint cutBytes);
            for (int i = 0; i < count; i++)
            {
                NativeMemory.Clear(_receivePieces[i].Base, _receivePieces[i].LengthBytes);
            }

            offset += cutBytes;
            lengthBytes -= cutBytes;
        }

        EndChunk(slot, isLast);
        return true;
    }

    private bool TakeError(ReadOnlySpan<byte> head, int slot, int lengthBytes, bool isLast)
    {
        uint error = BinaryPrimitives.ReadUInt32BigEndian(head[ChunkHeaderBytes..]);
        if (error == 0)
        {
            Fail(Garbled);
            return false;
        }

        _headStart += ChunkHeaderBytes + lengthBytes;
        // The first of several says enough.
        ref NbdWork work = ref _works[slot];
        work.Error = work.Error == 0 ? error : work.Error;
        EndChunk(slot, isLast);
        return true;
    }

    // Whether a chunk's offset and length lie in what was asked for, and nothing is said twice.
    private bool TryCover(ReadOnlySpan<byte> head, int slot, uint lengthBytes, out uint offset)
    {
        ref NbdWork work = ref _works[slot];
        ulong first = BinaryPrimitives.ReadUInt64BigEndian(head[ChunkHeaderBytes..]) - work.OffsetBytes;
        offset = (uint)first;
        if (work.Command != NbdCommand.NBD_CMD_READ || first > work.LengthBytes || lengthBytes > work.LengthBytes - first
            || lengthBytes > work.LengthBytes - work.CoveredBytes)
        {
            Fail(Garbled);
            return false;
        }

        work.CoveredBytes += lengthBytes;
        return true;
    }

    // The data that follows a header; what came with the header already is taken out of the buffer.
    private void ExpectData(int slot, uint offset, uint lengthBytes, bool isLast)
    {
        _dataSlot = slot;
        _dataOffset = offset;
        _dataLeft = lengthBytes;
        _dataIsLast = isLast;
        uint here = Math.Min((uint)(_headEnd - _headStart), lengthBytes);
        for (uint copied = 0; copied < here;)
        {
            int count = CutPieces(in _works[slot], offset + copied, here - copied, _receivePieces, IIoEngine.MaxPieces, out uint cutBytes);
            Iovec.Scatter(new ReadOnlySpan<byte>(_head + _headStart + copied, (int)cutBytes), _receivePieces, count);
            copied += cutBytes;
        }

        _headStart += (int)here;
        TakeData(here);
    }

    private void TakeData(uint bytes)
    {
        _dataOffset += bytes;
        _dataLeft -= bytes;
        if (_dataLeft == 0)
        {
            EndChunk(_dataSlot, _dataIsLast);
        }
    }

    private void EndChunk(int slot, bool isLast)
    {
        if (isLast)
        {
            EndReply(slot);
        }
    }

    private void EndReply(int slot)
    {
        ref NbdWork work = ref _works[slot];
        bool isRead = work.Command == NbdCommand.NBD_CMD_READ;
        if (isRead && work.Error == 0 && work.CoveredBytes != work.LengthBytes)
        {
            Fail(Garbled);
            return;
        }

        InFlight--;
        _readsInFlight -= isRead ? 1 : 0;
        work.HasReply = true;
        // Otherwise when all of it has been sent.
        if (!work.IsSending)
        {
            _owner.OnReply(slot);
        }
    }

    // -1 if no command that waits for a reply has this cookie.
    private int SlotOf(ulong cookie)
    {
        int slot = (int)(cookie & 0xffff);
        return slot < _works.Length && _works[slot] is { State: NbdWorkState.Sent, HasReply: false } work && CookieOf(slot, work.Sequence) == cookie ? slot : -1;
    }
}
