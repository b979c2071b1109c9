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

    // A name and its bit have the same place. A few dozen: looking through them costs less than compiling, at each start, a table for them.
    private static readonly List<string> s_names = [];
    private static readonly List<ulong> s_bits = [];

    static FeatureChoices()
    {
        Add(typeof(BlkFeatures));
        Add(typeof(VirtioFeatures));
    }

    /// <summary>Every name: the specification's in lower case, without prefix, with dashes.</summary>
    public static IEnumerable<string> Names => s_names.Order(StringComparer.Ordinal);

    /// <summary>The bit of a name.</summary>
    public static bool TryGetBit(string name, out ulong bit)
    {
        int place = s_names.IndexOf(name);
        bit = place >= 0 ? s_bits[place] : 0;
        return place >= 0;
    }

    /// <summary>The name of a bit.</summary>
    public static string NameOf(ulong bit) => s_bits.IndexOf(bit) is >= 0 and int place ? s_names[place] : $"bit {BitOperations.Log2(bit)}";

    /// <summary>These choices and one more, which wins over an earlier one of the same feature.</summary>
    public FeatureChoices With(ulong bit, bool on) => on ? new FeatureChoices(On | bit, Off & ~bit) : new FeatureChoices(On & ~bit, Off | bit);

    private static void Add(Type features)
    {
        string[] names = Enum.GetNames(features);
        // Both in the order of the values.
        var bits = (ulong[])Enum.GetValuesAsUnderlyingType(features);
        for (int i = 0; i < names.Length; i++)
        {
            if (bits[i] != 0)
            {
                s_names.Add(ShortNameOf(names[i]));
                s_bits.Add(bits[i]);
            }
        }
    }

    private static string ShortNameOf(string name) =>
        name[s_prefixes.First(prefix => name.StartsWith(prefix, StringComparison.Ordinal)).Length..].Replace('_', '-').ToLowerInvariant();
}
