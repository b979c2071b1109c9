using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.Frontend.Load;

/// <summary>A request to be made.</summary>
/// <param name="Sector">First sector.</param>
/// <param name="Bytes">Bytes of data.</param>
/// <param name="IsWrite">Whether it writes.</param>
public readonly record struct PlannedRequest(ulong Sector, uint Bytes, bool IsWrite);

/// <summary>
/// Which requests one queue makes, one after the other: decided by the seed and nothing else. Owned by the queue's thread; allocates nothing.
/// </summary>
public sealed class RequestSource
{
    // Fixed at construction.
    private readonly ulong _firstSector;
    private readonly ulong _sectorCount;
    private readonly BlockSizeMix _sizes;
    private readonly bool _sequential;
    private readonly uint _singleBytes;
    private readonly ulong _writeThreshold;

    // Owned by the queue's thread.
    private LoadRandom _random;
    private ulong _cursor;

    /// <summary>Prepares.</summary>
    /// <param name="options">Pattern, mix and sizes.</param>
    /// <param name="firstSector">Where this queue's range starts.</param>
    /// <param name="sectorCount">Its length; holds the largest request.</param>
    /// <param name="seed">The queue's own.</param>
    public RequestSource(LoadOptions options, ulong firstSector, ulong sectorCount, ulong seed)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentOutOfRangeException.ThrowIfLessThan(sectorCount, options.BlockSizes.LargestBytes / BlkRequest.SectorBytes, nameof(sectorCount));
        _firstSector = firstSector;
        _sectorCount = sectorCount;
        _sizes = options.BlockSizes;
        _sequential = options.Sequential;
        _singleBytes = _sizes.IsSingle ? _sizes.LargestBytes : 0;
        _writeThreshold = (ulong)(100 - options.ReadPercent) * (1UL << 32) / 100;
        _random = new LoadRandom(seed);
    }

    /// <summary>The next request. A random one starts at a multiple of its own size from the start of the range.</summary>
    public PlannedRequest Next()
    {
        ulong random = _random.Next();
        uint bytes = _singleBytes != 0 ? _singleBytes : _sizes.Pick((uint)_random.Next());
        ulong sectors = bytes / BlkRequest.SectorBytes;
        ulong place;
        if (_sequential)
        {
            place = _cursor + sectors <= _sectorCount ? _cursor : 0;
            _cursor = place + sectors;
        }
        else
        {
            place = _random.Below(_sectorCount / sectors) * sectors;
        }

        return new PlannedRequest(_firstSector + place, bytes, (uint)random < _writeThreshold);
    }
}
