using System.Globalization;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Rbd;
using VirtioBlkFlow.UnitTests.Disks.Contract;
using Xunit.Abstractions;

namespace VirtioBlkFlow.EndToEndTests.Ceph;

/// <summary>What every disk does, done by an image of a real cluster.</summary>
[Collection(CephCollection.Name)]
public sealed class RbdDiskContract(ITestOutputHelper output, CephCluster cluster) : DiskContract(output)
{
    private string _image = "";

    protected override IDisk OpenDisk()
    {
        _image = cluster.CreateImageAsync(SizeBytes >> 20).GetAwaiter().GetResult();
        return RbdDisk.Open(cluster.OptionsOf(_image));
    }

    // Asked of the disk itself, which has the lock.
    protected override bool TryResize(long sizeBytes)
    {
        cluster.RbdAsync(
            "resize", _image, "--size", string.Create(CultureInfo.InvariantCulture, $"{sizeBytes >> 20}M"), "--allow-shrink").GetAwaiter().GetResult();
        return true;
    }
}
