namespace VirtioBlkFlow.Virtio.Blk;

/// <summary>
/// How worn the storage is: <c>struct virtio_blk_lifetime</c>, 6 bytes (VIRTIO 1.4, "Block Device", "Device Operation"). 0 is undefined;
/// what is reserved is never reported.
/// </summary>
[StructLayout(LayoutKind.Sequential, Pack = 2)]
public struct BlkLifetime
{
    /// <summary>Size of the structure.</summary>
    public const int SizeBytes = 6;

    /// <summary>Largest <see cref="PreEolInfo"/> that is not reserved.</summary>
    public const ushort MaxPreEolInfo = 3;

    /// <summary>Largest estimate that is not reserved: the lifetime is exceeded.</summary>
    public const ushort MaxEstimate = 11;

    /// <summary>Reserved blocks that are used up: 1 normal, 2 up to 80 %, 3 up to 90 %.</summary>
    public ushort PreEolInfo;

    /// <summary>Lifetime used of SLC cells, in steps of 10 %: 1 to 10, 11 exceeded.</summary>
    public ushort EstimateA;

    /// <summary>Lifetime used of MLC cells, likewise.</summary>
    public ushort EstimateB;
}
