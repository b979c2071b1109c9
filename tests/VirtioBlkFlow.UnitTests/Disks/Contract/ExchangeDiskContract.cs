using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Exchange;
using VirtioBlkFlow.Disks.Streaming;
using VirtioBlkFlow.Disks.Wrapping;
using VirtioBlkFlow.UnitTests.Disks.Exchange;
using Xunit.Abstractions;

namespace VirtioBlkFlow.UnitTests.Disks.Contract;

/// <summary>The output area of an exchange, which is all that its guest may change.</summary>
public sealed class ExchangeDiskContract(ITestOutputHelper output) : DiskContract(output), IDisposable
{
    private readonly ExchangeFolder _folder = new([1, 2, 3]);

    public void Dispose() => _folder.Dispose();

    protected override IDisk OpenDisk() =>
        RangeDisk.Open(ExchangeDisk.Open(_folder.Options with { OutputBytes = SizeBytes }), new RangeDiskOptions(8, SizeBytes / 512));
}

/// <summary>The ring that the guest of a stream fills.</summary>
public sealed class SectorRingDiskContract(ITestOutputHelper output) : DiskContract(output)
{
    protected override IDisk OpenDisk() =>
        RangeDisk.Open(SectorRingDisk.Open(new SectorRingOptions(new SectorRingLayout(4096, SizeBytes))), new RangeDiskOptions(40, SizeBytes / 512));
}
