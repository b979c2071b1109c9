using Microsoft.Extensions.Logging;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Null;
using VirtioBlkFlow.Disks.Wrapping;

namespace VirtioBlkFlow.Daemon.Specs;

/// <summary>A disk that keeps nothing.</summary>
internal sealed class NullKind : DiskKind
{
    public override string Name => "null";

    public override string Form => "SIZE";

    public override string Meaning => "A disk that keeps nothing and ends every request at once, or after a delay, for studies.";

    public override string Example => "null:1G,zeroes";

    public override IReadOnlyList<SpecKey> OwnKeys { get; } =
    [
        SpecKey.Flag(
            "zeroes",
            "A read returns zeros; without it, it leaves the guest's memory as it was.",
            "on",
            (spec, on) => spec.WithNull(disk => disk with { ReadZeroes = on })),
        SpecKey.Text(
            "delay",
            DelayText.Form,
            "How long each request takes: a time, any between two, or exponential ones around a mean.",
            "50us-200us",
            (spec, text) => DelayText.TryParse(text, out DelayDistribution? delay) ? spec.WithNull(disk => disk with { Delay = delay }) : null,
            DelayText.Takes),
    ];

    public override string? FindFault(DiskSpec spec) =>
        ValueText.TryParseSize(spec.What, out _) ? null : $"'{spec.What}' is no size. It takes bytes, or a number with K, M, G or T: {Example}";

    public override string? ObstacleToRewrite(DiskSpec spec) => null;

    public override IDisk Open(DiskSpec spec, ILogger logger)
    {
        _ = ValueText.TryParseSize(spec.What, out ulong bytes);
        return NullDisk.Open(spec.Null with { SizeBytes = bytes, Seed = spec.FaultSeed ?? Random.Shared.Next() });
    }
}
