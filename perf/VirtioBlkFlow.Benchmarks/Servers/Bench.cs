using VirtioBlkFlow.Device.Latency;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.Benchmarks.Servers;

/// <summary>A driver with the device that serves it, or without one. Made, validated and run on one thread.</summary>
internal sealed class Bench : IDisposable
{
    private readonly FixedChainsDriver _driver;
    private readonly BlkServer? _server;
    private readonly List<IDisposable> _owned = [];

    private Bench(FixedChainsDriver driver, BlkServer? server, params ReadOnlySpan<IDisposable> owned)
    {
        _driver = driver;
        _server = server;
        _owned.AddRange(owned);
    }

    public static Bench DriverOnly(int depth, ulong[] sectors)
    {
        var driver = new FixedChainsDriver(depth, sectors);
        driver.FillUsedRing(driver.Addresses);
        return new Bench(driver, null);
    }

    public static Bench NullPipeline(int depth)
    {
        var driver = new FixedChainsDriver(depth, TestFile.Sectors);
        var disk = new NullDisk<ForPipeline>();
        return Validated(new Bench(driver, new PipelineServer(driver, disk, new NullEngine(), LimitsOf(disk))), null);
    }

    /// <summary>The pipeline, with another way to measure where time goes.</summary>
    public static Bench NullPipeline(int depth, StageLatency latency)
    {
        var driver = new FixedChainsDriver(depth, TestFile.Sectors);
        var disk = new NullDisk<ForOtherPipeline>();
        return Validated(new Bench(driver, new PipelineServer(driver, disk, new NullEngine(), LimitsOf(disk), latency)), null);
    }

    public static Bench NullHand(int depth)
    {
        var driver = new FixedChainsDriver(depth, TestFile.Sectors);
        var disk = new NullDisk<ForHand>();
        return Validated(new Bench(driver, new HandWrittenServer(driver, disk, new NullEngine(), LimitsOf(disk))), null);
    }

    public static Bench FilePipeline(int depth, TestFile file) =>
        OnFile(depth, file, (driver, disk, engine) => new PipelineServer(driver, disk, engine, LimitsOf(disk)));

    /// <summary>The pipeline, with another way to measure where time goes.</summary>
    public static Bench FilePipeline(int depth, TestFile file, StageLatency latency) =>
        OnFile(depth, file, (driver, disk, engine) => new PipelineServer(driver, disk, engine, LimitsOf(disk), latency));

    public static Bench FileHand(int depth, TestFile file) =>
        OnFile(depth, file, (driver, disk, engine) => new HandWrittenServer(driver, disk, engine, LimitsOf(disk)));

    /// <summary>Runs rounds until so many requests were served; a multiple of the depth.</summary>
    public void Run(int requestCount)
    {
        BlkServer? server = _server;
        for (int left = requestCount; left > 0; left -= _driver.Depth)
        {
            if (server == null)
            {
                _driver.RoundWithoutDevice();
            }
            else
            {
                _driver.Round(server);
            }
        }
    }

    /// <summary>Throws if one of the requests since the start was answered wrongly.</summary>
    public void RequireRightAnswers() => _driver.RequireRightAnswers();

    public void Dispose()
    {
        _server?.Dispose();
        _owned.ForEach(owned => owned.Dispose());
        _driver.Dispose();
    }

    internal static BlkLimits LimitsOf(IDisk disk) =>
        new(disk.Properties.CapacityBytes / BlkRequest.SectorBytes, disk.Properties.LogicalBlockBytes, disk.Properties.ReadOnly);

    private static Bench OnFile(int depth, TestFile file, Func<FixedChainsDriver, IDisk, IIoEngine, BlkServer> serve)
    {
        var driver = new FixedChainsDriver(depth, TestFile.Sectors);
        IDisk disk = file.Open();
        IIoEngine engine = IoEngines.Create(IoEngineKind.IoUring, FixedChainsDriver.QueueSize);
        return Validated(new Bench(driver, serve(driver, disk, engine), engine, disk), TestFile.IsRight);
    }

    private static Bench Validated(Bench bench, DataCheck? isRight)
    {
        bench._driver.Validate(bench._server!, isRight);
        return bench;
    }
}
