using System.Globalization;

namespace VirtioBlkFlow.Benchmarks.Compare;

/// <summary>What stores the sectors of a cell.</summary>
internal enum DiskKind
{
    /// <summary>Nothing: requests are answered at once.</summary>
    Null,

    /// <summary>Memory of the server.</summary>
    Memory,

    /// <summary>A file in the page cache.</summary>
    Cache,

    /// <summary>The same file with O_DIRECT.</summary>
    Direct,
}

/// <summary>One cell of the comparison: a disk and a load. Immutable.</summary>
/// <param name="Disk">What stores the sectors.</param>
/// <param name="Pattern">fio's name: read, write, randread, randwrite.</param>
/// <param name="BlockBytes">Bytes of a request.</param>
/// <param name="Depth">Requests in flight.</param>
/// <param name="ServerPolls">Whether our server is told never to sleep; a peer does what it does.</param>
/// <param name="ClientSleeps">Whether the client waits for calls instead of looking at the ring.</param>
internal sealed record Cell(DiskKind Disk, string Pattern, int BlockBytes, int Depth, bool ServerPolls = false, bool ClientSleeps = false)
{
    /// <summary>Whether it needs the test file.</summary>
    public bool NeedsFile => Disk is DiskKind.Cache or DiskKind.Direct;

    /// <summary>Whether it writes.</summary>
    public bool Writes => Pattern.EndsWith("write", StringComparison.Ordinal);

    /// <summary>The name in results, and for choosing: disk-pattern-size-qdN.</summary>
    public string Name => string.Create(
        CultureInfo.InvariantCulture,
        $"{Disk.ToString().ToLowerInvariant()}-{Pattern}-{BlockBytes / 1024}k-qd{Depth}{(ServerPolls ? "-poll" : "")}{(ClientSleeps ? "-sleep" : "")}");

    /// <summary>Options of <c>vblkflow bench</c> that make this load.</summary>
    public IEnumerable<string> BenchOptions() =>
    [
        "--rw", Pattern, "--block-size", Number(BlockBytes), "--queue-depth", Number(Depth), "--wait", ClientSleeps ? "sleep" : "poll",
        .. Writes ? (string[])["--allow-writes"] : [],
    ];

    /// <summary>A number as an option has it.</summary>
    public static string Number(int value) => value.ToString(CultureInfo.InvariantCulture);
}

/// <summary>The cells there are.</summary>
internal static class CellTable
{
    private static readonly int[] s_depths = [1, 8, 32, 128];

    /// <summary>All of them, in the order they run.</summary>
    public static IReadOnlyList<Cell> Full { get; } =
    [
        .. s_depths.Select(depth => new Cell(DiskKind.Null, "randread", 4096, depth)),
        .. s_depths.Select(depth => new Cell(DiskKind.Null, "randread", 4096, depth, ServerPolls: true)),
        .. s_depths.Select(depth => new Cell(DiskKind.Cache, "randread", 4096, depth)),
        .. s_depths.Select(depth => new Cell(DiskKind.Cache, "randwrite", 4096, depth)),
        new Cell(DiskKind.Cache, "read", 128 << 10, 16),
        new Cell(DiskKind.Cache, "write", 128 << 10, 16),
        new Cell(DiskKind.Cache, "read", 4096, 32),
        new Cell(DiskKind.Cache, "randread", 4096, 1, ClientSleeps: true),
        .. s_depths.Select(depth => new Cell(DiskKind.Direct, "randread", 4096, depth)),
        .. s_depths.Select(depth => new Cell(DiskKind.Direct, "randwrite", 4096, depth)),
        .. s_depths.Select(depth => new Cell(DiskKind.Direct, "randread", 4096, depth, ServerPolls: true)),
        new Cell(DiskKind.Memory, "randread", 4096, 32),
        new Cell(DiskKind.Memory, "randread", 128 << 10, 16),
    ];

    /// <summary>Those of two minutes.</summary>
    public static IReadOnlyList<Cell> Quick { get; } =
    [
        new Cell(DiskKind.Null, "randread", 4096, 32),
        new Cell(DiskKind.Cache, "randread", 4096, 1),
        new Cell(DiskKind.Cache, "randread", 4096, 32),
    ];

    /// <summary>Chooses: quick, full, or names or beginnings of names, separated by commas.</summary>
    /// <exception cref="CompareException">A beginning fits no cell.</exception>
    public static IReadOnlyList<Cell> Choose(string choice) => choice switch
    {
        "quick" => Quick,
        "full" => Full,
        _ => [.. NamesFor(choice, [.. Full.Select(cell => cell.Name)]).Select(name => Full.First(cell => cell.Name == name))],
    };

    /// <summary>Chooses names by names or their beginnings, separated by commas; a name that is there in full means no other.</summary>
    /// <exception cref="CompareException">A beginning fits no name.</exception>
    public static IEnumerable<string> NamesFor(string choice, IReadOnlyList<string> names) =>
        choice.Split(',').SelectMany(prefix => Beginning(prefix, names)).Distinct();

    private static string[] Beginning(string prefix, IReadOnlyList<string> names)
    {
        string[] fitting = names.Contains(prefix) ? [prefix] : [.. names.Where(name => name.StartsWith(prefix, StringComparison.Ordinal))];
        return fitting.Length > 0 && prefix.Length > 0
            ? fitting
            : throw new CompareException($"No cell's name begins with '{prefix}'. Names are: {string.Join(", ", names)}.");
    }
}

/// <summary>The comparison cannot be made as asked; the message says why.</summary>
internal sealed class CompareException(string message) : Exception(message);
