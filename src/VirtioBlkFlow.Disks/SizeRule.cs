namespace VirtioBlkFlow.Disks;

/// <summary>Which sizes a disk can have that is made rather than found.</summary>
internal static class SizeRule
{
    private const uint SectorBytes = 512;

    /// <exception cref="DiskOpenException">It is not one of them.</exception>
    public static void Require(ulong sizeBytes, string what)
    {
        if (sizeBytes == 0)
        {
            throw new DiskOpenException($"The size of a {what} must not be 0. Give it one, for example 64M.");
        }

        // File offsets are signed in Linux, and so is all that counts bytes of a disk.
        if (sizeBytes > long.MaxValue - SectorBytes)
        {
            throw new DiskOpenException($"The size of a {what}, {sizeBytes} bytes, is more than a disk can have. Give it less than 8E.");
        }

        if (sizeBytes % SectorBytes != 0)
        {
            throw new DiskOpenException(
                $"The size of a {what}, {sizeBytes} bytes, is not a multiple of {SectorBytes}. Give it {(sizeBytes / SectorBytes * SectorBytes) + SectorBytes} bytes.");
        }
    }
}
