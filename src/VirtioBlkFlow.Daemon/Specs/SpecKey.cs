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

    /// <summary>One word of several; the last is the example.</summary>
    // An array and a loop: the published program compiles at each start what is generic over a value, and of LINQ that is a dozen methods for each key.
    public static SpecKey Choice<T>(string name, string meaning, (string Word, T Value)[] words, Func<DiskSpec, T, DiskSpec> set)
    {
        string[] names = new string[words.Length];
        for (int i = 0; i < words.Length; i++)
        {
            names[i] = words[i].Word;
        }

        return new SpecKey
        {
            Name = name,
            Form = string.Join('|', names),
            Takes = string.Join(" or ", names),
            Meaning = meaning,
            Example = names[^1],
            Set = (spec, text) => Array.IndexOf(names, text) is >= 0 and int place ? set(spec, words[place].Value) : null,
        };
    }

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
