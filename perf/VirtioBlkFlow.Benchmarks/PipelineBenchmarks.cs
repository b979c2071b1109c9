using BenchmarkDotNet.Attributes;
using VirtioBlkFlow.Benchmarks.Servers;

namespace VirtioBlkFlow.Benchmarks;

/// <summary>
/// What the pipeline costs when the disk costs nothing. Figures are per request, the driver's work included; "driver only" says how much
/// that is. One operation is one request; a round makes <see cref="Depth"/> of them available, has them served, and takes them back.
/// </summary>
[MemoryDiagnoser]
public class PipelineBenchmarks
{
    private const int RequestsPerInvoke = 4096;

    private Bench _bench = null!;

    [Params(1, 8, 32, 128)]
    public int Depth { get; set; }

    [GlobalSetup(Target = nameof(Pipeline))]
    public void SetUpPipeline() => _bench = Bench.NullPipeline(Depth);

    [GlobalSetup(Target = nameof(HandWrittenLoop))]
    public void SetUpHandWrittenLoop() => _bench = Bench.NullHand(Depth);

    [GlobalSetup(Target = nameof(DriverOnly))]
    public void SetUpDriverOnly() => _bench = Bench.DriverOnly(Depth, TestFile.Sectors);

    [GlobalCleanup]
    public void CleanUp()
    {
        _bench.RequireRightAnswers();
        _bench.Dispose();
    }

    [Benchmark(Description = "pipeline", OperationsPerInvoke = RequestsPerInvoke)]
    public void Pipeline() => _bench.Run(RequestsPerInvoke);

    [Benchmark(Description = "hand-written loop", Baseline = true, OperationsPerInvoke = RequestsPerInvoke)]
    public void HandWrittenLoop() => _bench.Run(RequestsPerInvoke);

    [Benchmark(Description = "driver only", OperationsPerInvoke = RequestsPerInvoke)]
    public void DriverOnly() => _bench.Run(RequestsPerInvoke);
}
