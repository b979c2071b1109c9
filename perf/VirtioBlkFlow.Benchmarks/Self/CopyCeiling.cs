using System.Diagnostics;
using VirtioBlkFlow.Benchmarks.Compare;
using VirtioBlkFlow.Frontend.Load;

namespace VirtioBlkFlow.Benchmarks.Self;

/// <summary>
/// What a memory disk cannot do without: blocks from anywhere in a memory of the disk's size, copied to the buffers of the requests in flight
/// in turn. No queue, no request, no second thread.
/// </summary>
internal static unsafe class CopyCeiling
{
    private const int BlocksBetweenLooks = 64;

    // As the memory of the disk: pages of the usual size.
    private const nuint PageBytes = 4096;

    /// <summary>Copies for a while, on a thread of its own.</summary>
    /// <param name="load">Block size, and how many buffers.</param>
    /// <param name="sourceBytes">Size of the memory that is copied from.</param>
    /// <param name="seconds">How long, each time.</param>
    /// <param name="runs">How often.</param>
    /// <param name="restart">Which restart it is; the memory is new in each.</param>
    /// <param name="cpus">Processors for it, as taskset takes them; null for any.</param>
    public static List<Measurement> Run(Cell load, long sourceBytes, double seconds, int runs, int restart, string? cpus)
    {
        var measured = new List<Measurement>();
        Exception? fault = null;
        var thread = new Thread(() =>
        {
            try
            {
                Pin(cpus);
                byte* source = (byte*)System.Runtime.InteropServices.NativeMemory.AlignedAlloc((nuint)sourceBytes, PageBytes);
                byte* target = (byte*)System.Runtime.InteropServices.NativeMemory.AlignedAlloc((nuint)load.BlockBytes * (nuint)load.Depth, PageBytes);
                Fill(source, sourceBytes);
                measured.AddRange(Enumerable.Range(0, runs).Select(run => Copy(load, source, sourceBytes, target, seconds, restart, run)));
                System.Runtime.InteropServices.NativeMemory.AlignedFree(source);
                System.Runtime.InteropServices.NativeMemory.AlignedFree(target);
            }
            catch (Exception exception) when (exception is CompareException or OutOfMemoryException)
            {
                fault = exception;
            }
        })
        { Name = "copying" };
        thread.Start();
        thread.Join();
        return fault is null ? measured : throw new CompareException(fault.Message);
    }

    // The link reads "PID/task/TID", and taskset without -a takes a thread.
    private static void Pin(string? cpus)
    {
        if (cpus is not null)
        {
            string thread = Path.GetFileName(new FileInfo("/proc/thread-self").LinkTarget!);
            Shell.Run($"taskset -p -c {Contestant.Quote(cpus)} {thread}", null, TimeSpan.FromSeconds(20));
        }
    }

    private static void Fill(byte* source, long bytes)
    {
        var random = new Random(1);
        byte[] chunk = new byte[1 << 20];
        random.NextBytes(chunk);
        for (long done = 0; done < bytes; done += chunk.Length)
        {
            int length = (int)Math.Min(chunk.Length, bytes - done);
            chunk.AsSpan(0, length).CopyTo(new Span<byte>(source + done, length));
        }
    }

    private static Measurement Copy(Cell load, byte* source, long sourceBytes, byte* target, double seconds, int restart, int run)
    {
        var random = new LoadRandom((ulong)(1 + restart + run));
        int blockBytes = load.BlockBytes;
        ulong places = (ulong)(sourceBytes / blockBytes);
        long copies = 0;
        int buffer = 0;
        // The rest of this process waits meanwhile.
        ProcessUsage.TryReadCpu(Environment.ProcessId, out long cpuBefore);
        long start = Stopwatch.GetTimestamp();
        do
        {
            for (int i = 0; i < BlocksBetweenLooks; i++)
            {
                long place = (long)random.Below(places) * blockBytes;
                new ReadOnlySpan<byte>(source + place, blockBytes).CopyTo(new Span<byte>(target + ((long)buffer * blockBytes), blockBytes));
                buffer = buffer + 1 == load.Depth ? 0 : buffer + 1;
            }

            copies += BlocksBetweenLooks;
        }
        while (Stopwatch.GetElapsedTime(start).TotalSeconds < seconds);
        double elapsed = Stopwatch.GetElapsedTime(start).TotalSeconds;
        ProcessUsage.TryReadCpu(Environment.ProcessId, out long cpuAfter);
        double each = elapsed * 1e9 / copies;
        return new Measurement(restart, run, copies / elapsed, each, each, each, (double)(cpuAfter - cpuBefore) / copies, null, null, null, null);
    }
}
