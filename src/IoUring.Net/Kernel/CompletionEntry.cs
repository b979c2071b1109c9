namespace IoUring;

/// <summary>What came of it: <c>struct io_uring_cqe</c> of <c>linux/io_uring.h</c>, 16 bytes.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct CompletionEntry
{
    /// <summary><c>user_data</c> of the submission.</summary>
    public ulong UserData;

    /// <summary><c>res</c>: what the system call would have returned, errors as −errno.</summary>
    public int Result;

    /// <summary><c>flags</c>.</summary>
    public CompletionFlags Flags;
}
