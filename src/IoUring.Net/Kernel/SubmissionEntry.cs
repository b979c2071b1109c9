namespace IoUring;

/// <summary>
/// What to do: <c>struct io_uring_sqe</c> of <c>linux/io_uring.h</c>, 64 bytes. <see cref="Ring.TryGetEntry"/> hands them out zeroed;
/// one <c>Prepare…</c> fills it.
/// </summary>
[StructLayout(LayoutKind.Explicit, Size = SizeBytes)]
public unsafe struct SubmissionEntry
{
    /// <summary>Size of the structure.</summary>
    public const int SizeBytes = 64;

    /// <summary><c>IORING_FSYNC_DATASYNC</c>.</summary>
    public const uint IORING_FSYNC_DATASYNC = 1;

    /// <summary><c>IORING_POLL_ADD_MULTI</c>: the poll goes on after its first completion. Linux 5.13.</summary>
    public const uint IORING_POLL_ADD_MULTI = 1;

    /// <summary><c>POLLIN</c> of poll(2).</summary>
    public const uint POLLIN = 1;

    /// <summary><c>opcode</c>.</summary>
    [FieldOffset(0)]
    public Opcode Opcode;

    /// <summary><c>flags</c>.</summary>
    [FieldOffset(1)]
    public EntryFlags Flags;

    /// <summary><c>fd</c>: a descriptor, or with IOSQE_FIXED_FILE an index.</summary>
    [FieldOffset(4)]
    public int Descriptor;

    /// <summary><c>off</c>.</summary>
    [FieldOffset(8)]
    public ulong Offset;

    /// <summary><c>addr</c>.</summary>
    [FieldOffset(16)]
    public ulong Address;

    /// <summary><c>len</c>.</summary>
    [FieldOffset(24)]
    public uint Length;

    /// <summary><c>rw_flags</c>, <c>fsync_flags</c>, <c>poll32_events</c>, … as the operation has it.</summary>
    [FieldOffset(28)]
    public uint OperationFlags;

    /// <summary><c>user_data</c>: comes back in the completion.</summary>
    [FieldOffset(32)]
    public ulong UserData;

    /// <summary><c>buf_index</c>: place of a registered buffer.</summary>
    [FieldOffset(40)]
    public ushort BufferIndex;

    /// <summary><c>addr3</c>: what a command may have beside <see cref="Address"/>.</summary>
    [FieldOffset(48)]
    public ulong Address3;

    /// <summary>Does nothing.</summary>
    public void PrepareNop(ulong userData)
    {
        Opcode = Opcode.IORING_OP_NOP;
        UserData = userData;
    }

    /// <summary>Reads <paramref name="lengthBytes"/> at a byte offset into one buffer.</summary>
    public void PrepareRead(int descriptor, void* buffer, uint lengthBytes, ulong offsetBytes, ulong userData) =>
        PrepareTransfer(Opcode.IORING_OP_READ, descriptor, buffer, lengthBytes, offsetBytes, 0, userData);

    /// <summary>Reads at a byte offset into an array of <c>struct iovec</c>, at most 1024.</summary>
    public void PrepareReadv(int descriptor, void* iovecs, uint count, ulong offsetBytes, ulong userData) =>
        PrepareTransfer(Opcode.IORING_OP_READV, descriptor, iovecs, count, offsetBytes, 0, userData);

    /// <summary>Writes one buffer at a byte offset; <paramref name="rwFlags"/> are the RWF_ flags of pwritev2(2).</summary>
    public void PrepareWrite(int descriptor, void* buffer, uint lengthBytes, ulong offsetBytes, uint rwFlags, ulong userData) =>
        PrepareTransfer(Opcode.IORING_OP_WRITE, descriptor, buffer, lengthBytes, offsetBytes, rwFlags, userData);

    /// <summary>Writes an array of <c>struct iovec</c>, at most 1024, at a byte offset.</summary>
    public void PrepareWritev(int descriptor, void* iovecs, uint count, ulong offsetBytes, uint rwFlags, ulong userData) =>
        PrepareTransfer(Opcode.IORING_OP_WRITEV, descriptor, iovecs, count, offsetBytes, rwFlags, userData);

    /// <summary>Reads at a byte offset into a part of a registered buffer.</summary>
    public void PrepareReadFixed(int descriptor, void* buffer, uint lengthBytes, ulong offsetBytes, ushort bufferIndex, ulong userData)
    {
        PrepareTransfer(Opcode.IORING_OP_READ_FIXED, descriptor, buffer, lengthBytes, offsetBytes, 0, userData);
        BufferIndex = bufferIndex;
    }

    /// <summary>
    /// Writes a part of a registered buffer at a byte offset; <paramref name="rwFlags"/> are the RWF_ flags of pwritev2(2).
    /// </summary>
    public void PrepareWriteFixed(
        int descriptor, void* buffer, uint lengthBytes, ulong offsetBytes, uint rwFlags, ushort bufferIndex, ulong userData)
    {
        PrepareTransfer(Opcode.IORING_OP_WRITE_FIXED, descriptor, buffer, lengthBytes, offsetBytes, rwFlags, userData);
        BufferIndex = bufferIndex;
    }

    /// <summary>Makes completed writes durable: fdatasync(2) or fsync(2). Not ordered against operations in flight.</summary>
    public void PrepareFsync(int descriptor, bool dataOnly, ulong userData)
    {
        Opcode = Opcode.IORING_OP_FSYNC;
        Descriptor = descriptor;
        OperationFlags = dataOnly ? IORING_FSYNC_DATASYNC : 0;
        UserData = userData;
    }

    /// <summary>fallocate(2) with its mode, on a byte range.</summary>
    public void PrepareFallocate(int descriptor, int mode, ulong offsetBytes, ulong lengthBytes, ulong userData)
    {
        Opcode = Opcode.IORING_OP_FALLOCATE;
        Descriptor = descriptor;
        Offset = offsetBytes;
        Address = lengthBytes;
        Length = (uint)mode;
        UserData = userData;
    }

    /// <summary>A command of the file's own, with two arguments; <c>cmd_op</c> stands where an offset does.</summary>
    public void PrepareCommand(int descriptor, uint command, ulong first, ulong second, ulong userData)
    {
        Opcode = Opcode.IORING_OP_URING_CMD;
        Descriptor = descriptor;
        Offset = command;
        Address = first;
        Address3 = second;
        UserData = userData;
    }

    /// <summary>
    /// Waits for events of poll(2). A multishot poll completes at every wake of the descriptor until a completion lacks
    /// <see cref="CompletionFlags.IORING_CQE_F_MORE"/>.
    /// </summary>
    public void PreparePollAdd(int descriptor, uint events, bool multishot, ulong userData)
    {
        Opcode = Opcode.IORING_OP_POLL_ADD;
        Descriptor = descriptor;
        Length = multishot ? IORING_POLL_ADD_MULTI : 0;
        OperationFlags = events;
        UserData = userData;
    }

    /// <summary>Ends the poll that was started with <paramref name="pollUserData"/>; that poll completes with −ECANCELED.</summary>
    public void PreparePollRemove(ulong pollUserData, ulong userData)
    {
        Opcode = Opcode.IORING_OP_POLL_REMOVE;
        Descriptor = -1;
        Address = pollUserData;
        UserData = userData;
    }

    /// <summary>Sends a <c>struct msghdr</c>; <paramref name="messageFlags"/> are the MSG_ flags of sendmsg(2).</summary>
    public void PrepareSendMessage(int descriptor, void* message, uint messageFlags, ulong userData) =>
        PrepareTransfer(Opcode.IORING_OP_SENDMSG, descriptor, message, 1, 0, messageFlags, userData);

    /// <summary>Receives into a <c>struct msghdr</c>; <paramref name="messageFlags"/> are the MSG_ flags of recvmsg(2).</summary>
    public void PrepareReceiveMessage(int descriptor, void* message, uint messageFlags, ulong userData) =>
        PrepareTransfer(Opcode.IORING_OP_RECVMSG, descriptor, message, 1, 0, messageFlags, userData);

    /// <summary>Ends the operation that was started with <paramref name="operationUserData"/>; it completes with −ECANCELED, or was faster.</summary>
    public void PrepareCancel(ulong operationUserData, ulong userData)
    {
        Opcode = Opcode.IORING_OP_ASYNC_CANCEL;
        Descriptor = -1;
        Address = operationUserData;
        UserData = userData;
    }

    private void PrepareTransfer(Opcode opcode, int descriptor, void* address, uint length, ulong offsetBytes, uint rwFlags, ulong userData)
    {
        Opcode = opcode;
        Descriptor = descriptor;
        Offset = offsetBytes;
        Address = (ulong)address;
        Length = length;
        OperationFlags = rwFlags;
        UserData = userData;
    }
}
