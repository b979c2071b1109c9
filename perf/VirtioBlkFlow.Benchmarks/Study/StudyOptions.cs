using System.CommandLine;

namespace VirtioBlkFlow.Benchmarks.Study;

/// <summary>What the study runs.</summary>
/// <param name="Disks">null, file, or both.</param>
/// <param name="Rounds">Slices of each variant in each cell.</param>
/// <param name="JsonPath">Where the figures go; null for nowhere.</param>
internal sealed record StudyOptions(IReadOnlyList<string> Disks, int Rounds, string? JsonPath)
{
    /// <summary>The disk that costs nothing.</summary>
    public const string NullDisk = "null";

    /// <summary>A file in the page cache.</summary>
    public const string FileDisk = "file";
}

/// <summary>The command line of <c>study</c>.</summary>
internal sealed class StudyCommand
{
    // Arbitrary; each round takes a tenth of a second in each cell.
    private const int MaxRounds = 10_000;

    private readonly Option<string> _disk = new("--disk") { Description = "null, file or both", DefaultValueFactory = _ => "both" };

    private readonly Option<int> _rounds = new("--rounds") { Description = "turns of each variant in each cell", DefaultValueFactory = _ => 300 };

    private readonly Option<string?> _json = new("--json") { Description = "file for the figures" };

    private StudyCommand() => Root = new RootCommand("Compares pipeline architectures on the same virtqueue, in one process.") { _disk, _rounds, _json };

    private RootCommand Root { get; }

    /// <summary>Reads a command line; null, with a complaint, if it is wrong.</summary>
    /// <param name="arguments">Behind the word study.</param>
    /// <param name="complaint">What is wrong.</param>
    public static StudyOptions? Parse(IReadOnlyList<string> arguments, out string complaint)
    {
        var command = new StudyCommand();
        ParseResult result = command.Root.Parse(arguments, new ParserConfiguration { ResponseFileTokenReplacer = null });
        if (result.Errors.Count > 0)
        {
            complaint = result.Errors[0].Message;
            return null;
        }

        int rounds = result.GetValue(command._rounds);
        string disk = result.GetValue(command._disk)!;
        complaint = rounds is < 1 or > MaxRounds ? $"--rounds takes 1 to {MaxRounds}."
            : disk is not (StudyOptions.NullDisk or StudyOptions.FileDisk or "both") ? "--disk takes null, file or both."
            : "";
        string[] disks = disk == "both" ? [StudyOptions.NullDisk, StudyOptions.FileDisk] : [disk];
        return complaint.Length > 0 ? null : new StudyOptions(disks, rounds, result.GetValue(command._json));
    }
}
