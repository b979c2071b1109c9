using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;
using VirtioBlkFlow.Benchmarks.Servers;
using VirtioBlkFlow.Device.Latency;

namespace VirtioBlkFlow.Benchmarks.Ratio;

/// <summary>The figures of one queue depth.</summary>
/// <param name="Depth">Requests made available at once.</param>
/// <param name="PipelineNanoseconds">CPU per request, driver included.</param>
/// <param name="HandNanoseconds">CPU per request, driver included.</param>
/// <param name="DriverNanoseconds">CPU per request of the driver alone.</param>
/// <param name="WholeRatio">pipeline / hand, of each round.</param>
/// <param name="DeviceRatio">(pipeline − driver) / (hand − driver), of each round.</param>
/// <param name="PipelineBytes">Bytes allocated per request by the pipeline.</param>
/// <param name="HandBytes">Bytes allocated per request by the hand-written loop.</param>
internal sealed record DepthFigures(
    int Depth,
    Sample PipelineNanoseconds,
    Sample HandNanoseconds,
    Sample DriverNanoseconds,
    Sample WholeRatio,
    Sample DeviceRatio,
    double PipelineBytes,
    double HandBytes);

/// <summary>All figures of a run.</summary>
internal sealed record RatioFigures(string Disk, int Rounds, double SliceMilliseconds, string Runtime, IReadOnlyList<DepthFigures> Depths);

/// <summary>
/// Runs pipeline, hand-written loop and driver in turns of a few milliseconds, many rounds, on one thread of one process, and takes the
/// median of the rounds' ratios: a machine that changes its speed changes it for all three.
/// </summary>
internal static class RatioRunner
{
    private const double SliceMilliseconds = 3;
    private const double WarmUpMilliseconds = 400;

    private static readonly int[] s_depths = [1, 8, 32, 128];
    private static readonly JsonSerializerOptions s_json = new() { WriteIndented = true, PropertyNamingPolicy = JsonNamingPolicy.CamelCase };

    /// <summary>Runs, prints a table, writes JSON.</summary>
    /// <param name="disk">null or file.</param>
    /// <param name="rounds">Rounds of each depth.</param>
    /// <param name="rival">What the pipeline is compared with: null for the hand-written loop, else a pipeline that measures in this way.</param>
    /// <param name="jsonPath">Where the figures go; null for nowhere.</param>
    public static void Run(string disk, int rounds, StageLatency? rival, string? jsonPath)
    {
        using TestFile? file = disk == "file" ? TestFile.Create() : null;
        Cell[] cells = [.. s_depths.Select(depth => new Cell(depth, file, rival))];
        // All depths before the first is measured: the compiler learns from all of them.
        Array.ForEach(cells, cell => cell.WarmUp());
        Array.ForEach(cells, cell => cell.WarmUp());
        Console.WriteLine($"{disk} disk, CPU ns per request, median of {rounds} rounds; ratios with quartiles and 95 % interval of the median");
        string name = rival == null ? "hand" : $"with stage latency {rival}";
        Console.WriteLine($"  QD  pipeline     rival  driver | pipeline / rival              | (pipeline - driver) / (rival - driver)        | bytes; rival: {name}");
        var figures = new List<DepthFigures>();
        foreach (Cell cell in cells)
        {
            DepthFigures depth = cell.Measure(rounds);
            figures.Add(depth);
            Console.WriteLine(string.Create(
                CultureInfo.InvariantCulture,
                $"{depth.Depth,4} {depth.PipelineNanoseconds.Median,9:F1} {depth.HandNanoseconds.Median,8:F1} {depth.DriverNanoseconds.Median,8:F1} | {Show(depth.WholeRatio)} | {Show(depth.DeviceRatio)} | {depth.PipelineBytes:F2} {depth.HandBytes:F2}"));
            cell.Dispose();
        }

        if (jsonPath != null)
        {
            var all = new RatioFigures(disk, rounds, SliceMilliseconds, RuntimeInformation.FrameworkDescription, figures);
            File.WriteAllText(jsonPath, JsonSerializer.Serialize(all, s_json) + "\n");
        }
    }

    private static string Show(Sample ratio) => string.Create(
        CultureInfo.InvariantCulture,
        $"{ratio.Median:F3} [{ratio.LowerQuartile:F3} {ratio.UpperQuartile:F3}] ±95% [{ratio.IntervalLow:F3} {ratio.IntervalHigh:F3}]");

    private sealed class Cell(int depth, TestFile? file, StageLatency? rival) : IDisposable
    {
        private readonly Contestant _pipeline = new(file == null ? Bench.NullPipeline(depth) : Bench.FilePipeline(depth, file), depth);
        private readonly Contestant _hand = new(RivalOf(depth, file, rival), depth);
        private readonly Contestant _driver = new(Bench.DriverOnly(depth, TestFile.Sectors), depth);

        public void WarmUp()
        {
            _pipeline.WarmUp();
            _hand.WarmUp();
            _driver.WarmUp();
        }

        public DepthFigures Measure(int rounds)
        {
            double[] pipeline = new double[rounds];
            double[] hand = new double[rounds];
            double[] driver = new double[rounds];
            double[] whole = new double[rounds];
            double[] device = new double[rounds];
            for (int i = 0; i < rounds; i++)
            {
                // Forth and back, so that neither always runs in the other's wake.
                if (i % 2 == 0)
                {
                    pipeline[i] = _pipeline.Slice();
                    hand[i] = _hand.Slice();
                    driver[i] = _driver.Slice();
                }
                else
                {
                    driver[i] = _driver.Slice();
                    hand[i] = _hand.Slice();
                    pipeline[i] = _pipeline.Slice();
                }

                whole[i] = pipeline[i] / hand[i];
                device[i] = (pipeline[i] - driver[i]) / (hand[i] - driver[i]);
            }

            return new DepthFigures(
                depth, Sample.Of(pipeline), Sample.Of(hand), Sample.Of(driver), Sample.Of(whole), Sample.Of(device), _pipeline.BytesPerRequest(), _hand.BytesPerRequest());
        }

        public void Dispose()
        {
            _pipeline.Dispose();
            _hand.Dispose();
            _driver.Dispose();
        }

        private static Bench RivalOf(int depth, TestFile? file, StageLatency? rival) => (file, rival) switch
        {
            (null, null) => Bench.NullHand(depth),
            (null, { } latency) => Bench.NullPipeline(depth, latency),
            (_, null) => Bench.FileHand(depth, file),
            (_, { } latency) => Bench.FilePipeline(depth, file, latency),
        };
    }

    private sealed class Contestant(Bench bench, int depth) : IDisposable
    {
        private int _requestsPerSlice;

        public void WarmUp()
        {
            long requests = 0;
            long start = CpuClock.ThisThreadNanoseconds;
            long elapsed;
            do
            {
                bench.Run(16 * depth);
                requests += 16 * depth;
                elapsed = CpuClock.ThisThreadNanoseconds - start;
            }
            while (elapsed < WarmUpMilliseconds * 1e6);
            _requestsPerSlice = Math.Max(1, (int)(requests * SliceMilliseconds * 1e6 / elapsed / depth)) * depth;
        }

        /// <summary>Runs for a slice.</summary>
        /// <returns>CPU nanoseconds per request.</returns>
        public double Slice()
        {
            // What the one before left in the caches is not ours.
            bench.Run(depth);
            long start = CpuClock.ThisThreadNanoseconds;
            bench.Run(_requestsPerSlice);
            long elapsed = CpuClock.ThisThreadNanoseconds - start;
            bench.RequireRightAnswers();
            return (double)elapsed / _requestsPerSlice;
        }

        public double BytesPerRequest()
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            bench.Run(_requestsPerSlice);
            return (double)(GC.GetAllocatedBytesForCurrentThread() - before) / _requestsPerSlice;
        }

        public void Dispose() => bench.Dispose();
    }
}
