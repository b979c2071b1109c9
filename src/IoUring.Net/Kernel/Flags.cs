namespace IoUring;

/// <summary>How a ring is set up (io_uring_setup(2)); the first kernel that knows a flag stands behind it.</summary>
[Flags]
public enum SetupFlags : uint
{
    /// <summary>None.</summary>
    None = 0,

    /// <summary>The size of the completion queue is given. Linux 5.5.</summary>
    IORING_SETUP_CQSIZE = 1 << 3,

    /// <summary>Sizes beyond the limits are cut instead of refused. Linux 5.6.</summary>
    IORING_SETUP_CLAMP = 1 << 4,

    /// <summary>Submission goes on after an entry that cannot be prepared. Linux 5.18.</summary>
    IORING_SETUP_SUBMIT_ALL = 1 << 7,

    /// <summary>No interrupt of the thread for completion work: it is done at its next system call. Linux 5.19.</summary>
    IORING_SETUP_COOP_TASKRUN = 1 << 8,

    /// <summary>Waiting completion work shows in the flags of the submission queue. Linux 5.19.</summary>
    IORING_SETUP_TASKRUN_FLAG = 1 << 9,

    /// <summary>Only the creating thread submits. Linux 6.0.</summary>
    IORING_SETUP_SINGLE_ISSUER = 1 << 12,

    /// <summary>Completion work waits until the thread asks for completions; needs SINGLE_ISSUER. Linux 6.1.</summary>
    IORING_SETUP_DEFER_TASKRUN = 1 << 13,

    /// <summary>No index array between the tail and the entries. Linux 6.6.</summary>
    IORING_SETUP_NO_SQARRAY = 1 << 16,
}

/// <summary>What the kernel's io_uring can do (<c>io_uring_params.features</c>, io_uring_setup(2)).</summary>
[Flags]
public enum RingFeatures : uint
{
    /// <summary>None.</summary>
    None = 0,

    /// <summary>One mapping serves both queues. Linux 5.4.</summary>
    IORING_FEAT_SINGLE_MMAP = 1 << 0,

    /// <summary>Completions that find no room are kept. Linux 5.5.</summary>
    IORING_FEAT_NODROP = 1 << 1,

    /// <summary>What an entry points to (not its data) need not outlive the submission. Linux 5.5.</summary>
    IORING_FEAT_SUBMIT_STABLE = 1 << 2,

    /// <summary>Waits take a timeout. Linux 5.11.</summary>
    IORING_FEAT_EXT_ARG = 1 << 8,
}

/// <summary>Flags of a submission entry (<c>IOSQE_*</c>, io_uring_enter(2)).</summary>
[Flags]
public enum EntryFlags : byte
{
    /// <summary>None.</summary>
    None = 0,

    /// <summary>The descriptor is an index into the registered files.</summary>
    IOSQE_FIXED_FILE = 1 << 0,

    /// <summary>Hand the operation to a kernel worker at once.</summary>
    IOSQE_ASYNC = 1 << 4,
}

/// <summary>Flags of a completion (<c>IORING_CQE_F_*</c>, io_uring(7)).</summary>
[Flags]
public enum CompletionFlags : uint
{
    /// <summary>None.</summary>
    None = 0,

    /// <summary>More completions of this multishot operation may follow; without it, it has ended.</summary>
    IORING_CQE_F_MORE = 1 << 1,
}
