using Microsoft.Win32.SafeHandles;

namespace VirtioBlkFlow.Frontend;

/// <summary>System calls that Mono.Posix lacks, and those of the data path, where it would allocate.</summary>
internal static unsafe partial class NativeMethods
{
    // <sys/mman.h>
    public const uint MFD_CLOEXEC = 1;
    public const uint MFD_ALLOW_SEALING = 2;

    // <fcntl.h>
    public const int O_CLOEXEC = 0x80000;
    public const int F_ADD_SEALS = 1033;
    public const int F_SEAL_SHRINK = 2;
    public const int F_SEAL_GROW = 4;

    // <sys/eventfd.h>
    public const int EFD_CLOEXEC = 0x80000;
    public const int EFD_NONBLOCK = 0x800;

    // <poll.h>
    public const short POLLIN = 1;

    // <poll.h>: reported whether asked for or not
    public const short POLLERR = 8;
    public const short POLLHUP = 16;

    // <linux/time.h>
    public const int CLOCK_THREAD_CPUTIME_ID = 3;

    // <linux/prctl.h>
    public const int PR_SET_TIMERSLACK = 29;

    // <sys/socket.h>
    public const int SOL_SOCKET = 1;
    public const int SO_PEERCRED = 17;

    // <errno.h>
    public const int EINTR = 4;
    public const int EAGAIN = 11;

    /// <summary><c>struct pollfd</c>.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct PollDescriptor
    {
        public int Descriptor;
        public short Events;
        public short ReturnedEvents;
    }

    /// <summary><c>struct timespec</c>, 64-bit.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct TimeSpec
    {
        public long Seconds;
        public long Nanoseconds;
    }

    /// <summary><c>struct ucred</c>.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct Credentials
    {
        public int ProcessId;
        public uint UserId;
        public uint GroupId;
    }

    [LibraryImport("libc", SetLastError = true)]
    public static partial int pipe2(int* ends, int flags);

    [LibraryImport("libc", EntryPoint = "clock_gettime", SetLastError = true)]
    public static partial int ClockGetTime(int clock, TimeSpec* time);

    [LibraryImport("libc", EntryPoint = "ppoll", SetLastError = true)]
    public static partial int PollWithTime(PollDescriptor* descriptors, nuint count, TimeSpec* timeout, void* signalMask);

    // prctl is variadic in C, as fcntl below.
    [LibraryImport("libc", EntryPoint = "prctl", SetLastError = true)]
    public static partial int ProcessControl(int option, nuint argument);

    [LibraryImport("libc", EntryPoint = "getsockopt", SetLastError = true)]
    public static partial int GetSocketOption(SafeFileHandle socket, int level, int option, void* value, int* lengthBytes);

    [LibraryImport("libc", EntryPoint = "memfd_create", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int MemfdCreate(string name, uint flags);

    // fcntl is variadic in C; on the Linux ABIs .NET runs on, an int argument travels as in a fixed list.
    [LibraryImport("libc", EntryPoint = "fcntl", SetLastError = true)]
    public static partial int Fcntl(SafeFileHandle descriptor, int command, int argument);

    [LibraryImport("libc", EntryPoint = "eventfd", SetLastError = true)]
    public static partial int EventFdCreate(uint initialValue, int flags);

    [LibraryImport("libc", EntryPoint = "poll", SetLastError = true)]
    public static partial int Poll(PollDescriptor* descriptors, nuint count, int timeoutMs);

    [LibraryImport("libc", EntryPoint = "read", SetLastError = true)]
    public static partial nint Read(int descriptor, void* buffer, nuint lengthBytes);

    [LibraryImport("libc", EntryPoint = "write", SetLastError = true)]
    public static partial nint Write(int descriptor, void* buffer, nuint lengthBytes);

    /// <summary>What the last call set errno to, as text with its number.</summary>
    public static IOException LastError(string what)
    {
        int errno = Marshal.GetLastPInvokeError();
        return new IOException($"{what}: {Marshal.GetPInvokeErrorMessage(errno)} (errno {errno}).");
    }
}
