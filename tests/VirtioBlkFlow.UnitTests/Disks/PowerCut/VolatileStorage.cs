namespace VirtioBlkFlow.UnitTests.Disks.PowerCut;

/// <summary>
/// What may be on a storage after its power was cut. It remembers for each sector the versions that were written since one is known to be
/// durable; a cut leaves any of them, for each sector by itself: so writes are dropped, torn between sectors, and reordered. Two rules make a
/// version durable: it was written with RWF_DSYNC (pwritev2(2)) and has ended, or it had ended before a sync began that succeeded
/// (fdatasync(2)). What is certainly older than a durable version is gone. Used under a lock, or by one thread.
/// </summary>
/// <param name="sectorBytes">What is never torn.</param>
internal sealed class VolatileStorage(int sectorBytes)
{
    private readonly Dictionary<long, List<SectorVersion>> _sectors = [];

    // Those of which more than one version may be there.
    private readonly HashSet<long> _volatile = [];
    private readonly Dictionary<long, ReadOnlyMemory<byte>> _initial = [];
    private long _now;

    /// <summary>Sectors of which nobody can tell what a cut would leave.</summary>
    public int VolatileCount => _volatile.Count;

    /// <summary>Sectors that were ever written.</summary>
    public IEnumerable<long> Touched => _sectors.Keys;

    /// <summary>What is there at the beginning, and durable; what is not told of is zeros.</summary>
    public void Load(long sector, ReadOnlyMemory<byte> content) => _initial.Add(sector, content);

    /// <summary>A write begins: from now on a cut may leave it, in part or whole.</summary>
    /// <param name="offsetBytes">A multiple of the sector.</param>
    /// <param name="data">A multiple of the sector; not changed any more.</param>
    public PendingWrite BeginWrite(long offsetBytes, ReadOnlyMemory<byte> data)
    {
        var versions = new (long, SectorVersion)[data.Length / sectorBytes];
        long begun = ++_now;
        for (int i = 0; i < versions.Length; i++)
        {
            versions[i] = Add((offsetBytes / sectorBytes) + i, new SectorVersion(data.Slice(i * sectorBytes, sectorBytes), begun));
        }

        return new PendingWrite(versions);
    }

    /// <summary>A range begins to become zeros.</summary>
    public PendingWrite BeginZeroes(long offsetBytes, long lengthBytes)
    {
        List<(long, SectorVersion)> versions = [];
        long begun = ++_now;
        for (long sector = offsetBytes / sectorBytes; sector < (offsetBytes + lengthBytes) / sectorBytes; sector++)
        {
            // Zeros over zeros that were always there change nothing, whatever becomes of them.
            if (_sectors.ContainsKey(sector) || _initial.ContainsKey(sector))
            {
                versions.Add(Add(sector, new SectorVersion(default, begun)));
            }
        }

        return new PendingWrite([.. versions]);
    }

    /// <summary>A write has ended.</summary>
    /// <param name="write">Which.</param>
    /// <param name="doneSectors">So many of its sectors, from the first on, are as wanted; of the others nobody knows.</param>
    /// <param name="durable">Whether what was done is durable now.</param>
    public void End(PendingWrite write, long doneSectors, bool durable)
    {
        long ended = ++_now;
        for (int i = 0; i < write.Versions.Length; i++)
        {
            (long sector, SectorVersion version) = write.Versions[i];
            version.Ended = ended;
            version.Succeeded = i < doneSectors;
            if (version.Succeeded && durable)
            {
                Settle(sector, version);
            }
        }
    }

    /// <summary>All of a write has ended well.</summary>
    public void End(PendingWrite write, bool durable) => End(write, write.Versions.Length, durable);

    /// <summary>A sync begins; what ends later is none of its business.</summary>
    /// <returns>What to end it with.</returns>
    public long BeginSync() => ++_now;

    /// <summary>A sync has succeeded.</summary>
    public void EndSync(long begun)
    {
        foreach (long sector in _volatile.ToArray())
        {
            foreach (SectorVersion version in _sectors[sector].ToArray())
            {
                if (version.Succeeded && !version.Forgotten && version.Ended < begun)
                {
                    Settle(sector, version);
                }
            }
        }
    }

    /// <summary>A sync has failed: the kernel forgets what it could not write, and no later sync speaks of it (fsync(2), "ERRORS").</summary>
    public void FailSync()
    {
        foreach (long sector in _volatile)
        {
            _sectors[sector].ForEach(static version => version.Forgotten = true);
        }
    }

    /// <summary>What a sector reads as; empty memory is zeros.</summary>
    public ReadOnlyMemory<byte> Newest(long sector) => Possible(sector).Last();

    /// <summary>What a cut may leave of a sector; empty memory is zeros.</summary>
    public IEnumerable<ReadOnlyMemory<byte>> Possible(long sector) =>
        _sectors.TryGetValue(sector, out List<SectorVersion>? versions) ? versions.Select(static version => version.Content) : [_initial.GetValueOrDefault(sector)];

    /// <summary>Whether a cut may leave this.</summary>
    public bool IsPossible(long sector, ReadOnlySpan<byte> found)
    {
        foreach (ReadOnlyMemory<byte> content in Possible(sector))
        {
            if (content.IsEmpty ? !found.ContainsAnyExcept((byte)0) : content.Span.SequenceEqual(found))
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>The power goes.</summary>
    /// <param name="random">Decides what is left. One cut leaves nearly all, another nearly nothing, most are in between.</param>
    /// <returns>What is left of each sector that was ever written.</returns>
    public Dictionary<long, ReadOnlyMemory<byte>> Cut(Random random)
    {
        double newest = random.Next(4) switch { 0 => 0.02, 1 => 0.98, _ => random.NextDouble() };
        Dictionary<long, ReadOnlyMemory<byte>> left = [];
        foreach ((long sector, List<SectorVersion> versions) in _sectors)
        {
            int chosen = versions.Count == 1 || random.NextDouble() < newest ? versions.Count - 1 : random.Next(versions.Count);
            left.Add(sector, versions[chosen].Content);
        }

        return left;
    }

    private (long Sector, SectorVersion Version) Add(long sector, SectorVersion version)
    {
        if (!_sectors.TryGetValue(sector, out List<SectorVersion>? versions))
        {
            _sectors.Add(sector, versions = [SectorVersion.Initial(_initial.GetValueOrDefault(sector))]);
        }

        versions.Add(version);
        _volatile.Add(sector);
        return (sector, version);
    }

    // Of two writes at the same time either may be the later one.
    private void Settle(long sector, SectorVersion durable)
    {
        if (durable.Forgotten)
        {
            return;
        }

        List<SectorVersion> versions = _sectors[sector];
        versions.RemoveAll(other => other.Ended < durable.Begun);
        if (versions.Count == 1)
        {
            _volatile.Remove(sector);
        }
    }

    /// <summary>A write that has begun.</summary>
    internal sealed record PendingWrite((long Sector, SectorVersion Version)[] Versions);

    /// <summary>What was written to a sector once.</summary>
    internal sealed class SectorVersion(ReadOnlyMemory<byte> content, long begun)
    {
        public ReadOnlyMemory<byte> Content { get; } = content;

        public long Begun { get; } = begun;

        public long Ended { get; set; } = long.MaxValue;

        public bool Succeeded { get; set; }

        public bool Forgotten { get; set; }

        public static SectorVersion Initial(ReadOnlyMemory<byte> content) => new(content, -1) { Ended = -1, Succeeded = true };
    }
}
