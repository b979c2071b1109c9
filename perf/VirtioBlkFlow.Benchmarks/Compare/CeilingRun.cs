using System.Diagnostics;

namespace VirtioBlkFlow.Benchmarks.Compare;

/// <summary>
/// A run of the ceiling, with its CPU time seen from outside. What fio says of itself is that of the thread which submits: the kernel's
/// worker threads, which do its buffered writes, are not in it, and they are in what is measured of servers.
/// </summary>
internal static class CeilingRun
{
    // From the start of the process: a second that fio does not count (--ramp_time), and what it takes to begin.
    private static readonly TimeSpan s_begin = TimeSpan.FromSeconds(1.5);

    // Left out at the end, so that the look falls into the load.
    private static readonly TimeSpan s_margin = TimeSpan.FromSeconds(0.5);

    /// <summary>Runs the load to its end.</summary>
    /// <param name="command">For the shell; one process with all its threads.</param>
    /// <param name="cpus">For taskset -c; null for any.</param>
    /// <param name="counted">How long the load is counted.</param>
    /// <param name="deadline">When it must have ended.</param>
    /// <returns>What it printed, and how many processors it kept busy on the average.</returns>
    /// <exception cref="CompareException">It failed, or did not end in time.</exception>
    public static (string Output, double BusyProcessors) Run(string command, string? cpus, TimeSpan counted, TimeSpan deadline)
    {
        using Process process = Shell.Start(command, cpus);
        Task<double> busy = Task.Run(() => Watch(process, counted - s_margin));
        string output = Shell.Finish(process, command, deadline);
        return (output, busy.Result);
    }

    private static double Watch(Process process, TimeSpan window)
    {
        Thread.Sleep(s_begin);
        if (process.HasExited)
        {
            return 0;
        }

        long start = Stopwatch.GetTimestamp();
        TimeSpan before = CpuTimeOf(process);
        Thread.Sleep(window);
        return process.HasExited ? 0 : (CpuTimeOf(process) - before) / Stopwatch.GetElapsedTime(start);
    }

    private static TimeSpan CpuTimeOf(Process process)
    {
        process.Refresh();
        return process.TotalProcessorTime;
    }
}
