namespace VirtioBlkFlow.Benchmarks.Ratio;

/// <summary>CPU time of the calling thread: what others on the machine take is not in it.</summary>
internal static unsafe partial class ThreadClock
{
    // CLOCK_THREAD_CPUTIME_ID of <linux/time.h>
    private const int CLOCK_THREAD_CPUTIME_ID = 3;

    public static long NowNanoseconds
    {
        get
        {
            TimeSpec now;
            return clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) == 0 ? (now.Seconds * 1_000_000_000) + now.Nanoseconds : throw new NotSupportedException();
        }
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
