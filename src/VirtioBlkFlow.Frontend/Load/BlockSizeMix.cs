using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.Frontend.Load;

/// <summary>One size of a mix.</summary>
/// <param name="Bytes">Size of the request's data: a multiple of 512.</param>
/// <param name="Weight">Its part of the requests, relative to the other weights.</param>
public readonly record struct WeightedSize(uint Bytes, int Weight);

/// <summary>How large requests are: one size, or several with weights. Immutable.</summary>
public sealed class BlockSizeMix
{
    /// <summary>Largest request: what a used length of 32 bits and a status byte leave, rounded down to a power of two. Arbitrary below that.</summary>
    public const uint MaxBytes = 1U << 30;

    private readonly WeightedSize[] _sizes;

    // Where each size ends on the line from 0 to 2^32.
    private readonly ulong[] _ends;

    /// <summary>A mix.</summary>
    /// <exception cref="LoadException">A size or a weight is out of range.</exception>
    public BlockSizeMix(params ReadOnlySpan<WeightedSize> sizes)
    {
        _sizes = sizes.ToArray();
        if (_sizes.Length == 0 || _sizes.Any(size => size.Bytes is 0 or > MaxBytes || size.Bytes % BlkRequest.SectorBytes != 0))
        {
            throw new LoadException($"A block size is a multiple of {BlkRequest.SectorBytes} bytes, at most {MaxBytes}.");
        }

        if (_sizes.Any(size => size.Weight is < 1 or > 1_000_000))
        {
            throw new LoadException("The weight of a block size is 1 to 1000000.");
        }

        ulong total = (ulong)_sizes.Sum(size => (long)size.Weight);
        ulong sum = 0;
        _ends = new ulong[_sizes.Length];
        for (int i = 0; i < _sizes.Length; i++)
        {
            sum += (ulong)_sizes[i].Weight;
            _ends[i] = (sum << 32) / total;
        }

        LargestBytes = _sizes.Max(size => size.Bytes);
    }

    /// <summary>The sizes with their weights.</summary>
    public IReadOnlyList<WeightedSize> Sizes => _sizes;

    /// <summary>The largest of them.</summary>
    public uint LargestBytes { get; }

    /// <summary>Whether there is only one.</summary>
    public bool IsSingle => _sizes.Length == 1;

    /// <summary>Requests of one size.</summary>
    public static BlockSizeMix Of(uint bytes) => new(new WeightedSize(bytes, 1));

    /// <summary>Picks by a number that is as likely anywhere in its range.</summary>
    public uint Pick(uint random)
    {
        int i = 0;
        while (random >= _ends[i])
        {
            i++;
        }

        return _sizes[i].Bytes;
    }
}
