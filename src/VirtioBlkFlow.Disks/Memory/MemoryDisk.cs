using VirtioBlkFlow.Disks.Engine;

namespace VirtioBlkFlow.Disks.Memory;

/// <summary>
/// A disk in the host's memory; what it holds is gone with it, or with the shared memory object it is made on. Shared by all queues.
/// </summary>
public sealed class MemoryDisk : IDisk
{
    private readonly MemoryStore _store;

    private MemoryDisk(MemoryStore store, ulong sizeBytes)
    {
        _store = store;
        Properties = new DiskProperties { CapacityBytes = sizeBytes, CanDiscard = true, CanWriteZeroes = true };
    }

    /// <inheritdoc/>
    public DiskProperties Properties { get; }

    /// <summary>Makes a disk in memory.</summary>
    /// <exception cref="DiskOpenException">The memory cannot be had; the message names cause and remedy.</exception>
    public static MemoryDisk Open(MemoryDiskOptions options)
    {
        SizeRule.Require(options.SizeBytes, "memory disk");
        if (options is { SharedName: null, Descriptor: null })
        {
            return new MemoryDisk(PrivateMemory.Map(options.SizeBytes, options.HugePages), options.SizeBytes);
        }

        if (options.HugePages != HugePages.None)
        {
            throw new DiskOpenException("Shared memory has no huge pages of its own. Leave them out, or mount /dev/shm with huge=always.");
        }

        if (options is { SharedName: not null, Descriptor: not null })
        {
            throw new DiskOpenException("Shared memory has a name or a descriptor, not both. Leave one of them out.");
        }

        SharedMemory shared = options.Descriptor is { } descriptor
            ? SharedMemory.FromDescriptor(options.SizeBytes, descriptor)
            : SharedMemory.Open(options.SizeBytes, options.SharedName!, options.KeepShared);
        return new MemoryDisk(shared, options.SizeBytes);
    }

    /// <inheritdoc/>
    public IDiskQueue OpenQueue(IIoEngine engine, IDiskCompletions completions, int slotCount) =>
        new MemoryDiskQueue(_store, completions, Properties.CapacityBytes);

    /// <inheritdoc/>
    public DiskOutcome Flush() => DiskOutcome.Done;

    /// <inheritdoc/>
    public void Dispose() => _store.Dispose();
}
