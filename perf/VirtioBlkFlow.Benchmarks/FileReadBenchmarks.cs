using BenchmarkDotNet.Attributes;
using VirtioBlkFlow.Benchmarks.Servers;

namespace VirtioBlkFlow.Benchmarks;

/// <summary>
/// The pipeline and the hand-written loop with real reads: 4 KiB each at random places of a file in the page cache, by io_uring. Figures
/// are per request, the driver's work included.
/// </summary>
[MemoryDiagnoser]
public class FileReadBenchmarks
{
    private const int RequestsPerInvoke = 4096;

    private TestFile _file = null!;
    private Bench _bench = null!;

    [Params(1, 8, 32, 128)]
    public int Depth { get; set; }

    [GlobalSetup(Target = nameof(Pipeline))]
    public void SetUpPipeline()
    {
        _file = TestFile.Create();
        _bench = Bench.FilePipeline(Depth, _file);
    }

    [GlobalSetup(Target = nameof(HandWrittenLoop))]
    public void SetUpHandWrittenLoop()
    {
        _file = TestFile.Create();
        _bench = Bench.FileHand(Depth, _file);
    }

    [GlobalCleanup]
    public void CleanUp()
    {
        _bench.RequireRightAnswers();
        _bench.Dispose();
        _file.Dispose();
    }

    [Benchmark(Description = "pipeline", OperationsPerInvoke = RequestsPerInvoke)]
    public void Pipeline() => _bench.Run(RequestsPerInvoke);

    [Benchmark(Description = "hand-written loop", Baseline = true, OperationsPerInvoke = RequestsPerInvoke)]
    public void HandWrittenLoop() => _bench.Run(RequestsPerInvoke);
}
