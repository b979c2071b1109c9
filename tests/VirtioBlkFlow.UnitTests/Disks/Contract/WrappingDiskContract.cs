using Mono.Unix.Native;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.Health;
using VirtioBlkFlow.Disks.Memory;
using VirtioBlkFlow.Disks.Null;
using VirtioBlkFlow.Disks.Presented;
using VirtioBlkFlow.Disks.Refresh;
using VirtioBlkFlow.Disks.Wrapping;
using VirtioBlkFlow.UnitTests.Device;
using VirtioBlkFlow.UnitTests.Disks.Health;
using Xunit;
using Xunit.Abstractions;

namespace VirtioBlkFlow.UnitTests.Disks.Contract;

/// <summary>The end of a file, from somewhere on.</summary>
public sealed class FileRangeContract(ITestOutputHelper output) : DiskContract(output), IDisposable
{
    private const int StartBytes = 1 << 20;
    private readonly TemporaryImage _image = new(StartBytes + SizeBytes);

    public void Dispose()
    {
        // What was before the range is still there.
        byte[] before = _image.Read(0, StartBytes);
        _image.Dispose();
        Assert.Equal(-1, before.AsSpan().IndexOfAnyExcept((byte)0));
    }

    protected override IDisk OpenDisk() => RangeDisk.Open(_image.Open(), new RangeDiskOptions(StartBytes / 512));

    protected override bool TryResize(long sizeBytes) => Syscall.truncate(_image.Path, StartBytes + sizeBytes) == 0;
}

/// <summary>The middle of memory.</summary>
public sealed class MemoryRangeContract(ITestOutputHelper output) : DiskContract(output)
{
    protected override IDisk OpenDisk() =>
        RangeDisk.Open(MemoryDisk.Open(new MemoryDiskOptions(3 * SizeBytes)), new RangeDiskOptions(SizeBytes / 512, SizeBytes / 512));
}

/// <summary>A file shown with other blocks than it has.</summary>
public sealed class PresentedFileContract(ITestOutputHelper output) : DiskContract(output), IDisposable
{
    private readonly TemporaryImage _image = new(SizeBytes);

    public void Dispose() => _image.Dispose();

    protected override IDisk OpenDisk() => PresentedDisk.Open(_image.Open(), new BlockSizes(4096, 8192));

    protected override bool TryResize(long sizeBytes) => Syscall.truncate(_image.Path, sizeBytes) == 0;
}

/// <summary>A file whose requests wait for one another.</summary>
public sealed class ThrottledFileContract(ITestOutputHelper output) : DiskContract(output), IDisposable
{
    private readonly TemporaryImage _image = new(SizeBytes);

    public void Dispose() => _image.Dispose();

    protected override IDisk OpenDisk() => new ThrottleDisk(
        _image.Open(), new ThrottleGroup(new ThrottleLimits { Iops = 20_000, BurstRequests = 4, BytesPerSecond = 1 << 30, BurstBytes = 4096 }));

    protected override bool TryResize(long sizeBytes) => Syscall.truncate(_image.Path, sizeBytes) == 0;
}

/// <summary>Memory that takes its time now and then.</summary>
public sealed class DelayedMemoryContract(ITestOutputHelper output) : DiskContract(output)
{
    protected override IDisk OpenDisk() => FaultDisk.Open(
        MemoryDisk.Open(new MemoryDiskOptions(SizeBytes)),
        new FaultDiskOptions(1, [new FaultRule { Rate = 0.3, Delay = DelayDistribution.Exponential(TimeSpan.FromMicroseconds(100)) }]));
}

/// <summary>Memory that fails every third request, which an error policy hides.</summary>
public sealed class RetriedMemoryContract(ITestOutputHelper output) : DiskContract(output)
{
    protected override IDisk OpenDisk()
    {
        var rule = new FaultRule
        {
            Operations = [DiskOperation.Read, DiskOperation.Write, DiskOperation.Discard, DiskOperation.WriteZeroes],
            Rate = 0.33,
            Outcome = DiskOutcome.Failed,
        };
        // A hundred failures in a row do not happen.
        return ErrorPolicyDisk.Open(
            FaultDisk.Open(MemoryDisk.Open(new MemoryDiskOptions(SizeBytes)), new FaultDiskOptions(1, [rule])), new ErrorPolicyOptions(Retries: 100));
    }
}

/// <summary>A file whose lists are used up by short transfers and bounce buffers below an error policy.</summary>
public sealed class RetriedDirectFileContract(ITestOutputHelper output) : DiskContract(output), IDisposable
{
    private readonly TemporaryImage _image = new(SizeBytes);

    public void Dispose() => _image.Dispose();

    protected override IDisk OpenDisk() => ErrorPolicyDisk.Open(_image.Open(direct: true), new ErrorPolicyOptions(Retries: 3, RetryDelay: TimeSpan.FromMicroseconds(50)));

    protected override bool TryResize(long sizeBytes) => Syscall.truncate(_image.Path, sizeBytes) == 0;
}

/// <summary>All of it, one in front of the other.</summary>
public sealed class StackedContract(ITestOutputHelper output) : DiskContract(output)
{
    protected override IDisk OpenDisk() => new ThrottleDisk(
        ErrorPolicyDisk.Open(
            FaultDisk.Open(
                RangeDisk.Open(MemoryDisk.Open(new MemoryDiskOptions(2 * SizeBytes)), new RangeDiskOptions(9, SizeBytes / 512)),
                new FaultDiskOptions(1, [new FaultRule { Operations = [DiskOperation.Write], Rate = 0.1, Outcome = DiskOutcome.NoSpace }])),
            new ErrorPolicyOptions(Retries: 50)),
        new ThrottleGroup(new ThrottleLimits { Iops = 100_000 }));
}

/// <summary>A disk that keeps nothing and takes its time.</summary>
public sealed class DelayedNullContract(ITestOutputHelper output) : DiskContract(output)
{
    protected override bool KeepsData => false;

    protected override IDisk OpenDisk() =>
        NullDisk.Open(new NullDiskOptions(SizeBytes, Delay: DelayDistribution.Uniform(TimeSpan.Zero, TimeSpan.FromMicroseconds(50))));
}

/// <summary>A file that is rewritten from beginning to end, again and again, while it is used.</summary>
public sealed class RewrittenFileContract(ITestOutputHelper output) : DiskContract(output), IDisposable
{
    private readonly TemporaryImage _image = new(SizeBytes);

    public void Dispose() => _image.Dispose();

    protected override IDisk OpenDisk()
    {
        var disk = new RefreshDisk(_image.Open(), new RefreshOptions(ulong.MaxValue, IoEngineKind.Threads) { Quiet = TimeSpan.Zero, Repeats = true });
        disk.Start(rewrite: true);
        return disk;
    }
}

/// <summary>Memory that is read all the time, under a policy that finds nothing wrong.</summary>
public sealed class WatchedMemoryContract(ITestOutputHelper output) : DiskContract(output)
{
    protected override IDisk OpenDisk()
    {
        var refreshed = new RefreshDisk(
            MemoryDisk.Open(new MemoryDiskOptions(SizeBytes)), new RefreshOptions(ulong.MaxValue, IoEngineKind.IoUring) { Quiet = TimeSpan.Zero, Repeats = true });
        refreshed.Start(rewrite: false);
        return HealthDisk.Open(
            refreshed,
            new HealthMonitor(new RecordedHealth(), TimeSpan.FromMilliseconds(1)),
            new HealthPolicy(new HealthPolicyOptions([], [new HealthLimit(HealthQuantity.Temperature, 85)])));
    }
}
