namespace IoUring;

/// <summary>Operations (<c>enum io_uring_op</c> of <c>linux/io_uring.h</c>; io_uring_enter(2)). Only those this library prepares.</summary>
public enum Opcode : byte
{
    /// <summary>Does nothing; for tests and measurements.</summary>
    IORING_OP_NOP = 0,

    /// <summary>preadv(2).</summary>
    IORING_OP_READV = 1,

    /// <summary>pwritev2(2).</summary>
    IORING_OP_WRITEV = 2,

    /// <summary>fsync(2) or fdatasync(2).</summary>
    IORING_OP_FSYNC = 3,

    /// <summary>pread(2) into a part of a registered buffer.</summary>
    IORING_OP_READ_FIXED = 4,

    /// <summary>pwrite(2) out of a part of a registered buffer.</summary>
    IORING_OP_WRITE_FIXED = 5,

    /// <summary>poll(2) on one descriptor.</summary>
    IORING_OP_POLL_ADD = 6,

    /// <summary>Ends an IORING_OP_POLL_ADD.</summary>
    IORING_OP_POLL_REMOVE = 7,

    /// <summary>sendmsg(2).</summary>
    IORING_OP_SENDMSG = 9,

    /// <summary>recvmsg(2).</summary>
    IORING_OP_RECVMSG = 10,

    /// <summary>Cancels an operation.</summary>
    IORING_OP_ASYNC_CANCEL = 14,

    /// <summary>fallocate(2).</summary>
    IORING_OP_FALLOCATE = 17,

    /// <summary>pread(2).</summary>
    IORING_OP_READ = 22,

    /// <summary>pwrite(2).</summary>
    IORING_OP_WRITE = 23,

    /// <summary>A command of the file's own; Linux 5.19.</summary>
    IORING_OP_URING_CMD = 46,
}
