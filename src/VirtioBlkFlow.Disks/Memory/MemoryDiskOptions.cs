namespace VirtioBlkFlow.Disks.Memory;

/// <summary>Which pages the memory of a disk is made of.</summary>
public enum HugePages
{
    /// <summary>What the kernel gives by itself.</summary>
    None,

    /// <summary>Huge ones where the kernel finds some (madvise(2), MADV_HUGEPAGE).</summary>
    Transparent,

    /// <summary>Pages of 2 MiB from the host's reserve (<c>vm.nr_hugepages</c>); all are set aside when the disk is opened.</summary>
    TwoMegabytes,
}

/// <summary>How to make a disk in memory.</summary>
/// <param name="SizeBytes">Its size; a multiple of 512.</param>
/// <param name="SharedName">
/// Name of a POSIX shared memory object (shm_overview(7)) that other processes can open and map; null for memory of its own. An object that
/// is there is taken with its contents; one that is made here goes with the disk.
/// </param>
/// <param name="KeepShared">The object stays when the disk is closed, whoever made it.</param>
/// <param name="HugePages">Kind of its pages; only for memory of its own.</param>
/// <param name="Descriptor">
/// A descriptor of shared memory (memfd_create(2)), open for reading and writing, of which the disk makes one of its own; null for none. It is
/// taken with its contents.
/// </param>
public sealed record MemoryDiskOptions(
    ulong SizeBytes, string? SharedName = null, bool KeepShared = false, HugePages HugePages = HugePages.None, int? Descriptor = null);
