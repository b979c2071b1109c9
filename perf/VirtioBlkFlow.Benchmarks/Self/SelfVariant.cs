using VirtioBlkFlow.Benchmarks.Compare;

namespace VirtioBlkFlow.Benchmarks.Self;

/// <summary>Where server and client run.</summary>
internal enum Placement
{
    /// <summary>Each on the processors given for it.</summary>
    AsGiven,

    /// <summary>Both on one processor, the first of the server's.</summary>
    Together,

    /// <summary>Wherever the scheduler puts them.</summary>
    Free,
}

/// <summary>Who else is served by the same process.</summary>
internal enum Neighbourhood
{
    /// <summary>Nobody.</summary>
    None,

    /// <summary>Disks that nobody uses.</summary>
    Unused,

    /// <summary>Disks, each with a driver that has started its queue and asks for nothing.</summary>
    Attached,
}

/// <summary>One way to start our server in a cell, with the load on it. Immutable.</summary>
/// <param name="Name">In results.</param>
/// <param name="Load">The load; its disk is what is served unless <paramref name="Disk"/> says otherwise.</param>
/// <param name="Options">More options of the server.</param>
/// <param name="Disk">Options that make the disk, with {file}, {sparse}, {bytes} and {socket}; null for those of the load's disk.</param>
internal sealed record SelfVariant(string Name, Cell Load, string Options = "", string? Disk = null)
{
    /// <summary>More options of <c>vblkflow bench</c>.</summary>
    public IReadOnlyList<string> BenchOptions { get; init; } = [];

    /// <summary>Where both run.</summary>
    public Placement Placement { get; init; }

    /// <summary>Who else is served.</summary>
    public Neighbourhood Neighbourhood { get; init; }

    /// <summary>Apparent size of the file without data that {sparse} stands for; 0 for none.</summary>
    public long SparseBytes { get; init; }

    /// <summary>Whether all of the disk is written before it is measured.</summary>
    public bool IsFilled { get; init; }

    /// <summary>Whether it is no server but the copying alone that a memory disk cannot do without.</summary>
    public bool IsCopying { get; init; }

    private string DiskOptions => Disk ?? Load.Disk switch
    {
        DiskKind.Null => $"--disk null:{Contestant.Size}",
        DiskKind.Memory => "--disk memory:{bytes}",
        DiskKind.Direct => "--blk-file {file} --no-lock --direct",
        // The kernel lets go of a file some time after the process that had it in an io_uring, and so of its locks.
        _ => "--blk-file {file} --no-lock",
    };

    /// <summary>The command, with what is to be filled in.</summary>
    /// <param name="program">Our program, quoted where that is needed.</param>
    public string Command(string program)
    {
        string socket = Neighbourhood == Neighbourhood.None ? "--socket-path {socket} " : "{neighbours} ";
        return $"{program} {socket}{DiskOptions} --cache writeback {Options}".TrimEnd();
    }

    /// <summary>The command as results have it.</summary>
    public string Describe() => IsCopying
        ? $"copy of {Load.BlockBytes} bytes from anywhere in {{bytes}} bytes to {Load.Depth} buffers in turn"
        : $"{Command("vblkflow")}; bench {string.Join(' ', Load.BenchOptions().Concat(BenchOptions))}";
}
