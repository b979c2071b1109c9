namespace VirtioBlkFlow.Disks;

/// <summary>System calls that Mono.Posix has not, or not without allocating. 64-bit Linux.</summary>
internal static unsafe partial class LibC
{
    // Negated errno values in completions (<asm-generic/errno-base.h>, <asm-generic/errno.h>).
    public const int EINTR = 4;
    public const int EIO = 5;
    public const int EAGAIN = 11;
    public const int EACCES = 13;
    public const int EFAULT = 14;
    public const int ENXIO = 6;
    public const int EINVAL = 22;
    public const int ENOSPC = 28;
    public const int EDQUOT = 122;
    public const int EOPNOTSUPP = 95;

    // <linux/falloc.h>
    public const int FALLOC_FL_KEEP_SIZE = 0x01;
    public const int FALLOC_FL_PUNCH_HOLE = 0x02;
    public const int FALLOC_FL_ZERO_RANGE = 0x10;

    // <linux/fs.h>: RWF_DSYNC, per-I/O O_DSYNC.
    public const int RWF_DSYNC = 2;

    // <asm-generic/fcntl.h>: locks that belong to the open file, not to the process.
    public const int F_OFD_GETLK = 36;

    // <linux/fcntl.h>
    public const int F_DUPFD_CLOEXEC = 1030;
    public const int F_GET_SEALS = 1034;
    public const int F_SEAL_WRITE = 0x8;
    public const int F_SEAL_FUTURE_WRITE = 0x10;
    public const int F_OFD_SETLK = 37;
    public const short F_RDLCK = 0;
    public const short F_WRLCK = 1;
    public const short F_UNLCK = 2;

    // <linux/stat.h>
    public const int AT_EMPTY_PATH = 0x1000;
    public const uint STATX_DIOALIGN = 0x2000;

    // <poll.h>
    public const int POLLRDHUP = 0x2000;

    // <sys/epoll.h>
    public const int EPOLL_CLOEXEC = 0x80000;
    public const int EPOLL_CTL_ADD = 1;
    public const int EPOLL_CTL_DEL = 2;
    public const uint EPOLLIN = 0x001;
    public const uint EPOLLET = 1u << 31;

    public const int EPOLL_CTL_MOD = 3;
    public const uint EPOLLOUT = 0x004;
    public const uint EPOLLONESHOT = 1u << 30;

    // <sys/socket.h>, <bits/socket.h>, <netinet/tcp.h>
    public const int SOCK_STREAM = 1;
    public const int SOCK_CLOEXEC = 0x80000;
    public const int SOL_SOCKET = 1;
    public const int SO_KEEPALIVE = 9;
    public const int SO_RCVTIMEO = 20;
    public const int SO_SNDTIMEO = 21;
    public const int IPPROTO_TCP = 6;
    public const int TCP_NODELAY = 1;
    public const int SHUT_RDWR = 2;
    public const uint MSG_DONTWAIT = 0x40;
    public const uint MSG_NOSIGNAL = 0x4000;

    // <linux/fs.h>: fails where the write would block, and where that cannot be known.
    public const int RWF_NOWAIT = 8;

    // <sys/eventfd.h>
    public const int EFD_CLOEXEC = 0x80000;
    public const int EFD_NONBLOCK = 0x800;

    // <linux/fs.h>: BLKSSZGET, logical sector size of a block device.
    public const nuint BLKSSZGET = 0x1268;

    // <linux/fs.h>: BLKPBSZGET, physical sector size of a block device.
    public const nuint BLKPBSZGET = 0x127b;

    // <linux/fs.h>: discards u64 length bytes from u64 offset on.
    public const nuint BLKDISCARD = 0x1277;

    // <linux/blkdev.h>: BLOCK_URING_CMD_DISCARD, the same as a command of io_uring. Linux 6.12.
    public const uint BLOCK_URING_CMD_DISCARD = 0x1200;

    // <linux/fs.h>: erases u64 length bytes from u64 offset on, for good.
    public const nuint BLKSECDISCARD = 0x127d;

    // <sys/mman.h>, <asm-generic/mman-common.h>, <linux/mman.h>: the page size of MAP_HUGETLB is its logarithm, in the top bits of the flags.
    public const int PROT_READ = 1;
    public const int PROT_WRITE = 2;
    public const int MAP_PRIVATE = 0x02;
    public const int MAP_ANONYMOUS = 0x20;
    public const int MAP_NORESERVE = 0x4000;
    public const int MAP_HUGETLB = 0x40000;
    public const int MAP_HUGE_2MB = 21 << 26;
    public const int MADV_DONTNEED = 4;
    public const int MADV_HUGEPAGE = 14;

    [LibraryImport("libc", SetLastError = true)]
    public static partial void* mmap(void* address, nuint lengthBytes, int protection, int flags, int fd, long offsetBytes);

    [LibraryImport("libc", SetLastError = true)]
    public static partial int munmap(void* address, nuint lengthBytes);

    [LibraryImport("libc", SetLastError = true)]
    public static partial int madvise(void* address, nuint lengthBytes, int advice);

    [LibraryImport("libc", SetLastError = true)]
    public static partial nint preadv(int fd, Iovec* pieces, int count, long offsetBytes);

    [LibraryImport("libc", SetLastError = true)]
    public static partial nint pwritev2(int fd, Iovec* pieces, int count, long offsetBytes, int flags);

    // <unistd.h>: the next data at or after an offset; ENXIO if there is none.
    public const int SEEK_DATA = 3;

    [LibraryImport("libc", SetLastError = true)]
    public static partial long lseek(int fd, long offsetBytes, int whence);

    [LibraryImport("libc", SetLastError = true)]
    public static partial int fdatasync(int fd);

    [LibraryImport("libc", SetLastError = true)]
    public static partial int fallocate(int fd, int mode, long offsetBytes, long lengthBytes);

    [LibraryImport("libc", SetLastError = true)]
    public static partial int fcntl(int fd, int command, FileLock* fileLock);

    [LibraryImport("libc", SetLastError = true)]
    public static partial int fcntl(int fd, int command, nint argument);

    [LibraryImport("libc", SetLastError = true)]
    public static partial int statx(int directory, byte* path, int flags, uint mask, byte* buffer);

    [LibraryImport("libc", SetLastError = true)]
    public static partial int ioctl(int fd, nuint request, void* argument);

    [LibraryImport("libc", SetLastError = true)]
    public static partial int poll(int* descriptors, nuint count, int timeoutMs);

    [LibraryImport("libc", SetLastError = true)]
    public static partial int epoll_create1(int flags);

    [LibraryImport("libc", SetLastError = true)]
    public static partial int epoll_ctl(int epoll, int operation, int fd, byte* epollEvent);

    [LibraryImport("libc", SetLastError = true)]
    public static partial int epoll_wait(int epoll, byte* events, int maxEvents, int timeoutMs);

    [LibraryImport("libc", SetLastError = true)]
    public static partial int eventfd(uint initialValue, int flags);

    [LibraryImport("libc", SetLastError = true)]
    public static partial nint write(int fd, void* buffer, nuint lengthBytes);

    [LibraryImport("libc", SetLastError = true)]
    public static partial int socket(int family, int type, int protocol);

    [LibraryImport("libc", SetLastError = true)]
    public static partial int connect(int fd, byte* address, uint lengthBytes);

    [LibraryImport("libc", SetLastError = true)]
    public static partial int setsockopt(int fd, int level, int option, void* value, uint lengthBytes);

    [LibraryImport("libc", SetLastError = true)]
    public static partial int shutdown(int fd, int how);

    [LibraryImport("libc", SetLastError = true)]
    public static partial nint send(int fd, byte* bytes, nuint lengthBytes, int flags);

    [LibraryImport("libc", SetLastError = true)]
    public static partial nint recv(int fd, byte* bytes, nuint lengthBytes, int flags);

    [LibraryImport("libc", SetLastError = true)]
    public static partial nint sendmsg(int fd, Engine.SocketMessage* message, int flags);

    [LibraryImport("libc", SetLastError = true)]
    public static partial nint recvmsg(int fd, Engine.SocketMessage* message, int flags);

    /// <summary><c>struct flock</c> of <c>&lt;asm-generic/fcntl.h&gt;</c>, 32 bytes on 64-bit Linux.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct FileLock
    {
        public short Type;
        public short Whence;
        public long Start;
        public long Length;
        public int Pid;
    }
}
