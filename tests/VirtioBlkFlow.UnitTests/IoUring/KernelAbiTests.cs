using System.Globalization;
using System.Reflection;
using System.Runtime.CompilerServices;
using VirtioBlkFlow.UnitTests.Abi;
using Xunit;

namespace IoUring.UnitTests;

/// <summary>Every layout and every number of the binding against the headers of this system, asked through the C compiler.</summary>
public unsafe class KernelAbiTests
{
    // Debian 12 has the headers of Linux 6.1. Only what is younger may be missing there, and each such name is listed here.
    private static readonly string[] s_newerThanLinux6Dot1 = [nameof(SetupFlags.IORING_SETUP_NO_SQARRAY)];

    private static readonly string[] s_headers =
        ["errno.h", "poll.h", "sys/eventfd.h", "sys/mman.h", "sys/syscall.h", "linux/time_types.h", "linux/io_uring.h"];

    // Names of ours that join several of C.
    private static readonly Dictionary<string, string> s_joined = new()
    {
        [nameof(Syscalls.PROT_READ_WRITE)] = "PROT_READ | PROT_WRITE",
        [nameof(Syscalls.MAP_SHARED_POPULATE)] = "MAP_SHARED | MAP_POPULATE",
        [nameof(Syscalls.EFD_CLOEXEC_NONBLOCK)] = "EFD_CLOEXEC | EFD_NONBLOCK",
        [nameof(SubmissionEntry.SizeBytes)] = "sizeof(struct io_uring_sqe)",
    };

    [Theory]
    [InlineData(typeof(Opcode))]
    [InlineData(typeof(SetupFlags))]
    [InlineData(typeof(RingFeatures))]
    [InlineData(typeof(EntryFlags))]
    [InlineData(typeof(CompletionFlags))]
    public void Members_of_an_enum_have_the_values_of_the_header(Type type)
    {
        var ours = new Dictionary<string, long>();
        foreach (string name in Enum.GetNames(type).Where(name => name != "None"))
        {
            ours.Add(name, Convert.ToInt64(Enum.Parse(type, name), CultureInfo.InvariantCulture));
        }

        AssertSameAsHeader(ours);
    }

    [Theory]
    [InlineData(typeof(Syscalls))]
    [InlineData(typeof(SubmissionEntry))]
    public void Constants_have_the_values_of_the_headers(Type type)
    {
        var ours = new Dictionary<string, long>();
        foreach (FieldInfo field in type.GetFields(BindingFlags.Static | BindingFlags.Public | BindingFlags.NonPublic))
        {
            // A native integer is a constant for the compiler but an initialised field for reflection.
            object value = field.GetValue(null)!;
            long number = value is nint native ? native : Convert.ToInt64(value, CultureInfo.InvariantCulture);
            ours.Add(s_joined.GetValueOrDefault(field.Name, field.Name), number);
        }

        AssertSameAsHeader(ours);
    }

    [Fact]
    public void A_submission_entry_is_laid_out_as_io_uring_sqe()
    {
        SubmissionEntry e = default;
        AssertLayout<SubmissionEntry>("io_uring_sqe", new()
        {
            ["opcode"] = (nameof(e.Opcode), Offset(ref e, ref e.Opcode)),
            ["flags"] = (nameof(e.Flags), Offset(ref e, ref e.Flags)),
            ["fd"] = (nameof(e.Descriptor), Offset(ref e, ref e.Descriptor)),
            ["off"] = (nameof(e.Offset), Offset(ref e, ref e.Offset)),
            ["addr"] = (nameof(e.Address), Offset(ref e, ref e.Address)),
            ["len"] = (nameof(e.Length), Offset(ref e, ref e.Length)),
            ["rw_flags"] = (nameof(e.OperationFlags), Offset(ref e, ref e.OperationFlags)),
            ["user_data"] = (nameof(e.UserData), Offset(ref e, ref e.UserData)),
            ["buf_index"] = (nameof(e.BufferIndex), Offset(ref e, ref e.BufferIndex)),
            ["addr3"] = (nameof(e.Address3), Offset(ref e, ref e.Address3)),
        });
    }

    [Fact]
    public void The_flags_of_all_operations_share_one_place()
    {
        string[] names = ["fsync_flags", "poll32_events", "rw_flags", "cancel_flags"];
        Assert.All(
            CProgram.Evaluate(s_headers, names.Select(name => $"offsetof(struct io_uring_sqe, {name})")).Values,
            offset => Assert.Equal(28, offset));
    }

    [Fact]
    public void A_files_own_command_stands_where_an_offset_does()
    {
        const string Command = "offsetof(struct io_uring_sqe, cmd_op)";
        SubmissionEntry e = default;
        Assert.Equal(Offset(ref e, ref e.Offset), CProgram.Evaluate(s_headers, [Command])[Command]);
    }

    [Fact]
    public void A_completion_entry_is_laid_out_as_io_uring_cqe()
    {
        CompletionEntry e = default;
        AssertLayout<CompletionEntry>("io_uring_cqe", new()
        {
            ["user_data"] = (nameof(e.UserData), Offset(ref e, ref e.UserData)),
            ["res"] = (nameof(e.Result), Offset(ref e, ref e.Result)),
            ["flags"] = (nameof(e.Flags), Offset(ref e, ref e.Flags)),
        });
    }

    [Fact]
    public void Ring_parameters_are_laid_out_as_io_uring_params()
    {
        RingParameters p = default;
        AssertLayout<RingParameters>("io_uring_params", new()
        {
            ["sq_entries"] = (nameof(p.SubmissionEntries), Offset(ref p, ref p.SubmissionEntries)),
            ["cq_entries"] = (nameof(p.CompletionEntries), Offset(ref p, ref p.CompletionEntries)),
            ["flags"] = (nameof(p.Flags), Offset(ref p, ref p.Flags)),
            ["sq_thread_cpu"] = (nameof(p.SubmissionThreadCpu), Offset(ref p, ref p.SubmissionThreadCpu)),
            ["sq_thread_idle"] = (nameof(p.SubmissionThreadIdleMs), Offset(ref p, ref p.SubmissionThreadIdleMs)),
            ["features"] = (nameof(p.Features), Offset(ref p, ref p.Features)),
            ["wq_fd"] = (nameof(p.WorkQueueDescriptor), Offset(ref p, ref p.WorkQueueDescriptor)),
            ["resv"] = (nameof(p.Reserved), Offset(ref p, ref p.Reserved[0])),
            ["sq_off"] = (nameof(p.Submission), Offset(ref p, ref p.Submission)),
            ["cq_off"] = (nameof(p.Completion), Offset(ref p, ref p.Completion)),
        });
    }

    [Fact]
    public void Submission_offsets_are_laid_out_as_io_sqring_offsets()
    {
        SubmissionOffsets o = default;
        AssertLayout<SubmissionOffsets>("io_sqring_offsets", new()
        {
            ["head"] = (nameof(o.Head), Offset(ref o, ref o.Head)),
            ["tail"] = (nameof(o.Tail), Offset(ref o, ref o.Tail)),
            ["ring_mask"] = (nameof(o.RingMask), Offset(ref o, ref o.RingMask)),
            ["ring_entries"] = (nameof(o.RingEntries), Offset(ref o, ref o.RingEntries)),
            ["flags"] = (nameof(o.Flags), Offset(ref o, ref o.Flags)),
            ["dropped"] = (nameof(o.Dropped), Offset(ref o, ref o.Dropped)),
            ["array"] = (nameof(o.Array), Offset(ref o, ref o.Array)),
            ["resv1"] = (nameof(o.Reserved), Offset(ref o, ref o.Reserved)),
            // Named resv2 before Linux 6.5, user_addr since; the last eight bytes either way.
            ["resv1) + (sizeof(__u32)"] = (nameof(o.UserAddress), Offset(ref o, ref o.UserAddress)),
        });
    }

    [Fact]
    public void Completion_offsets_are_laid_out_as_io_cqring_offsets()
    {
        CompletionOffsets o = default;
        AssertLayout<CompletionOffsets>("io_cqring_offsets", new()
        {
            ["head"] = (nameof(o.Head), Offset(ref o, ref o.Head)),
            ["tail"] = (nameof(o.Tail), Offset(ref o, ref o.Tail)),
            ["ring_mask"] = (nameof(o.RingMask), Offset(ref o, ref o.RingMask)),
            ["ring_entries"] = (nameof(o.RingEntries), Offset(ref o, ref o.RingEntries)),
            ["overflow"] = (nameof(o.Overflow), Offset(ref o, ref o.Overflow)),
            ["cqes"] = (nameof(o.Entries), Offset(ref o, ref o.Entries)),
            ["flags"] = (nameof(o.Flags), Offset(ref o, ref o.Flags)),
            ["resv1"] = (nameof(o.Reserved), Offset(ref o, ref o.Reserved)),
            ["resv1) + (sizeof(__u32)"] = (nameof(o.UserAddress), Offset(ref o, ref o.UserAddress)),
        });
    }

    [Fact]
    public void A_wait_argument_is_laid_out_as_io_uring_getevents_arg()
    {
        WaitArgument a = default;
        AssertLayout<WaitArgument>("io_uring_getevents_arg", new()
        {
            ["sigmask"] = (nameof(a.SignalMask), Offset(ref a, ref a.SignalMask)),
            ["sigmask_sz"] = (nameof(a.SignalMaskBytes), Offset(ref a, ref a.SignalMaskBytes)),
            // Named pad before Linux 6.12, min_wait_usec since; the four bytes after sigmask_sz.
            ["sigmask_sz) + (sizeof(__u32)"] = (nameof(a.MinimumWaitMicroseconds), Offset(ref a, ref a.MinimumWaitMicroseconds)),
            ["ts"] = (nameof(a.Timespec), Offset(ref a, ref a.Timespec)),
        });
    }

    [Fact]
    public void A_timespec_is_laid_out_as_kernel_timespec()
    {
        KernelTimespec t = default;
        AssertLayout<KernelTimespec>("__kernel_timespec", new()
        {
            ["tv_sec"] = (nameof(t.Seconds), Offset(ref t, ref t.Seconds)),
            ["tv_nsec"] = (nameof(t.Nanoseconds), Offset(ref t, ref t.Nanoseconds)),
        });
    }

    [Fact]
    public void A_files_update_is_laid_out_as_io_uring_files_update()
    {
        FilesUpdate u = default;
        AssertLayout<FilesUpdate>("io_uring_files_update", new()
        {
            ["offset"] = (nameof(u.Offset), Offset(ref u, ref u.Offset)),
            ["resv"] = (nameof(u.Reserved), Offset(ref u, ref u.Reserved)),
            ["fds"] = (nameof(u.Descriptors), Offset(ref u, ref u.Descriptors)),
        });
    }

    [Fact]
    public void A_resource_register_is_laid_out_as_io_uring_rsrc_register()
    {
        ResourceRegister r = default;
        AssertLayout<ResourceRegister>("io_uring_rsrc_register", new()
        {
            ["nr"] = (nameof(r.Count), Offset(ref r, ref r.Count)),
            ["flags"] = (nameof(r.Flags), Offset(ref r, ref r.Flags)),
            ["resv2"] = (nameof(r.Reserved), Offset(ref r, ref r.Reserved)),
            ["data"] = (nameof(r.Data), Offset(ref r, ref r.Data)),
            ["tags"] = (nameof(r.Tags), Offset(ref r, ref r.Tags)),
        });
    }

    [Fact]
    public void A_resource_update_is_laid_out_as_io_uring_rsrc_update2()
    {
        ResourceUpdate u = default;
        AssertLayout<ResourceUpdate>("io_uring_rsrc_update2", new()
        {
            ["offset"] = (nameof(u.Offset), Offset(ref u, ref u.Offset)),
            ["resv"] = (nameof(u.Reserved), Offset(ref u, ref u.Reserved)),
            ["data"] = (nameof(u.Data), Offset(ref u, ref u.Data)),
            ["tags"] = (nameof(u.Tags), Offset(ref u, ref u.Tags)),
            ["nr"] = (nameof(u.Count), Offset(ref u, ref u.Count)),
            ["resv2"] = (nameof(u.Reserved2), Offset(ref u, ref u.Reserved2)),
        });
    }

    [Fact]
    public void A_probe_is_a_header_of_16_bytes_and_8_for_each_operation()
    {
        IReadOnlyDictionary<string, long> header = CProgram.Evaluate(
            s_headers,
            [
                "sizeof(struct io_uring_probe)", "sizeof(struct io_uring_probe_op)", "offsetof(struct io_uring_probe, ops)",
                "offsetof(struct io_uring_probe_op, flags)", "IO_URING_OP_SUPPORTED",
            ]);
        Assert.Equal([16, 8, 16, 2, 1], header.Values);
    }

    private static void AssertSameAsHeader(Dictionary<string, long> ours)
    {
        Assert.NotEmpty(ours);
        IReadOnlyDictionary<string, long> header =
            CProgram.Evaluate(s_headers, ours.Keys.Except(s_newerThanLinux6Dot1), ours.Keys.Intersect(s_newerThanLinux6Dot1));
        Assert.All(ours, constant =>
        {
            if (header.TryGetValue(constant.Key, out long value))
            {
                Assert.Equal((constant.Key, value), (constant.Key, constant.Value));
            }
            else
            {
                Assert.Contains(constant.Key, s_newerThanLinux6Dot1);
            }
        });
    }

    // Fields by their name in C, with our name (so that none is forgotten) and our offset.
    private static void AssertLayout<T>(string name, Dictionary<string, (string Field, long OffsetBytes)> fields)
        where T : unmanaged
    {
        string size = $"sizeof(struct {name})";
        Dictionary<string, long> ours =
            fields.ToDictionary(field => $"offsetof(struct {name}, {field.Key})", field => field.Value.OffsetBytes);
        ours.Add(size, sizeof(T));

        IReadOnlyDictionary<string, long> header = CProgram.Evaluate(s_headers, ours.Keys);

        Assert.Equal(header.OrderBy(pair => pair.Key), ours.OrderBy(pair => pair.Key));
        Assert.Equal(
            typeof(T).GetFields(BindingFlags.Instance | BindingFlags.Public).Select(field => field.Name).Order(),
            fields.Values.Select(field => field.Field).Order());
    }

    private static long Offset<T, TField>(ref T structure, ref TField field)
        where T : unmanaged
        where TField : unmanaged =>
        Unsafe.ByteOffset(ref Unsafe.As<T, byte>(ref structure), ref Unsafe.As<TField, byte>(ref field));
}
