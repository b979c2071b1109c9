using Mono.Unix.Native;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Zoned;
using VirtioBlkFlow.UnitTests.Device;
using Xunit.Abstractions;

namespace VirtioBlkFlow.UnitTests.Disks.Contract;

/// <summary>A file through the page cache.</summary>
public class BufferedFileContract(ITestOutputHelper output) : DiskContract(output), IDisposable
{
    private readonly TemporaryImage _image = new(SizeBytes);

    public void Dispose()
    {
        File.Delete(ZoneFile.PathFor(_image.Path));
        _image.Dispose();
        GC.SuppressFinalize(this);
    }

    private protected TemporaryImage Image => _image;

    protected override IDisk OpenDisk() => _image.Open();

    protected override bool TryResize(long sizeBytes) => Syscall.truncate(_image.Path, sizeBytes) == 0;
}

/// <summary>A file through the page cache, whose queues write into it themselves.</summary>
public sealed class InlineWritesContract(ITestOutputHelper output) : BufferedFileContract(output)
{
    protected override IDisk OpenDisk() => Image.Open(inlineWrites: true);
}

/// <summary>A file without the page cache, with bounce buffers for memory that is not aligned.</summary>
public sealed class DirectFileContract(ITestOutputHelper output) : BufferedFileContract(output)
{
    protected override IDisk OpenDisk() => Image.Open(direct: true);
}

/// <summary>The conventional zones of a zoned disk, which are written like any disk.</summary>
public sealed class ZonedDiskContract(ITestOutputHelper output) : BufferedFileContract(output)
{
    protected override int AreaBytes => 3 << 20;

    protected override IDisk OpenDisk() => ZonedDisk.Open(Image.Open(), new ZoneGeometry { ZoneBytes = 1 << 20, ConventionalZones = 3 });

    // The size of a zoned disk is in its zone file.
    protected override bool TryResize(long sizeBytes) => false;
}
