namespace VirtioBlkFlow.UnitTests.Disks;

/// <summary>Measures what some code allocates each time it runs.</summary>
internal static class Allocations
{
    // What the runtime allocates once, when it compiles a method anew or loads a type, falls into few of them. Arbitrary.
    private const int Runs = 10;

    /// <summary>The least that one of several runs has allocated on this thread, in bytes.</summary>
    public static long LeastOf(Action body)
    {
        // Makes room that is kept.
        body();
        long least = long.MaxValue;
        for (int i = 0; i < Runs; i++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            body();
            least = Math.Min(least, GC.GetAllocatedBytesForCurrentThread() - before);
        }

        return least;
    }
}
