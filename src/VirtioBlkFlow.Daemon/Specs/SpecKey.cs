namespace VirtioBlkFlow.Daemon.Specs;

/// <summary>Something that can be said about a disk: a name, a value, and what the value changes in what is wanted of the disk.</summary>
internal sealed record SpecKey
{
    public required string Name { get; init; }

    /// <summary>Other names of it.</summary>
    public IReadOnlyList<string> Aliases { get; init; } = [];

    /// <summary>The value in short, for a list of keys: "N", "on|off".</summary>
    public required string Form { get; init; }

    /// <summary>The value in words, for who gave another: it follows "takes".</summary>
    public required string Takes { get; init; }

    /// <summary>One sentence.</summary>
    public required string Meaning { get; init; }

    /// <summary>A value that works.</summary>
    public required string Example { get; init; }

    /// <summary>Whether the name alone means on.</summary>
    public bool IsFlag { get; init; }

    /// <summary>The same disk with this value; null if it is no value of this key.</summary>
    public required Func<DiskSpec, string, DiskSpec?> Set { get; init; }

    /// <summary>As it can be written.</summary>
    public string ExampleText => IsFlag && Example == "on" ? Name : $"{Name}={Example}";

    public bool IsNamed(string name) => name == Name || Aliases.Contains(name);

    public override string ToString() => Name;

    public static SpecKey Flag(
        string name, string meaning, string example, Func<DiskSpec, bool, DiskSpec> set, params string[] aliases) => new()
        {
            Name = name,
            Aliases = aliases,
            Form = "on|off",
            Takes = "on or off",
            Meaning = meaning,
            Example = example,
            IsFlag = true,
            Set = (spec, text) => text switch
            {
                "on" => set(spec, true),
                "off" => set(spec, false),
                _ => null,
            },
        };

    public static SpecKey Number(
        string name, string form, (ulong Smallest, ulong Largest) range, string meaning, string example, Func<DiskSpec, ulong, DiskSpec> set) => new()
        {
            Name = name,
            Form = form,
            Takes = $"{range.Smallest} to {range.Largest}",
            Meaning = meaning,
            Example = example,
            Set = (spec, text) => ValueText.TryParseCount(text, out ulong number) && number >= range.Smallest && number <= range.Largest
                ? set(spec, number)
                : null,
        };

    /// <summary>Bytes, at least one.</summary>
    public static SpecKey Size(string name, string meaning, string example, Func<DiskSpec, ulong, DiskSpec?> set) => new()
    {
        Name = name,
        Form = "SIZE",
        Takes = "bytes, or a number with K, M, G or T",
        Meaning = meaning,
        Example = example,
        Set = (spec, text) => ValueText.TryParseSize(text, out ulong bytes) && bytes > 0 ? set(spec, bytes) : null,
    };

    public static SpecKey Choice<T>(
        string name, string meaning, IReadOnlyList<(string Word, T Value)> words, Func<DiskSpec, T, DiskSpec> set) => new()
        {
            Name = name,
            Form = string.Join('|', words.Select(word => word.Word)),
            Takes = string.Join(" or ", words.Select(word => word.Word)),
            Meaning = meaning,
            Example = words[^1].Word,
            Set = (spec, text) => words.FirstOrDefault(word => word.Word == text) is { Word: not null } chosen ? set(spec, chosen.Value) : null,
        };

    /// <summary>Any text that is not empty.</summary>
    public static SpecKey Text(string name, string form, string meaning, string example, Func<DiskSpec, string, DiskSpec?> set, string takes) => new()
    {
        Name = name,
        Form = form,
        Takes = takes,
        Meaning = meaning,
        Example = example,
        Set = (spec, text) => text.Length > 0 ? set(spec, text) : null,
    };
}
