using System.Collections.Frozen;
using System.Numerics;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.Device;

/// <summary>Features the operator switched on or off by name, against what would be offered otherwise.</summary>
/// <param name="On">Bits that must be offered.</param>
/// <param name="Off">Bits that must not.</param>
public readonly record struct FeatureChoices(ulong On, ulong Off)
{
    // Longest first: VIRTIO_F_RING_PACKED is "packed", as QEMU calls it too.
    private static readonly string[] s_prefixes = ["VIRTIO_BLK_F_", "VIRTIO_RING_F_", "VIRTIO_F_RING_", "VIRTIO_F_"];

    private static readonly FrozenDictionary<string, ulong> s_bits = Enum.GetValues<BlkFeatures>().Select(feature => (Name: feature.ToString(), Bit: (ulong)feature))
        .Concat(Enum.GetValues<VirtioFeatures>().Select(feature => (Name: feature.ToString(), Bit: (ulong)feature)))
        .Where(feature => feature.Bit != 0)
        .ToFrozenDictionary(feature => ShortNameOf(feature.Name), feature => feature.Bit);

    /// <summary>Every name: the specification's in lower case, without prefix, with dashes.</summary>
    public static IEnumerable<string> Names => s_bits.Keys.Order(StringComparer.Ordinal);

    /// <summary>The bit of a name.</summary>
    public static bool TryGetBit(string name, out ulong bit) => s_bits.TryGetValue(name, out bit);

    /// <summary>The name of a bit.</summary>
    public static string NameOf(ulong bit) => s_bits.FirstOrDefault(pair => pair.Value == bit).Key ?? $"bit {BitOperations.Log2(bit)}";

    /// <summary>These choices and one more, which wins over an earlier one of the same feature.</summary>
    public FeatureChoices With(ulong bit, bool on) => on ? new FeatureChoices(On | bit, Off & ~bit) : new FeatureChoices(On & ~bit, Off | bit);

    private static string ShortNameOf(string name) =>
        name[s_prefixes.First(prefix => name.StartsWith(prefix, StringComparison.Ordinal)).Length..].Replace('_', '-').ToLowerInvariant();
}
