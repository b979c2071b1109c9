using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.Daemon.Specs;

/// <summary>Keys about a disk's health.</summary>
internal static class HealthKeys
{
    private const string FilePrefix = "file:";

    // Arbitrary: oftener than any sensor has something new.
    private static readonly TimeSpan s_shortest = TimeSpan.FromMilliseconds(10);

    public static SpecKey Source { get; } = SpecKey.Text(
        "health",
        "device|off|file:PATH",
        "What tells of the disk's health: the device itself where it does (unless given), nothing, or a file with wear=PERCENT spare=PERCENT temperature=CELSIUS.",
        "file:/run/health/disk0",
        SetSource,
        "device, off, or file:PATH");

    public static SpecKey Warn { get; } = SpecKey.Text(
        "health-warn",
        HealthText.Form,
        "Log a warning when a limit of the disk's health is reached, and when it is left.",
        "wear:80%+temperature:70C",
        (spec, text) => HealthText.TryParse(text) is { } limits ? spec with { Health = spec.Health with { Warn = limits } } : null,
        HealthText.Takes);

    public static SpecKey ReadOnly { get; } = SpecKey.Text(
        "health-read-only",
        HealthText.Form,
        "Let writes fail from a limit of the disk's health on, until it is left again.",
        "wear:100%+spare:5%+temperature:85C:75C",
        (spec, text) => HealthText.TryParse(text) is { } limits ? spec with { Health = spec.Health with { ReadOnly = limits } } : null,
        HealthText.Takes);

    public static SpecKey Interval { get; } = SpecKey.Text(
        "health-interval",
        "TIME",
        "Time from one look at the disk's health to the next; 60s where there are limits, 600s where there are none.",
        "10s",
        (spec, text) => DelayText.TryParseTime(text, out TimeSpan time) && time >= s_shortest ? spec with { Health = spec.Health with { Interval = time } } : null,
        "a time such as 500ms or 60s, 10ms to an hour");

    public static IReadOnlyList<SpecKey> All { get; } = [Source, Warn, ReadOnly, Interval];

    private static DiskSpec? SetSource(DiskSpec spec, string text) => text switch
    {
        "device" => spec with { Health = spec.Health with { Origin = HealthOrigin.Device, Path = null } },
        // Another disk may share the device, and tell its health: this one's guest is not offered it.
        "off" => spec.WithDevice(device => device with { Features = device.Features.With((ulong)BlkFeatures.VIRTIO_BLK_F_LIFETIME, false) }) with
        {
            Health = spec.Health with { Origin = HealthOrigin.Off, Path = null },
        },
        _ => text.StartsWith(FilePrefix, StringComparison.Ordinal) && text.Length > FilePrefix.Length
            ? spec with { Health = spec.Health with { Origin = HealthOrigin.File, Path = text[FilePrefix.Length..] } }
            : null,
    };
}
