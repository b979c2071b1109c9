using Microsoft.Win32.SafeHandles;
using Xunit;

namespace IoUring.UnitTests;

/// <summary>Each prepared operation on a real file, checked by reading the file the ordinary way.</summary>
public sealed unsafe class FileOperationTests : IDisposable
{
    // uapi/linux/fs.h, linux/falloc.h
    private const uint RWF_DSYNC = 2;
    private const int FALLOC_FL_KEEP_SIZE = 1;
    private const int FALLOC_FL_PUNCH_HOLE = 2;

    private readonly string _path = Path.GetTempFileName();
    private readonly SafeFileHandle _file;
    private readonly Ring _ring = RingTests.Create(RingTests.Shape.Default, submissionEntries: 8);

    public FileOperationTests() => _file = File.OpenHandle(_path, FileMode.Open, FileAccess.ReadWrite);

    private int Descriptor => (int)_file.DangerousGetHandle();

    public void Dispose()
    {
        _ring.Dispose();
        _file.Dispose();
        File.Delete(_path);
    }

    [Fact]
    public void Read_reads_at_its_offset()
    {
        RandomAccess.Write(_file, "0123456789"u8, 0);
        byte* buffer = stackalloc byte[4];
        Entry()->PrepareRead(Descriptor, buffer, 4, offsetBytes: 3, userData: 7);
        Assert.Equal((7ul, 4), Complete());
        Assert.Equal("3456"u8, new ReadOnlySpan<byte>(buffer, 4));
    }

    [Fact]
    public void A_read_across_the_end_is_short_and_one_behind_it_empty()
    {
        RandomAccess.Write(_file, "0123456789"u8, 0);
        byte* buffer = stackalloc byte[4];
        Entry()->PrepareRead(Descriptor, buffer, 4, offsetBytes: 8, userData: 1);
        Assert.Equal((1ul, 2), Complete());
        Entry()->PrepareRead(Descriptor, buffer, 4, offsetBytes: 10, userData: 2);
        Assert.Equal((2ul, 0), Complete());
    }

    [Fact]
    public void Write_writes_at_its_offset()
    {
        RandomAccess.Write(_file, "0123456789"u8, 0);
        fixed (byte* buffer = "abcd"u8)
        {
            Entry()->PrepareWrite(Descriptor, buffer, 4, offsetBytes: 8, rwFlags: 0, userData: 9);
            Assert.Equal((9ul, 4), Complete());
        }

        Assert.Equal("01234567abcd", File.ReadAllText(_path));
    }

    [Fact]
    public void Write_passes_its_flags_on()
    {
        fixed (byte* buffer = "abcd"u8)
        {
            Entry()->PrepareWrite(Descriptor, buffer, 4, offsetBytes: 0, RWF_DSYNC, userData: 1);
            Assert.Equal((1ul, 4), Complete());
            Entry()->PrepareWrite(Descriptor, buffer, 4, offsetBytes: 0, rwFlags: 1u << 31, userData: 2);
            (ulong userData, int result) = Complete();
            Assert.Equal(2ul, userData);
            Assert.True(result < 0, "A flag no kernel knows must be refused.");
        }
    }

    [Fact]
    public void Readv_scatters_and_writev_gathers()
    {
        byte* text = stackalloc byte[8];
        "abcdefgh"u8.CopyTo(new Span<byte>(text, 8));
        nint* iovecs = stackalloc nint[4] { (nint)(text + 4), 4, (nint)text, 3 };
        Entry()->PrepareWritev(Descriptor, iovecs, 2, offsetBytes: 1, RWF_DSYNC, userData: 1);
        Assert.Equal((1ul, 7), Complete());
        Assert.Equal("\0efghabc", File.ReadAllText(_path));

        byte* one = stackalloc byte[2];
        byte* two = stackalloc byte[3];
        iovecs[0] = (nint)one;
        iovecs[1] = 2;
        iovecs[2] = (nint)two;
        iovecs[3] = 3;
        Entry()->PrepareReadv(Descriptor, iovecs, 2, offsetBytes: 2, userData: 2);
        Assert.Equal((2ul, 5), Complete());
        Assert.Equal("fg"u8, new ReadOnlySpan<byte>(one, 2));
        Assert.Equal("hab"u8, new ReadOnlySpan<byte>(two, 3));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Fsync_completes_on_a_file_and_fails_on_what_cannot_be_synced(bool dataOnly)
    {
        Entry()->PrepareFsync(Descriptor, dataOnly, userData: 1);
        Assert.Equal((1ul, 0), Complete());

        int eventFd = LibC.EventFd();
        Entry()->PrepareFsync(eventFd, dataOnly, userData: 2);
        Assert.Equal((2ul, -Syscalls.EINVAL), Complete());
        Syscalls.close(eventFd);
    }

    [Fact]
    public void Fsync_passes_DATASYNC_on()
    {
        SubmissionEntry entry = default;
        entry.PrepareFsync(3, dataOnly: true, userData: 1);
        Assert.Equal(SubmissionEntry.IORING_FSYNC_DATASYNC, entry.OperationFlags);
        entry.PrepareFsync(3, dataOnly: false, userData: 1);
        Assert.Equal(0u, entry.OperationFlags);
    }

    [Fact]
    public void Fallocate_extends_a_file_and_punches_holes()
    {
        Entry()->PrepareFallocate(Descriptor, mode: 0, offsetBytes: 4096, lengthBytes: 8192, userData: 1);
        Assert.Equal((1ul, 0), Complete());
        Assert.Equal(12_288, RandomAccess.GetLength(_file));

        byte[] content = new byte[12_288];
        Array.Fill(content, (byte)'x');
        RandomAccess.Write(_file, content, 0);
        const int Punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
        Entry()->PrepareFallocate(Descriptor, Punch, offsetBytes: 4096, lengthBytes: 4096, userData: 2);
        Assert.Equal((2ul, 0), Complete());
        Array.Clear(content, 4096, 4096);
        Assert.Equal(content, File.ReadAllBytes(_path));
    }

    [Fact]
    public void A_descriptor_that_is_not_open_is_an_error_of_the_operation()
    {
        byte nothing;
        Entry()->PrepareRead(-1, &nothing, 1, offsetBytes: 0, userData: 3);
        Assert.Equal((3ul, -LibC.EBADF), Complete());
    }

    [Fact]
    public void ASYNC_hands_an_operation_to_a_worker_with_the_same_result()
    {
        RandomAccess.Write(_file, "0123"u8, 0);
        byte* buffer = stackalloc byte[4];
        SubmissionEntry* entry = Entry();
        entry->PrepareRead(Descriptor, buffer, 4, offsetBytes: 0, userData: 1);
        entry->Flags = EntryFlags.IOSQE_ASYNC;
        Assert.Equal((1ul, 4), Complete());
        Assert.Equal("0123"u8, new ReadOnlySpan<byte>(buffer, 4));
    }

    [Fact]
    public void Registered_files_go_by_their_index()
    {
        RandomAccess.Write(_file, "0123"u8, 0);
        _ring.RegisterFiles(4);
        Assert.Equal(-LibC.EBADF, ReadRegistered(2));

        _ring.UpdateFile(2, Descriptor);
        Assert.Equal(4, ReadRegistered(2));
        Assert.Equal(-LibC.EBADF, ReadRegistered(1));
        Assert.Equal(-LibC.EBADF, ReadRegistered(4));

        _ring.UpdateFile(2, -1);
        Assert.Equal(-LibC.EBADF, ReadRegistered(2));
    }

    [Fact]
    public void What_cannot_be_registered_is_an_exception_that_names_the_call()
    {
        IoUringException noTable = Assert.Throws<IoUringException>(() => _ring.UpdateFile(0, Descriptor));
        Assert.Contains("IORING_REGISTER_FILES_UPDATE", noTable.Message, StringComparison.Ordinal);
        Assert.NotEqual(0, noTable.Errno);

        _ring.RegisterFiles(4);
        Assert.Equal(Syscalls.EINVAL, Assert.Throws<IoUringException>(() => _ring.UpdateFile(4, Descriptor)).Errno);
        IoUringException second = Assert.Throws<IoUringException>(() => _ring.RegisterFiles(4));
        Assert.Equal(Syscalls.EBUSY, second.Errno);
        Assert.Contains("IORING_REGISTER_FILES2", second.Message, StringComparison.Ordinal);
    }

    private SubmissionEntry* Entry() => RingTests.Entry(_ring);

    private int ReadRegistered(int index)
    {
        byte* buffer = stackalloc byte[4];
        SubmissionEntry* entry = Entry();
        entry->PrepareRead(index, buffer, 4, offsetBytes: 0, userData: 1);
        entry->Flags = EntryFlags.IOSQE_FIXED_FILE;
        return Complete().Result;
    }

    private (ulong UserData, int Result) Complete()
    {
        Assert.Equal(WaitOutcome.Ready, _ring.SubmitAndWait(1, OwnThread.PatienceNanoseconds));
        CompletionEntry completion = Assert.Single(RingTests.ReapAll(_ring));
        return (completion.UserData, completion.Result);
    }
}
