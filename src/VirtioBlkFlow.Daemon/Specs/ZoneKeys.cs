using VirtioBlkFlow.Disks.Zoned;

namespace VirtioBlkFlow.Daemon.Specs;

/// <summary>Keys about the zones of an image; --zoned has them all in one value, where their names do without the prefix.</summary>
internal static class ZoneKeys
{
    /// <summary>What the names of these keys begin with.</summary>
    public const string Prefix = "zone-";

    /// <summary>How --zoned wants it.</summary>
    public const string OptionForm =
        "zone-size=SIZE[,conventional=N][,capacity=SIZE][,max-open=N][,max-active=N][,max-append=SIZE][,write-granularity=BYTES]";

    public static SpecKey Size { get; } = SpecKey.Size(
        "zone-size", "Give the image zones of this size, as a host-managed zoned disk has.", "256M", (spec, bytes) => With(spec, zones => zones with { ZoneBytes = bytes }));

    public static IReadOnlyList<SpecKey> All { get; } =
    [
        Size,
        Count("zone-conventional", "Zones at the beginning that are written anywhere.", "4", (zones, count) => zones with { ConventionalZones = count }),
        SpecKey.Size(
            "zone-capacity", "What can be written of a zone.", "200M", (spec, bytes) => With(spec, zones => zones with { ZoneCapacityBytes = bytes })),
        Count("zone-max-open", "Most open zones; 0 for no limit.", "8", (zones, count) => zones with { MaxOpen = count }),
        Count("zone-max-active", "Most active zones; 0 for no limit.", "16", (zones, count) => zones with { MaxActive = count }),
        Bytes("zone-max-append", "Most bytes in one append; 0 for no appends.", "128K", (zones, bytes) => zones with { MaxAppendBytes = bytes }),
        Bytes(
            "zone-write-granularity",
            "Size and alignment of writes to zones that are written in sequence.",
            "4096",
            (zones, bytes) => zones with { WriteGranularityBytes = bytes }),
    ];

    /// <summary>The value of --zoned; null if it is none.</summary>
    public static DiskSpec? TrySet(DiskSpec spec, string value)
    {
        foreach (string part in value.Split(','))
        {
            string[] pair = part.Split('=');
            string name = pair[0] == Size.Name ? pair[0] : Prefix + pair[0];
            bool isFirst = spec.Zones is null;
            if (pair.Length != 2 || isFirst != (name == Size.Name)
                || All.FirstOrDefault(key => key.Name == name)?.Set(spec, pair[1]) is not { } next)
            {
                return null;
            }

            spec = next;
        }

        return spec;
    }

    private static SpecKey Count(string name, string meaning, string example, Func<ZoneGeometry, int, ZoneGeometry> set) => SpecKey.Number(
        name, "N", (0, int.MaxValue), meaning, example, (spec, count) => With(spec, zones => set(zones, (int)count)));

    private static SpecKey Bytes(string name, string meaning, string example, Func<ZoneGeometry, uint, ZoneGeometry> set) => new()
    {
        Name = name,
        Form = "SIZE",
        Takes = "bytes, or a number with K or M, below 2 GiB",
        Meaning = meaning,
        Example = example,
        Set = (spec, text) => ValueText.TryParseSize(text, out ulong bytes) && bytes <= int.MaxValue ? With(spec, zones => set(zones, (uint)bytes)) : null,
    };

    // The size may come after the others: 0 until then.
    private static DiskSpec With(DiskSpec spec, Func<ZoneGeometry, ZoneGeometry> set) =>
        spec with { Zones = set(spec.Zones ?? new ZoneGeometry { ZoneBytes = 0 }) };
}
