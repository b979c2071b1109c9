using System.CommandLine;

namespace VirtioBlkFlow.Benchmarks.Compare;

/// <summary>What to compare and how.</summary>
internal sealed record CompareOptions
{
    /// <summary>Cells to run.</summary>
    public required IReadOnlyList<Cell> Cells { get; init; }

    /// <summary>Ours first.</summary>
    public required IReadOnlyList<Contestant> Contestants { get; init; }

    /// <summary>Our program, which is also the client.</summary>
    public required string Program { get; init; }

    /// <summary>Times each server is started anew in each cell.</summary>
    public required int Restarts { get; init; }

    /// <summary>Loads on each started server.</summary>
    public required int Runs { get; init; }

    /// <summary>Counted time of a load.</summary>
    public required double Seconds { get; init; }

    /// <summary>Processors for servers, as taskset takes them; null for any.</summary>
    public string? ServerCpu { get; init; }

    /// <summary>Processors for the client.</summary>
    public string? ClientCpu { get; init; }

    /// <summary>Where the test file and the sockets go.</summary>
    public required string Folder { get; init; }

    /// <summary>Size of the test file.</summary>
    public required long FileBytes { get; init; }

    /// <summary>Where results go.</summary>
    public required string JsonPath { get; init; }
}

/// <summary>The command line of <c>compare</c>.</summary>
internal sealed class CompareCommand
{
    private static readonly string[] s_known = ["qemu-storage-daemon", "fio"];

    private readonly Option<string> _cells = new("--cells")
    {
        Description = "quick, full, or names of cells or their beginnings, separated by commas",
        DefaultValueFactory = _ => "quick",
    };

    private readonly Option<string> _program = new("--program") { Description = "vblkflow, which serves and drives", Required = true };

    private readonly Option<string[]> _peers = new("--peer")
    {
        Description = "NAME=COMMAND or NAME@DISK=COMMAND, with {socket} and {file}; repeatable",
        AllowMultipleArgumentsPerToken = false,
        DefaultValueFactory = _ => [],
    };

    private readonly Option<string[]> _ours = new("--ours")
    {
        Description = "NAME=COMMAND or NAME@DISK=COMMAND: compared with the others in the place of vblkflow; repeatable for other disks",
        AllowMultipleArgumentsPerToken = false,
        DefaultValueFactory = _ => [],
    };

    private readonly Option<string> _ourOptions = new("--our-options") { Description = "more options of our server", DefaultValueFactory = _ => "" };

    private readonly Argument<string[]> _named = new("PEER")
    {
        Description = "qemu-storage-daemon, fio or NAME=COMMAND: these and no others. Default: all that are found",
        Arity = ArgumentArity.ZeroOrMore,
    };

    private readonly Option<int> _restarts = new("--restarts") { Description = "starts of each server in each cell", DefaultValueFactory = _ => 3 };

    private readonly Option<int> _runs = new("--runs") { Description = "loads on each started server", DefaultValueFactory = _ => 1 };

    private readonly Option<double> _seconds = new("--seconds") { Description = "counted time of a load", DefaultValueFactory = _ => 2 };

    private readonly Option<string?> _serverCpu = new("--server-cpu") { Description = "processors for servers, as taskset -c takes them" };

    private readonly Option<string?> _clientCpu = new("--client-cpu") { Description = "processors for the client" };

    private readonly Option<string> _folder = new("--folder") { Description = "for the test file; not on tmpfs", Required = true };

    private readonly Option<int> _fileMebibytes = new("--file-mib") { Description = "size of the test file", DefaultValueFactory = _ => 256 };

    private readonly Option<string> _json = new("--json") { Description = "file for the results", Required = true };

    private CompareCommand() => Root = new RootCommand("Compares vblkflow with other vhost-user-blk servers, and with fio as the ceiling.")
    {
        _cells, _program, _peers, _ours, _ourOptions, _named, _restarts, _runs, _seconds, _serverCpu, _clientCpu, _folder, _fileMebibytes, _json,
    };

    private RootCommand Root { get; }

    /// <summary>Reads a command line; null, with a complaint, if it is wrong.</summary>
    /// <param name="arguments">Behind the word compare.</param>
    /// <param name="find">Tells where a program is, or null.</param>
    /// <param name="complaint">What is wrong.</param>
    public static CompareOptions? Parse(IReadOnlyList<string> arguments, Func<string, string?> find, out string complaint)
    {
        var command = new CompareCommand();
        ParseResult result = command.Root.Parse(arguments, new ParserConfiguration { ResponseFileTokenReplacer = null });
        complaint = result.Errors.Count > 0 ? result.Errors[0].Message : "";
        if (complaint.Length > 0)
        {
            return null;
        }

        try
        {
            return command.Read(result, find);
        }
        catch (CompareException exception)
        {
            complaint = exception.Message;
            return null;
        }
    }

    private static Contestant? Known(string name, Func<string, string?> find) => !s_known.Contains(name)
        ? null
        : find(name) is not { } path ? throw new CompareException($"{name} is not installed.")
        : name == "fio" ? Contestant.Fio(path) : Contestant.StorageDaemon(path);

    private CompareOptions Read(ParseResult result, Func<string, string?> find)
    {
        int restarts = result.GetValue(_restarts);
        int runs = result.GetValue(_runs);
        double seconds = result.GetValue(_seconds);
        int mebibytes = result.GetValue(_fileMebibytes);
        if (restarts is < 1 or > 1000 || runs is < 1 or > 1000 || !(seconds is >= 0.1 and <= 3600) || mebibytes is < 1 or > 1 << 20)
        {
            throw new CompareException("--restarts and --runs take 1 to 1000, --seconds 0.1 to 3600, --file-mib 1 to 1048576.");
        }

        string program = result.GetValue(_program)!;
        Contestant[] ours = [.. Contestant.Join(result.GetValue(_ours)!.Select(Contestant.Parse))];
        string ourOptions = result.GetValue(_ourOptions)!;
        if (ours.Length > 1 || (ours.Length == 1 && ourOptions.Length > 0))
        {
            throw new CompareException("--ours names one contestant, whose options are in its command.");
        }

        List<Contestant> contestants = [ours.Length == 1 ? ours[0] : Contestant.Ours(program, ourOptions)];
        string[] named = result.GetValue(_named)!;
        contestants.AddRange(named.Length > 0
            ? Contestant.Join(named.Select(name => Known(name, find) ?? Contestant.Parse(name)))
            : s_known.Select(name => find(name) is null ? null : Known(name, find)).OfType<Contestant>());
        contestants.AddRange(Contestant.Join(result.GetValue(_peers)!.Select(Contestant.Parse)));
        if (contestants.Count != contestants.DistinctBy(contestant => contestant.Name).Count())
        {
            throw new CompareException("Two contestants have the same name: results could not tell them apart.");
        }

        return new CompareOptions
        {
            Cells = CellTable.Choose(result.GetValue(_cells)!),
            Contestants = contestants,
            Program = program,
            Restarts = restarts,
            Runs = runs,
            Seconds = seconds,
            ServerCpu = result.GetValue(_serverCpu),
            ClientCpu = result.GetValue(_clientCpu),
            Folder = Path.GetFullPath(result.GetValue(_folder)!),
            FileBytes = (long)mebibytes << 20,
            JsonPath = result.GetValue(_json)!,
        };
    }
}
