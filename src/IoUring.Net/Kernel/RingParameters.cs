namespace IoUring;

/// <summary><c>struct io_uring_params</c> of <c>linux/io_uring.h</c>, 120 bytes: what a ring shall be, and what it became.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct RingParameters
{
    public uint SubmissionEntries;
    public uint CompletionEntries;
    public SetupFlags Flags;
    public uint SubmissionThreadCpu;
    public uint SubmissionThreadIdleMs;
    public RingFeatures Features;
    public uint WorkQueueDescriptor;
    public fixed uint Reserved[3];
    public SubmissionOffsets Submission;
    public CompletionOffsets Completion;
}

/// <summary><c>struct io_sqring_offsets</c>, 40 bytes: offsets in bytes within the mapped submission queue.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct SubmissionOffsets
{
    public uint Head;
    public uint Tail;
    public uint RingMask;
    public uint RingEntries;
    public uint Flags;
    public uint Dropped;
    public uint Array;
    public uint Reserved;
    public ulong UserAddress;
}

/// <summary><c>struct io_cqring_offsets</c>, 40 bytes: offsets in bytes within the mapped completion queue.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct CompletionOffsets
{
    public uint Head;
    public uint Tail;
    public uint RingMask;
    public uint RingEntries;
    public uint Overflow;
    public uint Entries;
    public uint Flags;
    public uint Reserved;
    public ulong UserAddress;
}

/// <summary><c>struct io_uring_getevents_arg</c>, 24 bytes: the extended argument of a wait (IORING_ENTER_EXT_ARG).</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct WaitArgument
{
    public ulong SignalMask;
    public uint SignalMaskBytes;
    public uint MinimumWaitMicroseconds;
    public ulong Timespec;
}

/// <summary><c>struct __kernel_timespec</c>, 16 bytes.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct KernelTimespec
{
    public long Seconds;
    public long Nanoseconds;
}

/// <summary><c>struct io_uring_files_update</c>, 16 bytes.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct FilesUpdate
{
    public uint Offset;
    public uint Reserved;
    public ulong Descriptors;
}

/// <summary><c>struct io_uring_rsrc_register</c>, 32 bytes.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct ResourceRegister
{
    public uint Count;
    public uint Flags;
    public ulong Reserved;
    public ulong Data;
    public ulong Tags;
}

/// <summary><c>struct io_uring_rsrc_update2</c>, 32 bytes.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct ResourceUpdate
{
    public uint Offset;
    public uint Reserved;
    public ulong Data;
    public ulong Tags;
    public uint Count;
    public uint Reserved2;
}
