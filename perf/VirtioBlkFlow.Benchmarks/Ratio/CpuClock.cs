using System.Runtime.InteropServices;

namespace VirtioBlkFlow.Benchmarks.Ratio;

/// <summary>CPU time as the kernel keeps it: what others on the machine take is not in it.</summary>
internal static unsafe partial class CpuClock
{
    // Of <linux/time.h>.
    private const int CLOCK_PROCESS_CPUTIME_ID = 2;
    private const int CLOCK_THREAD_CPUTIME_ID = 3;

    /// <summary>What the calling thread has used.</summary>
    public static long ThisThreadNanoseconds => Read(CLOCK_THREAD_CPUTIME_ID);

    /// <summary>What all threads of this process have used, ended ones included.</summary>
    public static long ThisProcessNanoseconds => Read(CLOCK_PROCESS_CPUTIME_ID);

    private static long Read(int clock)
    {
        TimeSpec now;
        return clock_gettime(clock, &now) == 0 ? (now.Seconds * 1_000_000_000) + now.Nanoseconds : throw new NotSupportedException();
    }

    [LibraryImport("libc")]
    private static partial int clock_gettime(int clock, TimeSpec* time);

    // struct timespec of <time.h>, 64-bit
    [StructLayout(LayoutKind.Sequential)]
    private struct TimeSpec
    {
        public long Seconds;
        public long Nanoseconds;
    }
}
