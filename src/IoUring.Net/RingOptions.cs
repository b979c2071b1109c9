namespace IoUring;

/// <summary>What a ring shall be.</summary>
public sealed record RingOptions
{
    /// <summary>
    /// Flags that suit one thread that submits and reaps by itself. The kernel may know fewer: then the newest is dropped first, until
    /// it agrees.
    /// </summary>
    public const SetupFlags DefaultFlags =
        SetupFlags.IORING_SETUP_SUBMIT_ALL | SetupFlags.IORING_SETUP_COOP_TASKRUN | SetupFlags.IORING_SETUP_TASKRUN_FLAG
        | SetupFlags.IORING_SETUP_SINGLE_ISSUER | SetupFlags.IORING_SETUP_NO_SQARRAY | SetupFlags.IORING_SETUP_CLAMP;

    /// <summary><c>IORING_MAX_ENTRIES</c> of the kernel.</summary>
    internal const uint MaxSubmissionEntries = 32768;

    /// <summary>Entries of the submission queue, at least one; the kernel rounds up to a power of two and cuts at 32768.</summary>
    public uint SubmissionEntries { get; init; } = 128;

    /// <summary>
    /// Entries of the completion queue, not fewer than of the submission queue; 0 for twice as many. The kernel rounds up to a power of
    /// two and cuts at 65536.
    /// </summary>
    public uint CompletionEntries { get; init; }

    /// <summary>Flags to ask for.</summary>
    public SetupFlags Flags { get; init; } = DefaultFlags;
}
