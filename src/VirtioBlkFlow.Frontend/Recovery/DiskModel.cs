using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.Frontend.Recovery;

/// <summary>
/// What a disk must hold, remembered as one stamp for each sector: the 512 bytes follow from the stamp and the number of the sector, so
/// that a sector at the wrong place, an old one and a torn one are all told apart. Owned by one thread.
/// </summary>
public sealed class DiskModel
{
    /// <summary>Stamp of a sector of zeros: of a new disk, or after WRITE_ZEROES.</summary>
    public const ulong Zeros = 0;

    /// <summary>Stamp of a sector that may hold anything: after DISCARD.</summary>
    public const ulong Anything = ulong.MaxValue;

    private readonly ulong[] _stamps;

    /// <summary>A disk of zeros.</summary>
    public DiskModel(int sectorCount) => _stamps = new ulong[sectorCount];

    /// <summary>Sectors.</summary>
    public int SectorCount => _stamps.Length;

    /// <summary>Writes the bytes sectors with a stamp hold.</summary>
    /// <param name="sector">First sector.</param>
    /// <param name="stamp">Not <see cref="Anything"/>.</param>
    /// <param name="destination">Whole sectors.</param>
    public static void Fill(ulong sector, ulong stamp, Span<byte> destination)
    {
        if (stamp == Zeros)
        {
            destination.Clear();
            return;
        }

        Span<ulong> words = MemoryMarshal.Cast<byte, ulong>(destination);
        for (int i = 0; i < words.Length; i++)
        {
            words[i] = Word(sector, stamp, i);
        }
    }

    /// <summary>Remembers that sectors hold a stamp from now on.</summary>
    public void Set(ulong sector, int count, ulong stamp) => _stamps.AsSpan((int)sector, count).Fill(stamp);

    /// <summary>Compares bytes read with what must be there.</summary>
    /// <param name="sector">First sector.</param>
    /// <param name="read">Whole sectors.</param>
    /// <returns>The first sector that is wrong; -1 when none is.</returns>
    public long FirstDifference(ulong sector, ReadOnlySpan<byte> read)
    {
        ReadOnlySpan<ulong> words = MemoryMarshal.Cast<byte, ulong>(read);
        const int WordsPerSector = BlkRequest.SectorBytes / sizeof(ulong);
        for (int i = 0; i < words.Length; i++)
        {
            ulong at = sector + (ulong)(i / WordsPerSector);
            ulong stamp = _stamps[at];
            ulong due = stamp == Zeros ? 0 : Word(at, stamp, i % WordsPerSector);
            if (words[i] != due && stamp != Anything)
            {
                return (long)at;
            }
        }

        return -1;
    }

    // The finalizer of splitmix64 over stamp, sector and place: every word differs from every other. Within a run of sectors the index
    // goes on, which is the same as beginning anew in each.
    private static ulong Word(ulong sector, ulong stamp, int index)
    {
        const int WordsPerSector = BlkRequest.SectorBytes / sizeof(ulong);
        ulong place = (sector * WordsPerSector) + (ulong)index;
        ulong z = (stamp * 0x9e3779b97f4a7c15) + (place * 0xd1b54a32d192ed03) + 1;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }
}
