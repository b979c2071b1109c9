using Xunit;

namespace IoUring.UnitTests;

/// <summary>Setting up where the kernel is older than we are, or refuses. The older kernels are played by a delegate.</summary>
public unsafe class RingSetupTests
{
    private const SetupFlags CqSize = SetupFlags.IORING_SETUP_CQSIZE;
    private const SetupFlags Clamp = SetupFlags.IORING_SETUP_CLAMP;
    private const SetupFlags SubmitAll = SetupFlags.IORING_SETUP_SUBMIT_ALL;
    private const SetupFlags CoopTaskrun = SetupFlags.IORING_SETUP_COOP_TASKRUN;
    private const SetupFlags TaskrunFlag = SetupFlags.IORING_SETUP_TASKRUN_FLAG;
    private const SetupFlags SingleIssuer = SetupFlags.IORING_SETUP_SINGLE_ISSUER;
    private const SetupFlags DeferTaskrun = SetupFlags.IORING_SETUP_DEFER_TASKRUN;
    private const SetupFlags NoSqarray = SetupFlags.IORING_SETUP_NO_SQARRAY;

    private const SetupFlags Linux5Dot11 = CqSize | Clamp;
    private const SetupFlags Linux6Dot1 = Linux5Dot11 | SubmitAll | CoopTaskrun | TaskrunFlag | SingleIssuer | DeferTaskrun;
    private const SetupFlags Linux6Dot6 = Linux6Dot1 | NoSqarray;

    [Fact]
    public void Asks_once_when_the_kernel_knows_all_flags() =>
        Assert.Equal([RingOptions.DefaultFlags], TriedOn(Linux6Dot6, new RingOptions()));

    [Fact]
    public void Drops_only_the_newest_flag_on_Linux_6_1() =>
        Assert.Equal([RingOptions.DefaultFlags, RingOptions.DefaultFlags & ~NoSqarray], TriedOn(Linux6Dot1, new RingOptions()));

    [Fact]
    public void Drops_flags_one_by_one_from_the_newest_on_Linux_5_11() =>
        Assert.Equal(
            [
                SubmitAll | CoopTaskrun | TaskrunFlag | SingleIssuer | NoSqarray | Clamp,
                SubmitAll | CoopTaskrun | TaskrunFlag | SingleIssuer | Clamp,
                SubmitAll | CoopTaskrun | TaskrunFlag | Clamp,
                SubmitAll | CoopTaskrun | Clamp,
                SubmitAll | Clamp,
                Clamp,
            ],
            TriedOn(Linux5Dot11, new RingOptions()));

    [Fact]
    public void Ends_with_no_flag_at_all() =>
        Assert.Equal(
            [
                SubmitAll | DeferTaskrun | SingleIssuer | Clamp | CqSize,
                SubmitAll | SingleIssuer | Clamp | CqSize,
                SubmitAll | Clamp | CqSize,
                Clamp | CqSize,
                CqSize,
                SetupFlags.None,
            ],
            TriedOn(SetupFlags.None, new RingOptions { Flags = SubmitAll | DeferTaskrun | SingleIssuer | Clamp, CompletionEntries = 512 }));

    [Fact]
    public void Drops_TASKRUN_FLAG_together_with_the_last_flag_it_needs() =>
        Assert.Equal(
            [SingleIssuer | DeferTaskrun | TaskrunFlag, SingleIssuer],
            TriedOn(Linux6Dot1 & ~DeferTaskrun, new RingOptions { Flags = SingleIssuer | DeferTaskrun | TaskrunFlag }));

    [Fact]
    public void Keeps_TASKRUN_FLAG_while_one_flag_it_needs_is_left() =>
        Assert.Equal(
            [SingleIssuer | DeferTaskrun | CoopTaskrun | TaskrunFlag, SingleIssuer | CoopTaskrun | TaskrunFlag],
            TriedOn(Linux6Dot1 & ~DeferTaskrun, new RingOptions { Flags = SingleIssuer | DeferTaskrun | CoopTaskrun | TaskrunFlag }));

    [Fact]
    public void Never_asks_for_DEFER_TASKRUN_without_SINGLE_ISSUER() =>
        Assert.Equal([SubmitAll], TriedOn(Linux6Dot6, new RingOptions { Flags = SubmitAll | DeferTaskrun | TaskrunFlag }));

    [Fact]
    public void Asks_for_CQSIZE_only_with_a_size()
    {
        var seen = new List<(SetupFlags Flags, uint Entries)>();
        int Kernel(uint entries, ref RingParameters parameters)
        {
            seen.Add((parameters.Flags, parameters.CompletionEntries));
            return (parameters.Flags & CqSize) != 0 ? -Syscalls.EINVAL : -Syscalls.EPERM;
        }

        RingSetup.TrySetUp(new RingOptions { Flags = Clamp, SubmissionEntries = 8, CompletionEntries = 512 }, Kernel, out _);
        Assert.Equal([(Clamp | CqSize, 512u), (CqSize, 512u), (SetupFlags.None, 0u)], seen);
    }

    [Fact]
    public void Does_not_drop_flags_for_another_error_than_EINVAL()
    {
        int calls = 0;
        int Kernel(uint entries, ref RingParameters parameters)
        {
            calls++;
            return -Syscalls.ENOMEM;
        }

        Assert.Equal(-Syscalls.ENOMEM, RingSetup.TrySetUp(new RingOptions(), Kernel, out _));
        Assert.Equal(1, calls);
    }

    [Theory]
    [InlineData(Syscalls.EPERM, "kernel.io_uring_disabled", "seccomp")]
    [InlineData(Syscalls.ENOSYS, "Linux 5.1", "seccomp")]
    [InlineData(Syscalls.ENOMEM, "ulimit -l", "LimitMEMLOCK")]
    [InlineData(Syscalls.EMFILE, "ulimit -n", "LimitNOFILE")]
    [InlineData(Syscalls.EINVAL, "Invalid argument", "io_uring_setup(2)")]
    public void An_error_names_the_cause_and_the_remedy(int errno, string cause, string remedy)
    {
        int Kernel(uint entries, ref RingParameters parameters) => -errno;

        Assert.False(Ring.TryCreate(new RingOptions(), Kernel, out Ring? ring, out IoUringException? error));
        Assert.Null(ring);
        Assert.Equal(errno, error.Errno);
        Assert.Contains(cause, error.Message, StringComparison.Ordinal);
        Assert.Contains(remedy, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_kernel_without_timed_waits_is_refused_and_its_descriptor_closed()
    {
        int reader = MakePipe(out int writer);
        int Kernel(uint entries, ref RingParameters parameters) => writer;

        Assert.False(Ring.TryCreate(new RingOptions(), Kernel, out _, out IoUringException? error));

        Assert.Contains("Linux 5.11", error.Message, StringComparison.Ordinal);
        AssertClosedAtTheOtherEnd(reader);
    }

    [Fact]
    public void A_ring_that_cannot_be_mapped_is_an_error_and_its_descriptor_closed()
    {
        int reader = MakePipe(out int writer);
        int Kernel(uint entries, ref RingParameters parameters)
        {
            parameters.Features = RingFeatures.IORING_FEAT_EXT_ARG;
            parameters.SubmissionEntries = parameters.CompletionEntries = 8;
            return writer;
        }

        Assert.False(Ring.TryCreate(new RingOptions(), Kernel, out _, out IoUringException? error));

        Assert.Contains("Mapping", error.Message, StringComparison.Ordinal);
        Assert.NotEqual(0, error.Errno);
        AssertClosedAtTheOtherEnd(reader);
    }

    [Theory]
    [InlineData(0u, 0u)]
    [InlineData(64u, 32u)]
    [InlineData(33u, 32u)]
    public void Sizes_the_kernel_would_never_take_are_the_callers_mistake(uint submissionEntries, uint completionEntries)
    {
        // Otherwise the kernel's EINVAL would be taken for an unknown flag, and all flags would be dropped in silence.
        var options = new RingOptions { SubmissionEntries = submissionEntries, CompletionEntries = completionEntries };
        Assert.ThrowsAny<ArgumentException>(() => Ring.TryCreate(options, out _, out _));
    }

    [Theory]
    [InlineData(33u, 64u, 64u, 64u)]
    [InlineData(64u, 33u, 64u, 64u)]
    [InlineData(5u, 0u, 8u, 16u)]
    [InlineData(16u, 1000u, 16u, 1024u)]
    public void Sizes_are_rounded_up_to_powers_of_two(
        uint submissionEntries, uint completionEntries, uint submissionActual, uint completionActual)
    {
        using Ring ring = Ring.Create(new RingOptions { SubmissionEntries = submissionEntries, CompletionEntries = completionEntries });
        Assert.Equal((submissionActual, completionActual), (ring.SubmissionEntries, ring.CompletionEntries));
        Assert.Equal(RingOptions.DefaultFlags & ~NoSqarray, ring.Flags & RingOptions.DefaultFlags & ~NoSqarray);
    }

    [Fact]
    public void Sizes_beyond_the_limits_are_cut()
    {
        using Ring ring = Ring.Create(new RingOptions { SubmissionEntries = 40_000, CompletionEntries = 32_768 });
        Assert.Equal((32_768u, 32_768u), (ring.SubmissionEntries, ring.CompletionEntries));
    }

    /// <summary>The flag sets that were asked of a kernel that knows only some flags, and their interdependence.</summary>
    private static List<SetupFlags> TriedOn(SetupFlags known, RingOptions options)
    {
        var tried = new List<SetupFlags>();
        int Kernel(uint entries, ref RingParameters parameters)
        {
            SetupFlags flags = parameters.Flags;
            tried.Add(flags);
            bool orphan = ((flags & DeferTaskrun) != 0 && (flags & SingleIssuer) == 0)
                || ((flags & TaskrunFlag) != 0 && (flags & (CoopTaskrun | DeferTaskrun)) == 0);
            return (flags & ~known) != 0 || orphan ? -Syscalls.EINVAL : 7;
        }

        Assert.Equal(7, RingSetup.TrySetUp(options, Kernel, out _));
        return tried;
    }

    private static int MakePipe(out int writer)
    {
        const int CloseOnExec = 0x80000;
        int* descriptors = stackalloc int[2];
        Assert.Equal(0, LibC.pipe2(descriptors, CloseOnExec));
        writer = descriptors[1];
        return descriptors[0];
    }

    // The read would block for ever if the writing end were still open.
    private static void AssertClosedAtTheOtherEnd(int reader) => OwnThread.Run(() =>
    {
        byte nothing;
        Assert.Equal(0, LibC.read(reader, &nothing, 1));
        Syscalls.close(reader);
    });
}
