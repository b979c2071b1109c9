using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.Frontend.Protocol;

namespace VirtioBlkFlow.Frontend.Memory;

/// <summary>
/// The bitmap a back-end marks written pages in during a migration (vhost-user.rst, "Migration"): one bit for each page of 4096 bytes,
/// counted from guest address 0. The back-end sets bits with an atomic OR, this side takes words with an atomic swap, so none is lost.
/// </summary>
public sealed unsafe class DirtyLog : IDisposable
{
    /// <summary>Bytes of guest memory one bit stands for.</summary>
    public const int PageBytes = 4096;

    private readonly SharedRegion _bitmap;

    /// <summary>Makes a bitmap, all clear.</summary>
    /// <param name="endOfMemory">First guest address it need not reach.</param>
    /// <param name="offset">Where in its file it starts: a multiple of 4096.</param>
    /// <exception cref="IOException">The kernel refuses.</exception>
    public DirtyLog(ulong endOfMemory, ulong offset = 0)
    {
        ulong pages = (endOfMemory + PageBytes - 1) / PageBytes;
        ulong words = (pages + 63) / 64;
        _bitmap = new SharedRegion(new SharedRegionOptions(0, Math.Max(words, 1) * sizeof(ulong)) { MmapOffset = offset });
        Area = new LogArea(_bitmap.LengthBytes, offset);
    }

    /// <summary>A bitmap for all of a memory.</summary>
    public static DirtyLog For(SharedMemory memory)
    {
        ArgumentNullException.ThrowIfNull(memory);
        return new DirtyLog(memory.Regions.Max(region => region.GuestAddress + region.LengthBytes));
    }

    /// <summary>What SET_LOG_BASE says of it.</summary>
    public LogArea Area { get; }

    /// <summary>The memfd.</summary>
    public SafeFileHandle Handle => _bitmap.Handle;

    /// <summary>Takes all marked pages and clears their marks.</summary>
    /// <returns>Numbers of pages, ascending.</returns>
    public IReadOnlyList<ulong> FetchAndClear()
    {
        var pages = new List<ulong>();
        ulong* words = (ulong*)_bitmap.Host;
        for (ulong word = 0; word < _bitmap.LengthBytes / sizeof(ulong); word++)
        {
            ulong bits = Interlocked.Exchange(ref words[word], 0);
            for (; bits != 0; bits &= bits - 1)
            {
                pages.Add((word * 64) + (ulong)ulong.TrailingZeroCount(bits));
            }
        }

        return pages;
    }

    /// <summary>The pages a guest range lies in.</summary>
    public static IEnumerable<ulong> PagesOf(ulong guestAddress, ulong lengthBytes)
    {
        for (ulong page = guestAddress / PageBytes; lengthBytes != 0 && page <= (guestAddress + lengthBytes - 1) / PageBytes; page++)
        {
            yield return page;
        }
    }

    /// <summary>Unmaps and closes; a back-end keeps its own mapping.</summary>
    public void Dispose() => _bitmap.Dispose();
}
