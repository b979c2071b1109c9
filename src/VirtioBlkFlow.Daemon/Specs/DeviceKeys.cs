using VirtioBlkFlow.Device;
using VirtioBlkFlow.Device.Pipeline;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.Daemon.Specs;

/// <summary>Keys about the device in front of a disk, whatever the disk is.</summary>
internal static class DeviceKeys
{
    /// <summary>What the names of feature keys begin with.</summary>
    public const string FeaturePrefix = "feature.";

    public static SpecKey Cache { get; } = SpecKey.Choice(
        "cache",
        "When a write is durable: before it completes, or after the next flush.",
        [("writethrough", CacheMode.Writethrough), ("writeback", CacheMode.Writeback)],
        (spec, mode) => spec.WithDevice(device => device with { Cache = mode }));

    public static SpecKey Serial { get; } = new()
    {
        Name = "serial",
        Form = "TEXT",
        Takes = $"at most {ParseBlock.IdBytes} printable ASCII characters",
        Meaning = $"Serial number that the guest sees, at most {ParseBlock.IdBytes} ASCII characters.",
        Example = "data-1",
        Set = (spec, text) => text.Length <= ParseBlock.IdBytes && text.All(character => character is >= ' ' and <= '~') ? spec with { Serial = text } : null,
    };

    public static SpecKey QueueCount { get; } = SpecKey.Number(
        "num-queues",
        "N",
        (1, BlkDeviceOptions.MaxQueueCount),
        "Request queues to offer. QEMU wants one for each vCPU; unused ones cost nothing.",
        "4",
        (spec, count) => spec.WithDevice(device => device with { QueueCount = (int)count }));

    public static SpecKey Parallelism { get; } = SpecKey.Number(
        "parallelism",
        "N",
        (1, BlkDeviceOptions.MaxParallelism),
        "Batches of requests in flight for each queue.",
        "16",
        (spec, count) => spec.WithDevice(device => device with { Parallelism = (int)count }));

    public static SpecKey SegMax { get; } = SpecKey.Number(
        "seg-max",
        "N",
        (1, BlkDeviceOptions.MaxSegMax),
        "Most data segments in a request.",
        "254",
        (spec, count) => spec.WithDevice(device => device with { SegMax = (uint)count }));

    public static SpecKey SizeMax { get; } = SpecKey.Number(
        "size-max",
        "BYTES",
        (BlkDeviceOptions.MinSizeMax, uint.MaxValue),
        "Ask for segments of at most so many bytes. Default: no limit.",
        "65536",
        (spec, bytes) => spec.WithDevice(device => device with { SizeMax = (uint)bytes }));

    public static SpecKey DiscardMax { get; } = Segments(
        "discard-max", "DISCARD", (spec, limits) => spec.WithDevice(device => device with { Discard = limits }));

    public static SpecKey WriteZeroesMax { get; } = Segments(
        "write-zeroes-max", "WRITE_ZEROES", (spec, limits) => spec.WithDevice(device => device with { WriteZeroes = limits }));

    public static SpecKey SecureEraseMax { get; } = Segments(
        "secure-erase-max", "SECURE_ERASE", (spec, limits) => spec.WithDevice(device => device with { SecureErase = limits }));

    public static SpecKey StageLatency { get; } = SpecKey.Choice(
        "stage-latency",
        "Measure where requests spend their time: in a sample of batches, not at all, or in every batch.",
        [
            ("on", Device.Latency.StageLatency.Sampled),
            ("off", Device.Latency.StageLatency.Off),
            ("all", Device.Latency.StageLatency.All),
        ],
        (spec, mode) => spec.WithDevice(device => device with { StageLatency = mode }));

    public static SpecKey Lint { get; } = SpecKey.Flag(
        "lint",
        "Log what guest and front-end do against the specifications, each rule once in a session.",
        "on",
        (spec, on) => spec.WithDevice(device => device with { Lint = on }));

    public static IReadOnlyList<SpecKey> All { get; } =
        [Cache, Serial, QueueCount, Parallelism, SegMax, SizeMax, DiscardMax, WriteZeroesMax, SecureEraseMax, StageLatency, Lint];

    /// <summary>One for each feature there is.</summary>
    public static IReadOnlyList<SpecKey> Features { get; } = [.. FeatureChoices.Names.Select(FeatureKey)];

    private static SpecKey FeatureKey(string feature)
    {
        _ = FeatureChoices.TryGetBit(feature, out ulong bit);
        return SpecKey.Flag(
            FeaturePrefix + feature,
            "Hide this feature, or insist on it.",
            "off",
            (spec, on) => spec.WithDevice(device => device with { Features = device.Features.With(bit, on) }));
    }

    private static SpecKey Segments(string name, string type, Func<DiskSpec, SegmentLimits, DiskSpec> set) => new()
    {
        Name = name,
        Form = "SECTORS[/SEGMENTS]",
        Takes = $"sectors of 512 bytes, 1 or more, and behind a slash or a comma segments, 1 to {BlkLimits.MaxSegments}",
        Meaning = $"Most sectors in a segment of a {type}, and segments in a request.",
        Example = "65536/8",
        Set = (spec, text) =>
        {
            // The slash is for where a comma would end the value.
            if (!ValueText.TryParsePair(text, "/,", out ulong sectors, out ulong? segments))
            {
                return null;
            }

            ulong most = segments ?? BlkDeviceOptions.DefaultSegments.MaxSegments;
            return sectors is 0 or > uint.MaxValue || most is 0 or > BlkLimits.MaxSegments ? null : set(spec, new SegmentLimits((uint)sectors, (uint)most));
        },
    };
}
