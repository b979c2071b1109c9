using System.Numerics;

namespace IoUring;

/// <summary>Sets up a ring, with as many of the wanted flags as the kernel knows.</summary>
internal static unsafe class RingSetup
{
    /// <summary>io_uring_setup(2): a descriptor, or a negated errno. A delegate so that tests can play an older kernel.</summary>
    internal delegate int SetupCall(uint entries, ref RingParameters parameters);

    // Newest first: what an older kernel does not know is dropped in this order.
    private static readonly SetupFlags[] s_newestFirst =
    [
        SetupFlags.IORING_SETUP_NO_SQARRAY,
        SetupFlags.IORING_SETUP_DEFER_TASKRUN,
        SetupFlags.IORING_SETUP_SINGLE_ISSUER,
        SetupFlags.IORING_SETUP_TASKRUN_FLAG,
        SetupFlags.IORING_SETUP_COOP_TASKRUN,
        SetupFlags.IORING_SETUP_SUBMIT_ALL,
        SetupFlags.IORING_SETUP_CLAMP,
        SetupFlags.IORING_SETUP_CQSIZE,
    ];

    /// <summary>Tries until the kernel agrees or nothing is left to drop.</summary>
    /// <returns>A descriptor, or a negated errno.</returns>
    /// <exception cref="ArgumentOutOfRangeException">No kernel takes such sizes.</exception>
    public static int TrySetUp(RingOptions options, SetupCall call, out RingParameters parameters)
    {
        ThrowIfNoKernelTakes(options);
        SetupFlags flags = options.Flags;
        if (options.CompletionEntries != 0)
        {
            flags |= SetupFlags.IORING_SETUP_CQSIZE;
        }

        int dropped = 0;
        while (true)
        {
            flags = WithoutOrphans(flags);
            parameters = new RingParameters
            {
                Flags = flags,
                CompletionEntries = (flags & SetupFlags.IORING_SETUP_CQSIZE) != 0 ? options.CompletionEntries : 0,
            };
            int descriptor = call(options.SubmissionEntries, ref parameters);
            if (descriptor != -Syscalls.EINVAL)
            {
                return descriptor;
            }

            while (dropped < s_newestFirst.Length && (flags & s_newestFirst[dropped]) == 0)
            {
                dropped++;
            }

            if (dropped == s_newestFirst.Length)
            {
                return descriptor;
            }

            flags &= ~s_newestFirst[dropped++];
        }
    }

    /// <summary>The system call itself.</summary>
    public static int CallKernel(uint entries, ref RingParameters parameters)
    {
        fixed (RingParameters* pinned = &parameters)
        {
            nint result = Syscalls.Setup(Syscalls.SYS_io_uring_setup, entries, pinned);
            return result < 0 ? -Marshal.GetLastPInvokeError() : (int)result;
        }
    }

    // To these the answer is EINVAL as well: taken for unknown flags, they would cost a ring all its flags in silence.
    private static void ThrowIfNoKernelTakes(RingOptions options)
    {
        ArgumentOutOfRangeException.ThrowIfZero(options.SubmissionEntries);
        if (options.CompletionEntries != 0)
        {
            // io_uring_setup(2), IORING_SETUP_CQSIZE: not fewer than submission entries, after rounding up.
            ArgumentOutOfRangeException.ThrowIfLessThan(
                BitOperations.RoundUpToPowerOf2((ulong)options.CompletionEntries),
                Math.Min(BitOperations.RoundUpToPowerOf2((ulong)options.SubmissionEntries), RingOptions.MaxSubmissionEntries),
                nameof(RingOptions.CompletionEntries));
        }
    }

    // Flags that are refused without another one go with it.
    private static SetupFlags WithoutOrphans(SetupFlags flags)
    {
        if ((flags & SetupFlags.IORING_SETUP_SINGLE_ISSUER) == 0)
        {
            flags &= ~SetupFlags.IORING_SETUP_DEFER_TASKRUN;
        }

        if ((flags & (SetupFlags.IORING_SETUP_COOP_TASKRUN | SetupFlags.IORING_SETUP_DEFER_TASKRUN)) == 0)
        {
            flags &= ~SetupFlags.IORING_SETUP_TASKRUN_FLAG;
        }

        return flags;
    }
}
