using System.Diagnostics;
using VirtioBlkFlow.Benchmarks.Ratio;
using VirtioBlkFlow.Benchmarks.Servers;

namespace VirtioBlkFlow.Benchmarks.Study;

/// <summary>A variant, or the driver alone, as it takes its turns of a few milliseconds.</summary>
internal sealed class StudyContestant(Bench bench, int depth) : IDisposable
{
    /// <summary>Length of a slice by the clock. As in the ratio of pipeline and hand-written loop.</summary>
    public const double SliceMilliseconds = 3;

    private const double WarmUpMilliseconds = 250;

    // Most rounds that are timed in a turn: few enough that those of the fast ones can all be kept. Arbitrary.
    private const int TimedRounds = 256;

    private readonly List<long> _roundTicks = [];
    private readonly long[] _ticks = new long[TimedRounds];
    private int _requestsPerSlice;
    private long _allocatedBytes;
    private long _allocatingRequests;

    /// <summary>Runs until it is compiled, and finds out how much a slice is.</summary>
    public void WarmUp()
    {
        long rounds = 0;
        long start = Stopwatch.GetTimestamp();
        double elapsed;
        do
        {
            bench.Run(16 * depth);
            rounds += 16;
            elapsed = Stopwatch.GetElapsedTime(start).TotalMilliseconds;
        }
        while (elapsed < WarmUpMilliseconds);
        _requestsPerSlice = Math.Max(1, (int)(rounds * SliceMilliseconds / elapsed)) * depth;
    }

    /// <summary>Runs for a slice. The driver sleeps while other threads have its requests.</summary>
    /// <param name="otherThreads">How much of it was not the driver's thread's.</param>
    /// <returns>CPU nanoseconds of the process per request.</returns>
    public double CpuSlice(out double otherThreads)
    {
        // What the one before left running ends: threads of the pool spin a little before they sleep.
        Thread.Sleep(1);
        // What it left in the caches is not ours.
        bench.Run(4 * depth);
        long ownStart = CpuClock.ThisThreadNanoseconds;
        long start = CpuClock.ThisProcessNanoseconds;
        bench.Run(_requestsPerSlice);
        long elapsed = CpuClock.ThisProcessNanoseconds - start;
        // Read around the other, so that what is left for other threads is too little rather than too much.
        long own = CpuClock.ThisThreadNanoseconds - ownStart;
        bench.RequireRightAnswers();
        otherThreads = (double)Math.Max(0, elapsed - own) / _requestsPerSlice;
        return (double)elapsed / _requestsPerSlice;
    }

    /// <summary>Times rounds one by one, and counts what they allocate. The driver polls.</summary>
    public void LatencySlice()
    {
        var pool = bench.Server as PoolServer;
        pool?.TurnWaits = false;
        bench.Run(4 * depth);
        long before = GC.GetTotalAllocatedBytes(precise: true);
        int rounds = bench.TimeRounds(_ticks, TimeSpan.FromMilliseconds(SliceMilliseconds));
        _allocatedBytes += GC.GetTotalAllocatedBytes(precise: true) - before;
        _allocatingRequests += (long)rounds * depth;
        pool?.TurnWaits = true;
        _roundTicks.AddRange(_ticks.AsSpan(0, rounds));
        bench.RequireRightAnswers();
    }

    /// <summary>Bytes allocated per request so far.</summary>
    public double BytesPerRequest => (double)_allocatedBytes / _allocatingRequests;

    /// <summary>Time in which some of the rounds so far ended, in microseconds.</summary>
    /// <param name="share">How many of them, 0 to 1.</param>
    public double RoundMicroseconds(double share)
    {
        _roundTicks.Sort();
        return _roundTicks[(int)(share * (_roundTicks.Count - 1))] * 1e6 / Stopwatch.Frequency;
    }

    /// <inheritdoc/>
    public void Dispose() => bench.Dispose();
}
