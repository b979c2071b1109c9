using VirtioBlkFlow.Device;

namespace VirtioBlkFlow.Daemon.Specs;

/// <summary>
/// Makes specifications out of what the operator wrote: --disk, -s and the configuration file all say the same with the same keys.
/// </summary>
/// <param name="defaults">What holds for a disk that does not say otherwise.</param>
internal sealed class SpecReader(DiskSpec defaults)
{
    public const string DiskForm = "KIND:WHAT[,KEY=VALUE...]";

    /// <summary>Stands for the key of each feature in lists.</summary>
    public static SpecKey AnyFeature { get; } = DeviceKeys.Features.First(key => key.Name == DeviceKeys.FeaturePrefix + "discard") with
    {
        Name = DeviceKeys.FeaturePrefix + "NAME",
    };

    /// <summary>The value of --disk.</summary>
    /// <exception cref="SpecException">It is wrong.</exception>
    public DiskSpec ReadDisk(string text)
    {
        string origin = $"--disk '{text}'";
        IReadOnlyList<string> parts = SpecText.Split(text);
        return Read(origin, parts[0], parts.Skip(1).Select(part => SpecText.EntryOf(part, origin)));
    }

    /// <summary>A disk out of its parts.</summary>
    /// <param name="origin">Where it was written: the beginning of an error.</param>
    /// <param name="kindAndWhat">KIND:WHAT.</param>
    /// <param name="entries">Keys and values.</param>
    /// <exception cref="SpecException">Something is wrong; the origin of the entry says where.</exception>
    public DiskSpec Read(string origin, string kindAndWhat, IEnumerable<SpecEntry> entries)
    {
        (DiskKind kind, string what) = KindAndWhat(origin, kindAndWhat);
        return Read(origin, kind, what, entries);
    }

    /// <summary>A part of a composite disk: it has no device and no socket, and says nothing about such.</summary>
    /// <exception cref="SpecException">Something is wrong.</exception>
    public DiskSpec ReadPart(SpecEntry disk, IEnumerable<SpecEntry> entries)
    {
        (DiskKind kind, string what) = KindAndWhat(disk.Origin, disk.Value!);
        return kind is CompositeKind
            ? throw new SpecException($"{disk.Origin}: a composite disk is no part of another. Name its parts here.")
            : Read(disk.Origin, kind, what, entries, [.. kind.OwnKeys, .. StackKeys.OfParts], "a part");
    }

    /// <summary>A disk out of its parts.</summary>
    /// <exception cref="SpecException">Something is wrong.</exception>
    public DiskSpec Read(string origin, DiskKind kind, string what, IEnumerable<SpecEntry> entries) =>
        Read(origin, kind, what, entries, [.. kind.Keys, .. DeviceKeys.Features], $"a disk of kind {kind}");

    private static (DiskKind Kind, string What) KindAndWhat(string origin, string kindAndWhat)
    {
        int colon = kindAndWhat.IndexOf(':', StringComparison.Ordinal);
        if (colon < 0)
        {
            throw new SpecException($"{origin}: a disk is {DiskForm}. Kinds are: {KindNames}; for an image, file:{kindAndWhat}");
        }

        string name = kindAndWhat[..colon];
        DiskKind kind = DiskKinds.Find(name) ?? throw new SpecException($"{origin}: there is no kind '{name}'. Kinds are: {KindNames}.");
        return (kind, kind.WhatOf(name, kindAndWhat[(colon + 1)..]));
    }

    private DiskSpec Read(string origin, DiskKind kind, string what, IEnumerable<SpecEntry> entries, IReadOnlyList<SpecKey> keys, string whose)
    {
        if (what.Length == 0)
        {
            throw new SpecException($"{origin}: nothing is behind '{kind.Name}:'. It takes {kind.Form}: {kind.Example}");
        }

        DiskSpec spec = defaults with { Origin = origin, Kind = kind, What = what };
        HashSet<SpecKey> seen = [];
        foreach (SpecEntry entry in entries)
        {
            SpecKey key = KeyOf(keys, entry, whose);
            if (!seen.Add(key))
            {
                throw new SpecException($"{entry.Origin}: '{entry.Key}' is given twice. Give it once.");
            }

            spec = Apply(spec, key, entry);
        }

        return (kind.FindFault(spec) ?? StackKeys.FindFault(spec)) is { } fault ? throw new SpecException($"{origin}: {fault}") : spec;
    }

    /// <summary>What one key makes of a specification.</summary>
    /// <exception cref="SpecException">The value is none of the key's.</exception>
    public static DiskSpec Apply(DiskSpec spec, SpecKey key, SpecEntry entry)
    {
        string text = entry.Value ?? (key.IsFlag ? "on" : throw new SpecException($"{entry.Origin}: '{entry.Key}' needs a value: {key.Name}={key.Form}"));
        return key.Set(spec, text) ?? throw new SpecException($"{entry.Origin}: {entry.Key} takes {key.Takes}, not '{text}'.");
    }

    /// <summary>What a key makes of the defaults for disks of any kind.</summary>
    /// <exception cref="SpecException">No kind has that key, or the value is none of it.</exception>
    public static DiskSpec ApplyDefault(DiskSpec defaults, SpecEntry entry)
    {
        SpecKey[] keys =
        [
            .. DiskKinds.All.SelectMany(kind => kind.Keys).Except([SocketKeys.Id, SocketKeys.Socket, SocketKeys.Descriptor]).Distinct(), .. DeviceKeys.Features,
        ];
        return Apply(defaults, KeyOf(keys, entry, "defaults"), entry);
    }

    private static string KindNames => string.Join(", ", DiskKinds.All);

    private static SpecKey KeyOf(IReadOnlyList<SpecKey> keys, SpecEntry entry, string whose)
    {
        if (keys.FirstOrDefault(key => key.IsNamed(entry.Key)) is { } found)
        {
            return found;
        }

        bool hasFeatures = keys.Any(IsOfFeature);
        throw new SpecException(
            hasFeatures && entry.Key.StartsWith(DeviceKeys.FeaturePrefix, StringComparison.Ordinal)
                ? $"{entry.Origin}: there is no feature '{entry.Key[DeviceKeys.FeaturePrefix.Length..]}'. Names are: {string.Join(", ", FeatureChoices.Names)}."
                : $"{entry.Origin}: there is no key '{entry.Key}' for {whose}. Keys are: {string.Join(", ", keys.Where(key => !IsOfFeature(key)).Concat(hasFeatures ? [AnyFeature] : []))}.");
    }

    private static bool IsOfFeature(SpecKey key) => key.Name.StartsWith(DeviceKeys.FeaturePrefix, StringComparison.Ordinal);
}
