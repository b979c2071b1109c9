using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.File;
using VirtioBlkFlow.UnitTests.Disks.Contract;
using Xunit.Abstractions;

namespace VirtioBlkFlow.UnitTests.Disks.Devices;

/// <summary>A block device with sectors of 512 bytes, through the page cache.</summary>
public sealed class LoopContract(ITestOutputHelper output) : DiskContract(output), IDisposable
{
    private readonly LoopDevice _loop = new(SizeBytes, 512);

    public void Dispose() => _loop.Dispose();

    protected override IDisk OpenDisk() => FileDisk.Open(new FileDiskOptions(_loop.Path));

    protected override bool TryResize(long sizeBytes)
    {
        _loop.Resize(sizeBytes);
        return true;
    }
}

/// <summary>One with sectors of 4096 bytes, without the page cache.</summary>
public sealed class DirectLoopContract(ITestOutputHelper output) : DiskContract(output), IDisposable
{
    private readonly LoopDevice _loop = new(SizeBytes, 4096, direct: true);

    public void Dispose() => _loop.Dispose();

    protected override IDisk OpenDisk() => FileDisk.Open(new FileDiskOptions(_loop.Path, Direct: true));

    protected override bool TryResize(long sizeBytes)
    {
        _loop.Resize(sizeBytes);
        return true;
    }
}

/// <summary>A block device that is no file in the end.</summary>
public sealed class ZramContract(ITestOutputHelper output) : DiskContract(output), IDisposable
{
    private readonly ZramDevice _zram = new(SizeBytes);

    public void Dispose() => _zram.Dispose();

    protected override IDisk OpenDisk() => FileDisk.Open(new FileDiskOptions(_zram.Path, Direct: true));
}
