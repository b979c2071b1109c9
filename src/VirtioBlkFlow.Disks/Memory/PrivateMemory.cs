using static VirtioBlkFlow.Disks.LibC;

namespace VirtioBlkFlow.Disks.Memory;

/// <summary>Memory of this process alone: an anonymous mapping, whose pages come with the first write to them.</summary>
internal sealed unsafe class PrivateMemory : MemoryStore
{
    private const nuint HugePageBytes = 2 << 20;

    private static readonly nuint s_pageBytes = (nuint)Environment.SystemPageSize;

    private readonly nuint _mappedBytes;
    private readonly bool _isReserved;
    private byte* _first;

    private PrivateMemory(byte* first, nuint mappedBytes, bool isReserved)
    {
        _first = first;
        _mappedBytes = mappedBytes;
        _isReserved = isReserved;
    }

    /// <summary>Where it is; for tests that look which pages there are.</summary>
    internal byte* First => _first;

    /// <exception cref="DiskOpenException">The host has not so much, or no such pages.</exception>
    public static PrivateMemory Map(ulong sizeBytes, HugePages hugePages)
    {
        bool reserved = hugePages == HugePages.TwoMegabytes;
        nuint mappedBytes = reserved ? ((nuint)sizeBytes + HugePageBytes - 1) & ~(HugePageBytes - 1) : (nuint)sizeBytes;
        // Pages of the reserve are set aside here and now: to find none at the first write would end the process.
        int flags = MAP_PRIVATE | MAP_ANONYMOUS | (reserved ? MAP_HUGETLB | MAP_HUGE_2MB : MAP_NORESERVE);
        void* first = mmap(null, mappedBytes, PROT_READ | PROT_WRITE, flags, -1, 0);
        if ((nint)first == -1)
        {
            string cause = Marshal.GetLastPInvokeErrorMessage();
            throw new DiskOpenException(reserved
                ? $"Cannot get {mappedBytes / HugePageBytes} huge pages of 2 MiB for a memory disk: {cause}. Set them aside first: sysctl vm.nr_hugepages=N, or leave out huge pages."
                : $"Cannot get {sizeBytes} bytes for a memory disk: {cause}. Give it a smaller size.");
        }

        if (hugePages == HugePages.Transparent && madvise(first, mappedBytes, MADV_HUGEPAGE) != 0)
        {
            string cause = Marshal.GetLastPInvokeErrorMessage();
            _ = munmap(first, mappedBytes);
            throw new DiskOpenException($"This kernel has no transparent huge pages: {cause}. Leave out huge pages.");
        }

        return new PrivateMemory((byte*)first, mappedBytes, reserved);
    }

    public override DiskOutcome Read(ulong offsetBytes, Iovec* pieces, int count, uint lengthBytes)
    {
        byte* from = _first + offsetBytes;
        nuint left = lengthBytes;
        for (int i = 0; i < count && left > 0; i++)
        {
            nuint bytes = Math.Min(pieces[i].LengthBytes, left);
            NativeMemory.Copy(from, pieces[i].Base, bytes);
            from += bytes;
            left -= bytes;
        }

        return DiskOutcome.Done;
    }

    public override DiskOutcome Write(ulong offsetBytes, Iovec* pieces, int count, uint lengthBytes)
    {
        byte* to = _first + offsetBytes;
        nuint left = lengthBytes;
        for (int i = 0; i < count && left > 0; i++)
        {
            nuint bytes = Math.Min(pieces[i].LengthBytes, left);
            NativeMemory.Copy(pieces[i].Base, to, bytes);
            to += bytes;
            left -= bytes;
        }

        return DiskOutcome.Done;
    }

    /// <summary>The same for the process itself. The caller keeps to the size.</summary>
    public void CopyOut(ulong offsetBytes, Span<byte> destination) => new ReadOnlySpan<byte>(_first + offsetBytes, destination.Length).CopyTo(destination);

    /// <summary>The same for the process itself. The caller keeps to the size.</summary>
    public void CopyIn(ulong offsetBytes, ReadOnlySpan<byte> source) => source.CopyTo(new Span<byte>(_first + offsetBytes, source.Length));

    // An anonymous page that was given back reads as zeros. Nothing promises that there will be another one, so both ways are one here;
    // only what was set aside stays, because its successor could be somebody else's by then.
    public override DiskOutcome Clear(ulong offsetBytes, ulong lengthBytes, bool deallocate)
    {
        byte* first = _first + offsetBytes;
        byte* end = first + lengthBytes;
        byte* firstPage = (byte*)(((nuint)first + s_pageBytes - 1) & ~(s_pageBytes - 1));
        byte* endPage = (byte*)((nuint)end & ~(s_pageBytes - 1));
        if (_isReserved || firstPage >= endPage)
        {
            NativeMemory.Clear(first, (nuint)lengthBytes);
            return DiskOutcome.Done;
        }

        NativeMemory.Clear(first, (nuint)(firstPage - first));
        NativeMemory.Clear(endPage, (nuint)(end - endPage));
        if (madvise(firstPage, (nuint)(endPage - firstPage), MADV_DONTNEED) != 0)
        {
            // Locked memory (mlockall(2)) cannot be given back.
            NativeMemory.Clear(firstPage, (nuint)(endPage - firstPage));
        }

        return DiskOutcome.Done;
    }

    public override void Dispose()
    {
        if (_first != null)
        {
            _ = munmap(_first, _mappedBytes);
            _first = null;
        }
    }
}
