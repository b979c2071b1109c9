namespace VirtioBlkFlow.UnitTests;

/// <summary>Measures what some code allocates each time it runs.</summary>
internal static class Allocations
{
    // What the runtime allocates once, when it compiles a method anew or loads a type, falls into few of them. Arbitrary.
    private const int Runs = 10;

    /// <summary>The least that one of several runs has allocated on this thread, in bytes; no more runs than it takes to see nothing.</summary>
    public static long LeastOf(Action body) => LeastOf(GC.GetAllocatedBytesForCurrentThread, body);

    /// <summary>The same of another thread, in bytes.</summary>
    /// <param name="read">Bytes that were allocated there so far. What it allocates there itself does not count.</param>
    /// <param name="body">What is measured.</param>
    public static long LeastOf(Func<long> read, Action body)
    {
        // Makes room that is kept.
        body();
        read();
        long least = long.MaxValue;
        for (int i = 0; i < Runs && least > 0; i++)
        {
            long first = read();
            long before = read();
            body();
            least = Math.Min(least, read() - before - (before - first));
        }

        return least;
    }
}
