using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace VirtioBlkFlow.VhostUser;

/// <summary>The calls of Linux that Mono.Posix has not.</summary>
internal static partial class NativeMethods
{
    /// <summary>MADV_DONTDUMP of &lt;sys/mman.h&gt;.</summary>
    public const int MADV_DONTDUMP = 16;

    /// <summary>HUGETLBFS_MAGIC of &lt;linux/magic.h&gt;.</summary>
    public const long HUGETLBFS_MAGIC = 0x958458f6;

    /// <summary>EFD_CLOEXEC | EFD_NONBLOCK of &lt;sys/eventfd.h&gt;, the same on x86-64 and arm64.</summary>
    public const int EFD_CLOEXEC_NONBLOCK = 0x80000 | 0x800;

    /// <summary>MFD_CLOEXEC | MFD_ALLOW_SEALING of &lt;sys/mman.h&gt;.</summary>
    public const uint MFD_CLOEXEC_ALLOW_SEALING = 1 | 2;

    /// <summary>F_ADD_SEALS of &lt;linux/fcntl.h&gt;.</summary>
    public const int F_ADD_SEALS = 1033;

    /// <summary>F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW of &lt;linux/fcntl.h&gt;: the file keeps its size for ever.</summary>
    public const int F_SEAL_SIZE = 1 | 2 | 4;

    /// <summary>RWF_NOWAIT of &lt;linux/fs.h&gt;.</summary>
    public const int RWF_NOWAIT = 8;

    [LibraryImport("libc", SetLastError = true)]
    public static partial int eventfd(uint initialValue, int flags);

    [LibraryImport("libc", SetLastError = true)]
    public static partial int madvise(nint address, nuint lengthBytes, int advice);

    [LibraryImport("libc", SetLastError = true)]
    public static partial int fstatfs(int descriptor, out FileSystemStatus status);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int memfd_create(string name, uint flags);

    [LibraryImport("libc", SetLastError = true)]
    public static partial int fcntl(int descriptor, int command, int argument);

    [LibraryImport("libc", SetLastError = true)]
    public static unsafe partial nint preadv2(int descriptor, IoVector* vectors, int count, long offset, int flags);

    [LibraryImport("libc", SetLastError = true)]
    public static unsafe partial nint pwritev2(int descriptor, IoVector* vectors, int count, long offset, int flags);

    /// <summary>C: <c>struct iovec</c>.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct IoVector
    {
        public nint Start;
        public nint LengthBytes;
    }

    /// <summary>
    /// C: the beginning of <c>struct statfs</c> on 64-bit Linux: f_type and f_bsize, 8 bytes each. The rest, up to 120 bytes
    /// in all, is room for the kernel to write to.
    /// </summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct FileSystemStatus
    {
        public long Type;
        public long BlockBytes;
        private Remainder _remainder;

        [InlineArray(13)]
        private struct Remainder
        {
            private long _first;
        }
    }
}
