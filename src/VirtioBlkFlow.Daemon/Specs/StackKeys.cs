using VirtioBlkFlow.Disks.Presented;
using VirtioBlkFlow.Disks.Wrapping;

namespace VirtioBlkFlow.Daemon.Specs;

/// <summary>Keys about what lies between a disk of any kind and its device.</summary>
internal static class StackKeys
{
    // File offsets are signed in Linux, and a sector has 512 bytes.
    private const ulong MostSectors = long.MaxValue / 512;

    public static SpecKey ReadOnly { get; } = SpecKey.Flag(
        "ro", "The guest may not write.", "on", (spec, on) => spec with { ReadOnly = on }, "readonly", "read-only");

    public static SpecKey Range { get; } = new()
    {
        Name = "range",
        Form = "START/SECTORS",
        Takes = "a first sector and a number of sectors of 512 bytes, START/SECTORS; without the second, all to the end",
        Meaning = "Serve only this part, in sectors of 512 bytes; nothing outside is touched.",
        Example = "2048/65536",
        Set = (spec, text) =>
            ValueText.TryParsePair(text, "/", out ulong start, out ulong? count) && start <= MostSectors && count is null or (> 0 and <= MostSectors)
                ? spec with { Range = new RangeDiskOptions(start, count) }
                : null,
    };

    public static SpecKey SectorSize { get; } = new()
    {
        Name = "sectorsize",
        Form = "LOGICAL[/PHYSICAL]",
        Takes = $"powers of two from 512 to {BlockSizes.MaxBytes} bytes, LOGICAL[/PHYSICAL], the second not below the first",
        Meaning = "Sizes of the sectors that the guest sees; the physical one is the logical one unless given.",
        Example = "512/4096",
        Set = (spec, text) =>
            ValueText.TryParsePair(text, "/", out ulong logical, out ulong? physical)
            && BlockSizes.IsBlockSize(logical) && BlockSizes.IsBlockSize(physical ?? logical) && (physical ?? logical) >= logical
                ? spec with { BlockSizes = new BlockSizes((uint)logical, (uint)(physical ?? logical)) }
                : null,
    };

    public static SpecKey Faults { get; } = SpecKey.Text(
        "faults",
        FaultText.Form,
        "Let requests fail, wait or hang on purpose, for tests of guests.",
        FaultText.Example,
        (spec, text) => FaultText.TryParse(text) is { } rules ? spec with { Faults = rules } : null,
        FaultText.Takes);

    public static SpecKey FaultSeed { get; } = SpecKey.Number(
        "fault-seed",
        "N",
        (0, int.MaxValue),
        "Where the chances of faults and delays come from; logged, and another one at each start, unless given.",
        "42",
        (spec, seed) => spec with { FaultSeed = (int)seed });

    public static SpecKey Errors { get; } = SpecKey.Text(
        "errors",
        ErrorText.Form,
        "What the guest hears of errors of the storage; what is held is tried again after SIGHUP.",
        "retry:5:200ms",
        (spec, text) => ErrorText.TryParse(text) is { } policy ? spec with { Errors = policy } : null,
        ErrorText.Form);

    public static IReadOnlyList<SpecKey> All { get; } = [ReadOnly, Range, SectorSize, .. ThrottleKeys.All, Faults, FaultSeed, Errors, .. HealthKeys.All, .. RefreshKeys.All];

    /// <summary>Those that make sense for a part of a composite disk.</summary>
    public static IReadOnlyList<SpecKey> OfParts { get; } = [ReadOnly, Range, Faults, FaultSeed];

    /// <summary>What is wrong with what was given together, as the rest of a sentence; null for nothing.</summary>
    public static string? FindFault(DiskSpec spec)
    {
        if (spec.Range is not null && spec.Zones is not null)
        {
            return "range and zones exclude each other: give one of them.";
        }

        if (spec.BlockSizes is not null && spec.Zones is not null)
        {
            return "sectorsize and zones exclude each other: give one of them.";
        }

        return (spec.Throttle is { } limits ? ThrottleKeys.FindFault(limits) : null) ?? RefreshKeys.FindFault(spec);
    }
}
