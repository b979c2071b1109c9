using Microsoft.Extensions.Logging;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Memory;

namespace VirtioBlkFlow.Daemon.Specs;

/// <summary>A disk in the host's memory.</summary>
internal sealed class MemoryKind : DiskKind
{
    public override string Name => "memory";

    public override string Form => "SIZE";

    public override string Meaning => "A disk in memory, empty at the start; alone, or shared with programs of the host.";

    public override string Example => "memory:64M,shm=scratch";

    public override IReadOnlyList<SpecKey> OwnKeys { get; } =
    [
        SpecKey.Text(
            "shm",
            "NAME",
            "Keep it in the shared memory object of this name, /dev/shm/NAME, for others to map; what is there already is kept.",
            "scratch",
            (spec, text) => text.Contains('/', StringComparison.Ordinal) ? null : spec.WithMemory(memory => memory with { SharedName = text }),
            "a name without slashes"),
        SpecKey.Number(
            "memfd",
            "N",
            (0, int.MaxValue),
            "Keep it in the shared memory of this inherited descriptor, of memfd_create(2) or shm_open(3); what is there already is kept.",
            "5",
            (spec, number) => spec.WithMemory(memory => memory with { Descriptor = (int)number })),
        SpecKey.Flag("keep", "Leave the shared memory object behind at the end.", "on", (spec, on) => spec.WithMemory(memory => memory with { KeepShared = on })),
        SpecKey.Choice(
            "huge-pages",
            "Which pages it is made of: any, huge ones where there are some, or ones of 2 MiB from the host's reserve.",
            [("none", HugePages.None), ("transparent", HugePages.Transparent), ("2M", HugePages.TwoMegabytes)],
            (spec, pages) => spec.WithMemory(memory => memory with { HugePages = pages })),
    ];

    public override string? FindFault(DiskSpec spec)
    {
        if (!ValueText.TryParseSize(spec.What, out _))
        {
            return $"'{spec.What}' is no size. It takes bytes, or a number with K, M, G or T: {Example}";
        }

        if (spec.Memory.Descriptor is not null && (spec.Memory.SharedName is not null || spec.Memory.HugePages != HugePages.None))
        {
            return "memory of a descriptor is what it is: leave out shm and huge-pages.";
        }

        return spec.Memory.KeepShared && spec.Memory.SharedName is null ? "only shared memory can be kept: give shm=NAME too." : null;
    }

    public override string? StorageOf(DiskSpec spec) =>
        spec.Memory.SharedName is { } name ? $"shm {name}" : spec.Memory.Descriptor is { } descriptor ? $"memfd {descriptor}" : null;

    public override string? ObstacleToRewrite(DiskSpec spec) =>
        spec.Memory is { SharedName: null, Descriptor: null } ? null
        : $"Others may write to shared memory, and would lose what they write: leave out {(spec.Memory.SharedName is null ? "memfd" : "shm")}.";

    public override IDisk Open(DiskSpec spec, ILogger logger)
    {
        _ = ValueText.TryParseSize(spec.What, out ulong bytes);
        return MemoryDisk.Open(spec.Memory with { SizeBytes = bytes });
    }
}
