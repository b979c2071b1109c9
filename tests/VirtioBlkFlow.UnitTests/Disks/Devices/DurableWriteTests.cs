using System.Globalization;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.File;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Disks.Devices;

/// <summary>That what is asked to be durable reaches the device as such: what the engines make of it, seen from below.</summary>
public sealed class DurableWriteTests : IDisposable
{
    // Documentation/block/stat.rst of the kernel: flush requests completed, the 16th number.
    private const int FlushesField = 15;

    private readonly LoopDevice _loop = new(1 << 20, 512);

    public void Dispose() => _loop.Dispose();

    [Theory]
    [InlineData(IoEngineKind.IoUring, 1)]
    [InlineData(IoEngineKind.IoUring, 3)]
    [InlineData(IoEngineKind.Threads, 1)]
    [InlineData(IoEngineKind.Threads, 3)]
    public void A_durable_write_flushes_the_device(IoEngineKind engine, int pieces)
    {
        using FileDisk disk = FileDisk.Open(new FileDiskOptions(_loop.Path));
        using var bench = new DiskBench(disk, engine);
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Write, 0, 0, pieces, 4096, durable: false));
        long before = Flushes;
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Write, 16384, 0, pieces, 4096, durable: true));
        Assert.True(Flushes > before, "A durable write has flushed the device.");
    }

    private long Flushes
    {
        get
        {
            string[] numbers = File.ReadAllText($"/sys/block/{Path.GetFileName(_loop.Path)}/stat").Split(' ', StringSplitOptions.RemoveEmptyEntries);
            return long.Parse(numbers[FlushesField], CultureInfo.InvariantCulture);
        }
    }
}
