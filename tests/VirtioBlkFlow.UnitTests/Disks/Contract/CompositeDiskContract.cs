using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Composite;
using VirtioBlkFlow.Disks.Memory;
using VirtioBlkFlow.Disks.Wrapping;
using VirtioBlkFlow.UnitTests.Device;
using Xunit.Abstractions;

namespace VirtioBlkFlow.UnitTests.Disks.Contract;

/// <summary>Files, memory and ranges of both, one behind the other without gaps; one of them in very small parts.</summary>
public sealed class CompositeDiskContract(ITestOutputHelper output) : DiskContract(output), IDisposable
{
    private readonly TemporaryImage _image = new(1 << 20);

    public void Dispose() => _image.Dispose();

    protected override IDisk OpenDisk()
    {
        var parts = new List<CompositePart>
        {
            new(3 << 11, MemoryDisk.Open(new MemoryDiskOptions(1 << 20))),
            new(0, _image.Open()),
            new(2 << 11, RangeDisk.Open(MemoryDisk.Open(new MemoryDiskOptions(3 << 20)), new RangeDiskOptions(5, 1 << 11))),
        };
        for (ulong i = 0; i < 256; i++)
        {
            parts.Add(new CompositePart((1 << 11) + (i * 8), MemoryDisk.Open(new MemoryDiskOptions(4096))));
        }

        return CompositeDisk.Open(new CompositeDiskOptions(parts));
    }
}
