using VirtioBlkFlow.Disks.Wrapping;

namespace VirtioBlkFlow.Daemon.Specs;

/// <summary>Keys about how much a disk, or a group of disks, does in a second.</summary>
internal static class ThrottleKeys
{
    public static SpecKey Group { get; } = SpecKey.Text(
        "group",
        "NAME",
        "Share the limits with all disks of this group; one of them says what they are.",
        "tenant-7",
        (spec, text) => spec with { ThrottleGroup = text },
        "a name");

    public static IReadOnlyList<SpecKey> All { get; } =
    [
        Count("iops", "Most requests in a second.", "1000", (limits, count) => limits with { Iops = count }),
        Count("iops-read", "Most reads in a second.", "1000", (limits, count) => limits with { ReadIops = count }),
        Count("iops-write", "Most writes in a second.", "500", (limits, count) => limits with { WriteIops = count }),
        Bytes("bps", "Most bytes in a second.", "100M", (limits, bytes) => limits with { BytesPerSecond = bytes }),
        Bytes("bps-read", "Most bytes read in a second.", "100M", (limits, bytes) => limits with { ReadBytesPerSecond = bytes }),
        Bytes("bps-write", "Most bytes written in a second.", "50M", (limits, bytes) => limits with { WriteBytesPerSecond = bytes }),
        Count("burst", "Requests at once after a rest; a tenth of a second's unless given.", "200", (limits, count) => limits with { BurstRequests = count }),
        Bytes("burst-bytes", "Bytes at once after a rest; a tenth of a second's unless given.", "8M", (limits, bytes) => limits with { BurstBytes = bytes }),
        Group,
    ];

    private static SpecKey Count(string name, string meaning, string example, Func<ThrottleLimits, ulong, ThrottleLimits> set) => SpecKey.Number(
        name, "N", (1, uint.MaxValue), meaning, example, (spec, count) => spec with { Throttle = set(spec.Throttle ?? new ThrottleLimits(), count) });

    private static SpecKey Bytes(string name, string meaning, string example, Func<ThrottleLimits, ulong, ThrottleLimits> set) => SpecKey.Size(
        name, meaning, example, (spec, bytes) => spec with { Throttle = set(spec.Throttle ?? new ThrottleLimits(), bytes) });
}
