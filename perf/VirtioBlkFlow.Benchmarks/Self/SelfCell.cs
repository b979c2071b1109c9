using System.Globalization;
using VirtioBlkFlow.Benchmarks.Compare;

namespace VirtioBlkFlow.Benchmarks.Self;

/// <summary>Our server beside itself with one thing changed. Immutable.</summary>
/// <param name="Name">In results, and for choosing.</param>
/// <param name="Changed">What is changed, in a sentence.</param>
/// <param name="Variants">The base first.</param>
/// <param name="Goals">What the ratio of every other one to the base has to be; none where it is for information.</param>
internal sealed record SelfCell(string Name, string Changed, IReadOnlyList<SelfVariant> Variants, params IReadOnlyList<RatioGoal> Goals)
{
    /// <summary>Who ratios are of.</summary>
    public SelfVariant Base => Variants[0];

    /// <summary>Most bytes of memory that each neighbour may cost; null where there are none, or no bound.</summary>
    public double? MostBytesPerNeighbour { get; init; }
}

/// <summary>The cells there are.</summary>
internal static class SelfCellTable
{
    /// <summary>Disks beside the one that is busy.</summary>
    public const int NeighbourCount = 63;

    // "Constant" and "within 5 %" of the goals, and their "at most 2 %".
    private const double Nearly = 1.05;
    private const double Hardly = 1.02;

    private const long OneGibibyte = 1L << 30;
    private const long EightTebibytes = 8L << 40;
    private const long RangeBytes = 64 << 20;

    /// <summary>All of them, in the order they run.</summary>
    public static IReadOnlyList<SelfCell> All { get; } =
    [
        Merging(),
        .. from disk in (DiskKind[])[DiskKind.Null, DiskKind.Cache]
           from depth in (int[])[1, 32]
           from sleeps in (bool[])[false, true]
           select SharedCore(new Cell(disk, "randread", 4096, depth, ClientSleeps: sleeps)),
        .. ((int[])[1, 8, 32]).Select(depth => Poll(NullReads(depth))),
        SizeOfNull(),
        SizeOfSparse(),
        SizeOfSparseRead(),
        QueueSize(),
        Queues(),
        Neighbours(),
        .. ((int[])[1, 32]).Select(depth => Registered(new Cell(DiskKind.Cache, "randread", 4096, depth))),
        StageLatency(),
        Memory(new Cell(DiskKind.Memory, "randread", 4096, 32)),
        Memory(new Cell(DiskKind.Memory, "randread", 128 << 10, 16)),
    ];

    private static RatioGoal[] ConstantCost => [new(Figure.CpuPerRequest, Bound.AtMost(Nearly))];

    private static Cell NullReads(int depth) => new(DiskKind.Null, "randread", 4096, depth);

    private static SelfCell Merging()
    {
        var load = new Cell(DiskKind.Cache, "read", 4096, 32);
        return new SelfCell(
            "merging",
            "adjacent requests become one, in the place of one by one",
            [new SelfVariant("merge-off", load, "--merge off"), new SelfVariant("merge-on", load)],
            new RatioGoal(Figure.Iops, Bound.AtLeast(1.5)));
    }

    private static SelfCell SharedCore(Cell load) => new(
        $"shared-core-{load.Disk.ToString().ToLowerInvariant()}-qd{load.Depth}-{(load.ClientSleeps ? "sleep" : "poll")}",
        $"spins before it sleeps, on the processor of a client that {(load.ClientSleeps ? "sleeps" : "polls")}",
        [
            new SelfVariant("no-poll", load, "--no-poll") { Placement = Placement.Together },
            new SelfVariant("adaptive", load) { Placement = Placement.Together },
        ],
        new RatioGoal(Figure.Iops, Bound.AtLeast(0.95)));

    private static SelfCell Poll(Cell load) => new(
        $"poll-qd{load.Depth}", "never sleeps", [new SelfVariant("adaptive", load), new SelfVariant("poll", load, "--poll")]);

    private static SelfCell SizeOfNull() => new(
        "size-null",
        "a disk of 8 TiB in the place of 1 GiB",
        [new SelfVariant("1-gib", NullReads(32), Disk: "--disk null:1G"), new SelfVariant("8-tib", NullReads(32), Disk: "--disk null:8T")],
        ConstantCost);

    // The same number of pages in the cache on both sides: what is read is the end of the file.
    private static SelfCell SizeOfSparse() => new(
        "size-sparse",
        $"the last {RangeBytes >> 20} MiB of a file without data, of 8 TiB in the place of 1 GiB",
        [Sparse("1-gib", OneGibibyte, isEnd: true), Sparse("8-tib", EightTebibytes, isEnd: true)],
        ConstantCost);

    // The cache has room for the smaller one and never for the larger one, so that this is the kernel's cost of a page more than ours.
    private static SelfCell SizeOfSparseRead() => new(
        "size-uncached", "all of a file without data, of 8 TiB in the place of 1 GiB", [Sparse("1-gib", OneGibibyte, isEnd: false), Sparse("8-tib", EightTebibytes, isEnd: false)]);

    private static SelfVariant Sparse(string name, long bytes, bool isEnd) =>
        new(name, new Cell(DiskKind.Cache, "randread", 4096, 32), Disk: "--blk-file {sparse} --no-lock")
        {
            SparseBytes = bytes,
            BenchOptions = isEnd ? ["--offset", (bytes - RangeBytes).ToString(CultureInfo.InvariantCulture)] : [],
        };

    private static SelfCell QueueSize() => new(
        "queue-size",
        "larger rings",
        [.. ((int[])[16, 64, 256, 1024]).Select(size => new SelfVariant($"size-{size}", NullReads(8)) { BenchOptions = ["--queue-size", Cell.Number(size)] })],
        ConstantCost);

    // With a client that sleeps: one that polls would want a processor for each queue.
    private static SelfCell Queues() => new(
        "queues",
        "more queues, each with the same load, on all processors",
        [
            .. ((int[])[1, 2, 4, 16]).Select(count => new SelfVariant($"queues-{count}", NullReads(8) with { ClientSleeps = true }, $"--num-queues {count}")
            {
                BenchOptions = ["--queues", Cell.Number(count)],
                Placement = Placement.Free,
            }),
        ],
        ConstantCost);

    private static SelfCell Neighbours()
    {
        // With neighbours its socket is a part of the disk; it comes last, so that all of them are there when it is.
        const string Disk = $"--disk null:{Contestant.Size},socket={{socket}}";
        return new SelfCell(
            "neighbours",
            $"{NeighbourCount} more disks in the process, of which none is busy",
            [
                new SelfVariant("1-disk", NullReads(32), Disk: $"--disk null:{Contestant.Size}"),
                new SelfVariant("64-disks", NullReads(32), Disk: Disk) { Neighbourhood = Neighbourhood.Unused },
                new SelfVariant("64-attached", NullReads(32), Disk: Disk) { Neighbourhood = Neighbourhood.Attached },
            ],
            new RatioGoal(Figure.Iops, Bound.AtLeast(1 - (Nearly - 1))),
            new RatioGoal(Figure.CpuPerRequest, Bound.AtMost(Nearly)))
        {
            MostBytesPerNeighbour = 1.5e6,
        };
    }

    private static SelfCell Registered(Cell load) => new(
        $"registered-qd{load.Depth}",
        "the guest's memory is registered with the kernel",
        [new SelfVariant("unregistered", load), new SelfVariant("registered", load, "--register-memory")]);

    private static SelfCell StageLatency() => new(
        "stage-latency",
        "requests are timed stage by stage as by default",
        [new SelfVariant("off", NullReads(32), "--stage-latency off"), new SelfVariant("on", NullReads(32))],
        new RatioGoal(Figure.CpuPerRequest, Bound.AtMost(Hardly)));

    private static SelfCell Memory(Cell load) => new(
        $"memory-{load.BlockBytes / 1024}k",
        "a memory disk full of data, in the place of copying alone",
        [new SelfVariant("copying", load) { IsCopying = true }, new SelfVariant("memory", load) { IsFilled = true }],
        new RatioGoal(Figure.Iops, Bound.AtLeast(1)));
}
