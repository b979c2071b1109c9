using System.Diagnostics;
using Microsoft.Win32.SafeHandles;
using Mono.Unix.Native;

namespace VirtioBlkFlow.VhostUser.Memory;

/// <summary>
/// A range of a file, mapped shared and writable. The session's thread maps and unmaps; every thread may use the address in between.
/// </summary>
/// <remarks>
/// The file's length is checked once. Who shortens the file later takes pages away under the mapping, and the next access ends this
/// process with SIGBUS. Seals (F_SEAL_SHRINK) could rule that out for areas, and are not asked for: front-ends may only hope to get
/// sealed files themselves (QEMU falls back to an unlinked one), guest memory comes without seals anyway, and a front-end that wants
/// this process dead has that way then. What <i>we</i> create is sealed.
/// </remarks>
[DebuggerDisplay("{LengthBytes} bytes")]
internal sealed class FileMapping : IDisposable
{
    private readonly ulong _mappingBytes;
    private nint _mapping;

    private FileMapping(nint mapping, ulong mappingBytes, ulong skippedBytes, ulong lengthBytes)
    {
        _mapping = mapping;
        _mappingBytes = mappingBytes;
        Address = mapping + (nint)skippedBytes;
        LengthBytes = lengthBytes;
    }

    /// <summary>Host address of the range's first byte.</summary>
    public nint Address { get; }

    /// <summary>Length of the range.</summary>
    public ulong LengthBytes { get; }

    /// <summary>Maps guest memory: any file that can be mapped, at any offset.</summary>
    /// <param name="file">The file; may be closed afterwards.</param>
    /// <param name="offset">Offset in bytes of the range, at any byte.</param>
    /// <param name="lengthBytes">Its length.</param>
    /// <param name="what">What the range is, for the log.</param>
    /// <exception cref="VhostUserRefusedException">It makes no sense, or the kernel does not map it.</exception>
    public static FileMapping Map(SafeFileHandle file, ulong offset, ulong lengthBytes, string what)
    {
        if (lengthBytes == 0)
        {
            throw new VhostUserRefusedException($"the {what} has no bytes");
        }

        // Halves, so that no sum below overflows.
        if (lengthBytes > long.MaxValue / 2 || offset > long.MaxValue / 2)
        {
            throw new VhostUserRefusedException($"the {what} of 0x{lengthBytes:x} bytes at file offset 0x{offset:x} goes past the end of every file");
        }

        var descriptor = (int)file.DangerousGetHandle();
        RefuseBeyondEndOfFile(descriptor, offset, lengthBytes, what);

        // A mapping begins at a page of the file. What precedes the range within that page is mapped too, and skipped.
        var pageBytes = PageBytesOf(descriptor);
        var skippedBytes = offset % pageBytes;
        var mappingBytes = RoundUp(skippedBytes + lengthBytes, pageBytes);
        var mapping = Syscall.mmap(
            0,
            mappingBytes,
            MmapProts.PROT_READ | MmapProts.PROT_WRITE,
            MmapFlags.MAP_SHARED | MmapFlags.MAP_NORESERVE,
            descriptor,
            (long)(offset - skippedBytes));
        if (mapping == Syscall.MAP_FAILED)
        {
            throw new VhostUserRefusedException(
                $"mmap of the {what} of {lengthBytes} bytes at file offset {offset} fails with {Stdlib.GetLastError()}");
        }

        // What is shared with the guest has no place in our core files. That it fails is no reason not to serve.
        _ = NativeMethods.madvise(mapping, (nuint)mappingBytes, NativeMethods.MADV_DONTDUMP);
        return new FileMapping(mapping, mappingBytes, skippedBytes, lengthBytes);
    }

    /// <summary>Maps an area of fields: a file that knows its size, at an offset that keeps the fields aligned.</summary>
    /// <param name="file">The file; may be closed afterwards.</param>
    /// <param name="offset">Offset in bytes of the area.</param>
    /// <param name="lengthBytes">Its length.</param>
    /// <param name="alignment">What the offset must be a multiple of, in bytes; divides a page.</param>
    /// <param name="what">What the area is, for the log.</param>
    /// <exception cref="VhostUserRefusedException">It makes no sense, or the kernel does not map it.</exception>
    public static FileMapping MapArea(SafeFileHandle file, ulong offset, ulong lengthBytes, uint alignment, string what)
    {
        if (offset % alignment != 0)
        {
            throw new VhostUserRefusedException($"the {what} is at file offset {offset}, which is no multiple of {alignment}");
        }

        if (!IsRegular(StatusOf((int)file.DangerousGetHandle(), what)))
        {
            throw new VhostUserRefusedException($"the {what} is in no regular file");
        }

        return Map(file, offset, lengthBytes, what);
    }

    /// <summary>Unmaps. The owner vouches that nobody uses the address any more.</summary>
    public void Dispose()
    {
        if (_mapping != 0)
        {
            var result = Syscall.munmap(_mapping, _mappingBytes);
            Debug.Assert(result == 0, "munmap of a mapping of ours fails");
            _mapping = 0;
        }
    }

    /// <summary>A page beyond the end of the file could be mapped, but whoever touches it dies of SIGBUS.</summary>
    private static void RefuseBeyondEndOfFile(int descriptor, ulong offset, ulong lengthBytes, string what)
    {
        // Only regular files (memfd, tmpfs, hugetlbfs) know their size; a character device such as DAX says 0.
        var status = StatusOf(descriptor, what);
        if (IsRegular(status) && offset + lengthBytes > (ulong)status.st_size)
        {
            throw new VhostUserRefusedException(
                $"the {what} of {lengthBytes} bytes at file offset {offset} ends beyond its file of {status.st_size} bytes");
        }
    }

    private static bool IsRegular(Stat status) => (status.st_mode & FilePermissions.S_IFMT) == FilePermissions.S_IFREG;

    private static Stat StatusOf(int descriptor, string what) => Syscall.fstat(descriptor, out var status) == 0
        ? status
        : throw new VhostUserRefusedException($"fstat of the {what} fails with {Stdlib.GetLastError()}");

    /// <summary>hugetlbfs wants offset and length in multiples of its huge page, which it gives as its block size.</summary>
    private static ulong PageBytesOf(int descriptor)
    {
        var isHuge = NativeMethods.fstatfs(descriptor, out var status) == 0
            && status.Type == NativeMethods.HUGETLBFS_MAGIC
            && status.BlockBytes > 0;
        return isHuge ? (ulong)status.BlockBytes : (ulong)Environment.SystemPageSize;
    }

    private static ulong RoundUp(ulong value, ulong multiple) => (value + multiple - 1) / multiple * multiple;
}
