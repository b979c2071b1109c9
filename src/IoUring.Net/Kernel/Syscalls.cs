namespace IoUring;

/// <summary>The system calls of io_uring, which the C library does not wrap, and what a ring needs besides.</summary>
internal static unsafe partial class Syscalls
{
    // The same numbers on x86-64 and arm64 (<asm-generic/unistd.h>).
    public const nint SYS_io_uring_setup = 425;
    public const nint SYS_io_uring_enter = 426;
    public const nint SYS_io_uring_register = 427;

    public const int EPERM = 1;
    public const int EINTR = 4;
    public const int EAGAIN = 11;
    public const int ENOMEM = 12;
    public const int EBUSY = 16;
    public const int EEXIST = 17;
    public const int EINVAL = 22;
    public const int ENFILE = 23;
    public const int EMFILE = 24;
    public const int ENOSYS = 38;
    public const int ETIME = 62;
    public const int ECANCELED = 125;

    // io_uring_enter(2)
    public const uint IORING_ENTER_GETEVENTS = 1;
    public const uint IORING_ENTER_EXT_ARG = 8;

    // io_uring(7): flags the kernel sets in the submission queue.
    public const uint IORING_SQ_CQ_OVERFLOW = 1 << 1;
    public const uint IORING_SQ_TASKRUN = 1 << 2;

    // io_uring_setup(2): offsets for mmap(2).
    public const long IORING_OFF_SQ_RING = 0;
    public const long IORING_OFF_CQ_RING = 0x8000000;
    public const long IORING_OFF_SQES = 0x10000000;

    // io_uring_register(2)
    public const uint IORING_REGISTER_FILES_UPDATE = 6;
    public const uint IORING_REGISTER_PROBE = 8;
    public const uint IORING_REGISTER_FILES2 = 13;
    public const uint IORING_REGISTER_BUFFERS2 = 15;
    public const uint IORING_REGISTER_BUFFERS_UPDATE = 16;
    public const uint IORING_RSRC_REGISTER_SPARSE = 1;

    // <sys/mman.h>
    public const int PROT_READ_WRITE = 3;
    public const int MAP_SHARED_POPULATE = 0x8001;

    // <sys/eventfd.h>
    public const int EFD_CLOEXEC_NONBLOCK = 0x80800;

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    public static partial nint Setup(nint number, uint entries, RingParameters* parameters);

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    public static partial nint Enter(nint number, int ring, uint toSubmit, uint minimumCompletions, uint flags, void* argument, nuint argumentBytes);

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    public static partial nint Register(nint number, int ring, uint operation, void* argument, uint count);

    [LibraryImport("libc", SetLastError = true)]
    public static partial void* mmap(void* address, nuint lengthBytes, int protection, int flags, int descriptor, long offset);

    [LibraryImport("libc", SetLastError = true)]
    public static partial int munmap(void* address, nuint lengthBytes);

    [LibraryImport("libc", SetLastError = true)]
    public static partial int close(int descriptor);

    [LibraryImport("libc", SetLastError = true)]
    public static partial int eventfd(uint initialValue, int flags);

    [LibraryImport("libc", SetLastError = true)]
    public static partial nint write(int descriptor, void* buffer, nuint lengthBytes);
}
