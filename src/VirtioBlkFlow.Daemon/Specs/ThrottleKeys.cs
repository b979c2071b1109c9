using VirtioBlkFlow.Disks.Wrapping;

namespace VirtioBlkFlow.Daemon.Specs;

/// <summary>One of the limits of a throttle.</summary>
/// <param name="Name">As it is written everywhere.</param>
/// <param name="IsBytes">Whether it counts bytes, which may be written with K, M, G or T.</param>
/// <param name="Meaning">One sentence.</param>
/// <param name="Example">A value that works.</param>
/// <param name="Of">Its value.</param>
/// <param name="With">The limits with another value; null for none.</param>
internal sealed record ThrottleLimit(
    string Name, bool IsBytes, string Meaning, string Example, Func<ThrottleLimits, ulong?> Of, Func<ThrottleLimits, ulong?, ThrottleLimits> With);

/// <summary>Keys about how much a disk does in a second.</summary>
internal static class ThrottleKeys
{
    private static readonly ThrottleLimits s_none = new();

    /// <summary>The limits there are, with the names that command line, configuration file and control socket know them by.</summary>
    public static IReadOnlyList<ThrottleLimit> Limits { get; } =
    [
        new("iops", false, "Most requests in a second.", "1000", limits => limits.Iops, (limits, count) => limits with { Iops = count }),
        new("iops-read", false, "Most reads in a second.", "1000", limits => limits.ReadIops, (limits, count) => limits with { ReadIops = count }),
        new("iops-write", false, "Most writes in a second.", "500", limits => limits.WriteIops, (limits, count) => limits with { WriteIops = count }),
        new("bps", true, "Most bytes in a second.", "100M", limits => limits.BytesPerSecond, (limits, bytes) => limits with { BytesPerSecond = bytes }),
        new("bps-read", true, "Most bytes read in a second.", "100M", limits => limits.ReadBytesPerSecond, (limits, bytes) => limits with { ReadBytesPerSecond = bytes }),
        new("bps-write", true, "Most bytes written in a second.", "50M", limits => limits.WriteBytesPerSecond, (limits, bytes) => limits with { WriteBytesPerSecond = bytes }),
        new("burst", false, "Requests at once after a rest; a tenth of a second's unless given.", "200", limits => limits.BurstRequests, (limits, count) => limits with { BurstRequests = count }),
        new("burst-bytes", true, "Bytes at once after a rest; a tenth of a second's unless given.", "8M", limits => limits.BurstBytes, (limits, bytes) => limits with { BurstBytes = bytes }),
    ];

    public static SpecKey Group { get; } = SpecKey.Text(
        "group",
        "NAME",
        "Share the limits with all disks of this name; they are given with one of them.",
        "tenant-7",
        (spec, text) => spec with { ThrottleGroup = text },
        "a name");

    public static SpecKey Ready { get; } = SpecKey.Flag(
        "throttle",
        "Be ready for limits that are given while the program runs, also if there are none at the start.",
        "on",
        (spec, on) => on ? spec with { Throttle = spec.Throttle ?? s_none } : spec.Throttle == s_none ? spec with { Throttle = null } : spec);

    /// <summary>One for each of <see cref="Limits"/>.</summary>
    private static readonly SpecKey[] s_limitKeys = [.. Limits.Select(KeyOf)];

    public static IReadOnlyList<SpecKey> All { get; } = [.. s_limitKeys, Group, Ready];

    /// <summary>Reads the value of a limit.</summary>
    public static bool TryParse(ThrottleLimit limit, string text, out ulong value) =>
        limit.IsBytes ? ValueText.TryParseSize(text, out value) && value > 0 : ValueText.TryParseCount(text, out value) && value is > 0 and <= uint.MaxValue;

    /// <summary>What the value of a limit looks like; it follows "takes".</summary>
    public static string TakesOf(ThrottleLimit limit) => KeyOf(limit).Takes;

    /// <summary>What is wrong with limits that were given together, as the rest of a sentence; null for nothing.</summary>
    public static string? FindFault(ThrottleLimits limits)
    {
        bool limitsRequests = (limits.Iops ?? limits.ReadIops ?? limits.WriteIops) is not null;
        bool limitsBytes = (limits.BytesPerSecond ?? limits.ReadBytesPerSecond ?? limits.WriteBytesPerSecond) is not null;
        return limits.BurstRequests is not null && !limitsRequests ? "burst goes with iops, iops-read or iops-write: give one of them too."
            : limits.BurstBytes is not null && !limitsBytes ? "burst-bytes goes with bps, bps-read or bps-write: give one of them too."
            : null;
    }

    private static SpecKey KeyOf(ThrottleLimit limit)
    {
        DiskSpec Set(DiskSpec spec, ulong value) => spec with { Throttle = limit.With(spec.Throttle ?? s_none, value) };
        return limit.IsBytes ? SpecKey.Size(limit.Name, limit.Meaning, limit.Example, Set)
            : SpecKey.Number(limit.Name, "N", (1, uint.MaxValue), limit.Meaning, limit.Example, Set);
    }
}
