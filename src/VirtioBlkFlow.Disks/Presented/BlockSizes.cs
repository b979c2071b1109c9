namespace VirtioBlkFlow.Disks.Presented;

/// <summary>Sizes of blocks that a disk is shown with.</summary>
/// <param name="LogicalBytes">Size of a logical block.</param>
/// <param name="PhysicalBytes">Size of a physical block, not smaller.</param>
public sealed record BlockSizes(uint LogicalBytes, uint PhysicalBytes)
{
    /// <summary>Largest block in bytes. Arbitrary; Linux takes no logical block that is larger than a page, which has up to 64 KiB.</summary>
    public const uint MaxBytes = 64 << 10;

    /// <summary>Whether a size in bytes can be that of a block.</summary>
    public static bool IsBlockSize(ulong bytes) => bytes is >= 512 and <= MaxBytes && ulong.IsPow2(bytes);
}
