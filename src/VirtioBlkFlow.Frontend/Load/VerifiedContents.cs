using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.Frontend.Load;

/// <summary>
/// What sectors hold that a verified load has written: derived from seed, sector and generation, that is how often this run wrote the sector.
/// It remembers the generation of each sector of a range, and which sectors have a request in flight, which no other may then touch.
/// Owned by one thread.
/// </summary>
/// <remarks>
/// A sector is 64 words of 8 bytes: its number; in the low half the generation and in the high half a mark of seed and sector; then a
/// sequence that starts anywhere. So a sector that was never written by a run with this seed, one of another place, one that was
/// written in part and one of an older generation all differ.
/// </remarks>
public sealed class VerifiedContents
{
    /// <summary>Most sectors that are kept track of: 4 bytes of memory for each, in one array.</summary>
    public const ulong MaxSectors = 1UL << 28;

    private const int WordsPerSector = BlkRequest.SectorBytes / sizeof(ulong);
    private const uint InFlight = 1U << 31;
    private const ulong Step = 0x9e37_79b9_7f4a_7c15;

    private readonly ulong _seed;
    private readonly ulong _firstSector;

    // Of a run that only reads, no sector was written by itself: then whatever generation a sector says it has is right.
    private readonly bool _acceptAnyGeneration;

    // Generation in the low bits, 0 for "not written by this run".
    private readonly uint[] _states;

    /// <summary>Knows of nothing written.</summary>
    /// <param name="seed">The run's, the same for all queues.</param>
    /// <param name="firstSector">First sector of the range.</param>
    /// <param name="sectorCount">Its length.</param>
    /// <param name="expectEarlierRun">Whether all of the range must hold what an earlier run with this seed wrote.</param>
    public VerifiedContents(ulong seed, ulong firstSector, ulong sectorCount, bool expectEarlierRun)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(sectorCount, MaxSectors);
        _seed = seed;
        _firstSector = firstSector;
        _acceptAnyGeneration = expectEarlierRun;
        _states = new uint[sectorCount];
    }

    /// <summary>Sectors read that nobody can say anything about, because this run had not written them.</summary>
    public long UncheckedSectors { get; private set; }

    /// <summary>Sectors compared.</summary>
    public long CheckedSectors { get; private set; }

    /// <summary>Takes a place for a request.</summary>
    /// <returns>False, with nothing done, when another request is in flight on one of its sectors.</returns>
    public bool TryReserve(ulong sector, uint bytes)
    {
        Span<uint> states = StatesOf(sector, bytes);
        foreach (uint state in states)
        {
            if ((state & InFlight) != 0)
            {
                return false;
            }
        }

        foreach (ref uint state in states)
        {
            state |= InFlight;
        }

        return true;
    }

    /// <summary>Fills a buffer with what a write puts there, the next generation of each sector.</summary>
    public void Fill(ulong sector, Span<byte> data)
    {
        Span<uint> states = StatesOf(sector, (uint)data.Length);
        for (int i = 0; i < states.Length; i++)
        {
            FillSector(data.Slice(i * BlkRequest.SectorBytes, BlkRequest.SectorBytes), sector + (ulong)i, NextGeneration(states[i]));
        }
    }

    /// <summary>A write has come back: what it carried is there from now on, and its sectors are free.</summary>
    public void FinishWrite(ulong sector, uint bytes)
    {
        foreach (ref uint state in StatesOf(sector, bytes))
        {
            state = NextGeneration(state);
        }
    }

    /// <summary>A read has come back: compares, and frees its sectors.</summary>
    /// <returns>Null when all is right, else a sentence about the first sector that is not.</returns>
    public string? FinishRead(ulong sector, ReadOnlySpan<byte> data)
    {
        string? complaint = null;
        Span<uint> states = StatesOf(sector, (uint)data.Length);
        for (int i = 0; i < states.Length; i++)
        {
            states[i] &= ~InFlight;
            complaint ??= CheckSector(data.Slice(i * BlkRequest.SectorBytes, BlkRequest.SectorBytes), sector + (ulong)i, states[i]);
        }

        return complaint;
    }

    /// <summary>The next stretch of sectors this run has written, for reading them all at the end.</summary>
    /// <param name="from">Where to look from.</param>
    /// <param name="maxSectors">Longest stretch wanted.</param>
    /// <param name="sector">Its first sector.</param>
    /// <param name="sectorCount">Its length.</param>
    /// <returns>False when there is none left.</returns>
    public bool TryFindWritten(ulong from, uint maxSectors, out ulong sector, out uint sectorCount)
    {
        int i = (int)(Math.Max(from, _firstSector) - _firstSector);
        while (i < _states.Length && _states[i] == 0)
        {
            i++;
        }

        sector = _firstSector + (ulong)i;
        sectorCount = 0;
        while (i < _states.Length && _states[i] != 0 && sectorCount < maxSectors)
        {
            i++;
            sectorCount++;
        }

        return sectorCount > 0;
    }

    private static uint NextGeneration(uint state) => ((state & ~InFlight) + 1) & ~InFlight;

    private ulong MarkOf(ulong sector) => LoadRandom.Mix(_seed ^ LoadRandom.Mix(sector)) & 0xffff_ffff_0000_0000;

    private void FillSector(Span<byte> bytes, ulong sector, uint generation)
    {
        Span<ulong> words = MemoryMarshal.Cast<byte, ulong>(bytes);
        words[0] = sector;
        words[1] = MarkOf(sector) | generation;
        ulong value = LoadRandom.Mix(words[1] ^ sector);
        for (int i = 2; i < WordsPerSector; i++)
        {
            words[i] = value;
            value += Step;
        }
    }

    private string? CheckSector(ReadOnlySpan<byte> bytes, ulong sector, uint generation)
    {
        if (generation == 0 && !_acceptAnyGeneration)
        {
            UncheckedSectors++;
            return null;
        }

        CheckedSectors++;
        ReadOnlySpan<ulong> words = MemoryMarshal.Cast<byte, ulong>(bytes);
        ulong mark = MarkOf(sector);
        uint found = (uint)words[1];
        if (words[0] == sector && words[1] == (mark | found) && (found == generation || _acceptAnyGeneration))
        {
            Span<byte> expected = stackalloc byte[BlkRequest.SectorBytes];
            FillSector(expected, sector, found);
            return bytes.SequenceEqual(expected)
                ? null
                : $"sector {sector} is spoiled from byte {bytes.CommonPrefixLength(expected)} on: it holds generation {found} only in part";
        }

        string what = words[1] == (MarkOf(words[0]) | found)
            ? $"it holds sector {words[0]}, generation {found}"
            : $"it starts with 0x{words[0]:x16} 0x{words[1]:x16}, which no run with this seed writes";
        return $"sector {sector} does not hold {(_acceptAnyGeneration ? "what an earlier run wrote" : $"generation {generation}")}: {what}";
    }

    private Span<uint> StatesOf(ulong sector, uint bytes) =>
        _states.AsSpan(checked((int)(sector - _firstSector)), (int)(bytes / BlkRequest.SectorBytes));
}
