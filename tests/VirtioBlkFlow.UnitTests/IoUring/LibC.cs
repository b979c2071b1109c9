using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using Xunit;

namespace IoUring.UnitTests;

/// <summary>System calls of the tests: signals to one thread, eventfds, pipes.</summary>
internal static unsafe partial class LibC
{
    public const int SIGWINCH = 28;
    public const int EBADF = 9;

    [LibraryImport("libc")]
    public static partial int gettid();

    [LibraryImport("libc", SetLastError = true)]
    public static partial int tgkill(int process, int thread, int signal);

    [LibraryImport("libc", SetLastError = true)]
    public static partial int pipe2(int* descriptors, int flags);

    [LibraryImport("libc", SetLastError = true)]
    public static partial nint read(int descriptor, void* buffer, nuint lengthBytes);

    public static int EventFd()
    {
        int descriptor = Syscalls.eventfd(0, Syscalls.EFD_CLOEXEC_NONBLOCK);
        Assert.True(descriptor >= 0);
        return descriptor;
    }

    public static void Signal(int eventFd)
    {
        ulong one = 1;
        Assert.Equal(8, Syscalls.write(eventFd, &one, sizeof(ulong)));
    }

    /// <summary>Returns when a thread of this process sleeps in io_uring_enter(2), or when it has ended.</summary>
    public static void AwaitSleepInEnter(int thread)
    {
        string inEnter = Syscalls.SYS_io_uring_enter.ToString(CultureInfo.InvariantCulture) + " ";
        var clock = Stopwatch.StartNew();
        while (true)
        {
            try
            {
                // proc_pid_syscall(5): the number of the call a blocked thread is in, or "running".
                if (File.ReadAllText($"/proc/self/task/{thread}/syscall").StartsWith(inEnter, StringComparison.Ordinal))
                {
                    return;
                }
            }
            catch (IOException)
            {
                return;
            }

            Assert.True(clock.Elapsed < OwnThread.Patience, "The thread never slept in io_uring_enter(2).");
            Thread.Yield();
        }
    }
}
