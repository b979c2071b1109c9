using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Memory;
using VirtioBlkFlow.Disks.Null;
using VirtioBlkFlow.UnitTests.Disks.Memory;
using Xunit.Abstractions;

namespace VirtioBlkFlow.UnitTests.Disks.Contract;

/// <summary>Memory of the process.</summary>
public sealed class PrivateMemoryContract(ITestOutputHelper output) : DiskContract(output)
{
    protected override IDisk OpenDisk() => MemoryDisk.Open(new MemoryDiskOptions(SizeBytes));
}

/// <summary>Memory that other processes can map.</summary>
public sealed class SharedMemoryContract(ITestOutputHelper output) : DiskContract(output)
{
    protected override IDisk OpenDisk() => MemoryDisk.Open(new MemoryDiskOptions(SizeBytes, $"virtioblkflow-test-{Guid.NewGuid():n}"));
}

/// <summary>Memory that another program has handed over.</summary>
public sealed class HandedMemoryContract(ITestOutputHelper output) : DiskContract(output)
{
    protected override IDisk OpenDisk()
    {
        // The disk has a descriptor of its own.
        using SafeFileHandle file = MemoryFile.Create(SizeBytes);
        return MemoryDisk.Open(new MemoryDiskOptions(SizeBytes, Descriptor: (int)file.DangerousGetHandle()));
    }
}

/// <summary>A disk that keeps nothing.</summary>
public sealed class NullDiskContract(ITestOutputHelper output) : DiskContract(output)
{
    protected override bool KeepsData => false;

    protected override IDisk OpenDisk() => NullDisk.Open(new NullDiskOptions(SizeBytes));
}
