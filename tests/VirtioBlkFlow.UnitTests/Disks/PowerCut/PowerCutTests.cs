using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Composite;
using VirtioBlkFlow.Disks.Presented;
using VirtioBlkFlow.Disks.Wrapping;
using VirtioBlkFlow.Disks.Zoned;
using VirtioBlkFlow.UnitTests.Device;
using VirtioBlkFlow.UnitTests.Virtio;
using Xunit;
using Xunit.Abstractions;

namespace VirtioBlkFlow.UnitTests.Disks.PowerCut;

/// <summary>What was acknowledged as durable is there after the power was cut, at any moment, whatever the storage made of the rest.</summary>
public sealed class PowerCutTests(ITestOutputHelper output) : IDisposable
{
    private const int ImageBytes = 128 << 10;

    // What a canary gets: with the fewest promises it is found within some dozen lives.
    private const int CanaryLives = 2000;

    private static readonly int s_lives = CutCount.Take(150);

    private readonly TemporaryImage _image = new(ImageBytes);
    private readonly TemporaryImage _other = new(ImageBytes);

    public enum Stack
    {
        File,
        DirectFile,
        Range,
        Presented,
        Composite,
        Throttled,
        Faulty,
        Retried,
        Conventional,
        All,
    }

    public static TheoryData<Stack> Stacks => [.. Enum.GetValues<Stack>()];

    public void Dispose()
    {
        File.Delete(ZoneFile.PathFor(_image.Path));
        _image.Dispose();
        _other.Dispose();
    }

    [Theory]
    [MemberData(nameof(Stacks))]
    public void What_was_acknowledged_as_durable_is_there_after_any_cut(Stack stack)
    {
        using var run = new PowerCutRun(() => Open(stack), TestSeed.Take(output), areaBytes: stack == Stack.Conventional ? ImageBytes / 2 : null);
        string? loss = run.Live(s_lives);
        Assert.True(loss == null, loss);
        // The cuts had something to take, and the disk something to keep.
        Assert.InRange(run.VolatileSectors, s_lives, int.MaxValue);
        Assert.InRange(run.Promises, s_lives, int.MaxValue);
    }

    [Theory]
    [InlineData(Stack.File, Sabotage.NoFlush)]
    [InlineData(Stack.File, Sabotage.NoDurableFlag)]
    [InlineData(Stack.File, Sabotage.FlushAnsweredEarly)]
    [InlineData(Stack.File, Sabotage.DurableWriteAnsweredEarly)]
    [InlineData(Stack.DirectFile, Sabotage.NoDurableFlag)]
    [InlineData(Stack.Range, Sabotage.NoFlush)]
    [InlineData(Stack.Composite, Sabotage.NoFlush)]
    [InlineData(Stack.Composite, Sabotage.OneFileFlushed)]
    [InlineData(Stack.File, Sabotage.FailedFlushRepeated)]
    [InlineData(Stack.All, Sabotage.NoDurableFlag)]
    [InlineData(Stack.All, Sabotage.OneFileFlushed)]
    public void A_disk_that_makes_less_durable_than_it_says_is_found(Stack stack, Sabotage sabotage)
    {
        using var run = new PowerCutRun(() => Open(stack), seed: 7, sabotage);
        string? loss = run.Live(CanaryLives);
        Assert.NotNull(loss);
        output.WriteLine(loss);
    }

    private IDisk Open(Stack stack) => stack switch
    {
        Stack.File => _image.Open(),
        Stack.DirectFile => _image.Open(direct: true),
        Stack.Range => RangeDisk.Open(_image.Open(), new RangeDiskOptions(64, 128)),
        Stack.Presented => PresentedDisk.Open(_image.Open(), new BlockSizes(4096, 4096)),
        Stack.Composite => OpenComposite(),
        Stack.Throttled => Throttle(_image.Open()),
        Stack.Faulty => Disturb(_image.Open()),
        Stack.Conventional => ZonedDisk.Open(_image.Open(), new ZoneGeometry { ZoneBytes = ImageBytes / 4, ConventionalZones = 2 }),
        Stack.Retried => ErrorPolicyDisk.Open(Disturb(_image.Open()), new ErrorPolicyOptions(Retries: 3, RetryDelay: TimeSpan.FromMilliseconds(3))),
        _ => Throttle(ErrorPolicyDisk.Open(Disturb(RangeDisk.Open(OpenComposite(), new RangeDiskOptions(96, 288))), new ErrorPolicyOptions(Retries: 2))),
    };

    // The two images in three parts, and a gap.
    private CompositeDisk OpenComposite()
    {
        const ulong Half = ImageBytes / 512 / 2;
        return CompositeDisk.Open(new CompositeDiskOptions(
        [
            new CompositePart(0, RangeDisk.Open(_image.Open(withLock: false), new RangeDiskOptions(0, Half))),
            new CompositePart(Half, _other.Open()),
            new CompositePart((3 * Half) + 32, RangeDisk.Open(_image.Open(withLock: false), new RangeDiskOptions(Half, Half))),
        ]));
    }

    private static ThrottleDisk Throttle(IDisk disk) =>
        new(disk, new ThrottleGroup(new ThrottleLimits { Iops = 2000, BurstRequests = 4 }));

    private static FaultDisk Disturb(IDisk disk) => FaultDisk.Open(disk, new FaultDiskOptions(
        5,
        [
            new FaultRule { Rate = 0.05, Outcome = DiskOutcome.Failed, Operations = [DiskOperation.Write, DiskOperation.Discard, DiskOperation.WriteZeroes] },
            new FaultRule { Rate = 0.05, Outcome = DiskOutcome.Failed, Operations = [DiskOperation.Flush] },
            new FaultRule { Rate = 0.2, Delay = DelayDistribution.Uniform(TimeSpan.Zero, TimeSpan.FromMilliseconds(5)), Operations = [DiskOperation.Write, DiskOperation.Flush] },
        ]));
}
