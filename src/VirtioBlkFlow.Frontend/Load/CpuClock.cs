namespace VirtioBlkFlow.Frontend.Load;

/// <summary>CPU time as the kernel keeps it, to the nanosecond.</summary>
internal static unsafe class CpuClock
{
    /// <summary>What the calling thread has used.</summary>
    public static long ThisThreadNs => TryRead(NativeMethods.CLOCK_THREAD_CPUTIME_ID, out long ns) ? ns : 0;

    /// <summary>What all threads of a process have used, ended ones included.</summary>
    /// <returns>False when there is no such process.</returns>
    // A process' clock is the complement of its number and, in the low bits, 2 for "as scheduled" (clock_getcpuclockid(3)).
    public static bool TryReadProcess(int processId, out long ns) => TryRead((~processId << 3) | 2, out ns);

    private static bool TryRead(int clock, out long ns)
    {
        NativeMethods.TimeSpec time;
        bool isThere = NativeMethods.ClockGetTime(clock, &time) == 0;
        ns = isThere ? (time.Seconds * 1_000_000_000) + time.Nanoseconds : 0;
        return isThere;
    }
}
