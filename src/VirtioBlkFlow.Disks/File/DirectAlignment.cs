using static VirtioBlkFlow.Disks.LibC;

namespace VirtioBlkFlow.Disks.File;

/// <summary>What O_DIRECT asks of an image's transfers, in bytes; powers of two.</summary>
/// <param name="MemoryBytes">Alignment of buffers.</param>
/// <param name="OffsetBytes">Alignment of offsets and lengths.</param>
internal readonly record struct DirectAlignment(uint MemoryBytes, uint OffsetBytes)
{
    /// <summary>What suits every disk made in the last decades.</summary>
    private const uint SafeBytes = 4096;

    // struct statx of <linux/stat.h>: offsets of stx_mask, stx_dio_mem_align and stx_dio_offset_align in its 256 bytes.
    private const int StatxBytes = 256;
    private const int MemoryAlignOffset = 0x98;
    private const int OffsetAlignOffset = 0x9c;

    /// <summary>Asks the kernel (statx(2), STATX_DIOALIGN, Linux 6.1). One that does not know gets the safe answer.</summary>
    /// <exception cref="DiskOpenException">The file system has no direct I/O.</exception>
    public static unsafe DirectAlignment Of(SafeFileHandle file, string path)
    {
        byte* buffer = stackalloc byte[StatxBytes];
        byte empty = 0;
        bool known = statx((int)file.DangerousGetHandle(), &empty, AT_EMPTY_PATH, STATX_DIOALIGN, buffer) == 0
            && (*(uint*)buffer & STATX_DIOALIGN) != 0;
        if (!known)
        {
            return new DirectAlignment(SafeBytes, SafeBytes);
        }

        uint memory = *(uint*)(buffer + MemoryAlignOffset);
        uint offset = *(uint*)(buffer + OffsetAlignOffset);
        if (offset == 0)
        {
            throw new DiskOpenException($"'{path}' lies on a file system without direct I/O. Leave out --direct, or move the image.");
        }

        // Memory may be less aligned than offsets by what the kernel says, but zram takes each piece of a request for a whole page of its own,
        // and stores others wrongly. What open(2), "O_DIRECT", always asked for suits all.
        offset = Math.Max(offset, 512);
        return new DirectAlignment(Math.Max(memory, offset), offset);
    }
}
