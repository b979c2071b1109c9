using System.Runtime.InteropServices;

namespace VirtioBlkFlow.Device.Reactor;

/// <summary>The processors of the machine, as sched_setaffinity(2) numbers them.</summary>
public static partial class Processors
{
    /// <summary>Processors that a mask of ours can name. cpu_set_t of <c>&lt;sched.h&gt;</c> has 1024 bits.</summary>
    public const int MaxCount = 1024;

    private const int WordBits = 64;

    /// <summary>Whether this process may run on it.</summary>
    public static bool IsUsable(int processor)
    {
        Span<ulong> mask = stackalloc ulong[MaxCount / WordBits];
        return processor is >= 0 and < MaxCount
            && sched_getaffinity(0, (nuint)(mask.Length * sizeof(ulong)), ref mask[0]) >= 0
            && (mask[processor / WordBits] & (1UL << (processor % WordBits))) != 0;
    }

    /// <summary>The calling thread runs there and nowhere else.</summary>
    /// <exception cref="IOException">It may not.</exception>
    internal static void PinThread(int processor)
    {
        Span<ulong> mask = stackalloc ulong[MaxCount / WordBits];
        mask.Clear();
        mask[processor / WordBits] = 1UL << (processor % WordBits);
        if (sched_setaffinity(0, (nuint)(mask.Length * sizeof(ulong)), ref mask[0]) != 0)
        {
            throw new IOException($"Processor {processor} cannot be had: {Marshal.GetLastPInvokeErrorMessage()}.");
        }
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial int sched_getaffinity(int thread, nuint maskBytes, ref ulong mask);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int sched_setaffinity(int thread, nuint maskBytes, ref ulong mask);
}
