using System.Diagnostics;
using VirtioBlkFlow.Device.Latency;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Virtio.Blk;
using VirtioBlkFlow.Virtio.Ring;

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

    /// <summary>The device; null if there is none.</summary>
    public BlkServer? Server => _server;

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
        var disk = new NullDisk<ForHand>();
        return Of(depth, disk, new NullEngine(), null, (virtqueue, engine) => new HandWrittenServer(virtqueue, disk, engine, LimitsOf(disk)));
    }

    public static Bench FilePipeline(int depth, TestFile file) =>
        OnFile(depth, file, (driver, disk, engine) => new PipelineServer(driver, disk, engine, LimitsOf(disk)));

    /// <summary>The pipeline, with another way to measure where time goes.</summary>
    public static Bench FilePipeline(int depth, TestFile file, StageLatency latency) =>
        OnFile(depth, file, (driver, disk, engine) => new PipelineServer(driver, disk, engine, LimitsOf(disk), latency));

    public static Bench FileHand(int depth, TestFile file)
    {
        IDisk disk = file.Open();
        return Of(depth, disk, MakeUring(), TestFile.IsRight, (virtqueue, engine) => new HandWrittenServer(virtqueue, disk, engine, LimitsOf(disk)));
    }

    /// <summary>Any server of a ring.</summary>
    /// <param name="depth">Requests of a round.</param>
    /// <param name="disk">Becomes the bench's.</param>
    /// <param name="engine">Becomes the bench's.</param>
    /// <param name="isRight">Whether data belongs to a sector; null for a disk that writes none.</param>
    /// <param name="serve">Makes the server.</param>
    public static Bench Of(int depth, IDisk disk, IIoEngine engine, DataCheck? isRight, Func<Virtqueue, IIoEngine, BlkServer> serve)
    {
        var driver = new FixedChainsDriver(depth, TestFile.Sectors);
        return Validated(new Bench(driver, serve(Virtqueue.Create(driver.Setup), engine), engine, disk), isRight);
    }

    /// <summary>The engine of benches with a file.</summary>
    public static IIoEngine MakeUring() => IoEngines.Create(IoEngineKind.IoUring, FixedChainsDriver.QueueSize);

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

    /// <summary>
    /// Runs rounds and times each, from before its requests are made available until the last of them was taken back. While there is nothing
    /// to take the ring is looked at again, as a front-end that polls does. One reading of the clock (tens of ns) is in each.
    /// </summary>
    /// <param name="ticks">Where the times go, in ticks of <see cref="Stopwatch"/>; as many rounds at most.</param>
    /// <param name="longest">After so long no further round begins.</param>
    /// <returns>How many rounds there were, at least one.</returns>
    public int TimeRounds(Span<long> ticks, TimeSpan longest)
    {
        long start = Stopwatch.GetTimestamp();
        long last = start + (long)(longest.TotalSeconds * Stopwatch.Frequency);
        int count = 0;
        do
        {
            _driver.MakeAvailable();
            int left = _driver.Depth;
            while (true)
            {
                _server!.Turn();
                left -= _driver.TakeUsed();
                if (left == 0)
                {
                    break;
                }

                Thread.SpinWait(4);
            }

            long end = Stopwatch.GetTimestamp();
            ticks[count++] = end - start;
            start = end;
        }
        while (count < ticks.Length && start < last);
        return count;
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
        IIoEngine engine = MakeUring();
        return Validated(new Bench(driver, serve(driver, disk, engine), engine, disk), TestFile.IsRight);
    }

    private static Bench Validated(Bench bench, DataCheck? isRight)
    {
        bench._driver.Validate(bench._server!, isRight);
        return bench;
    }
}
