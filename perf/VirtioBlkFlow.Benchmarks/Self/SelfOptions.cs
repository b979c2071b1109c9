using System.CommandLine;
using System.Globalization;
using VirtioBlkFlow.Benchmarks.Compare;

namespace VirtioBlkFlow.Benchmarks.Self;

/// <summary>What to measure and how.</summary>
internal sealed record SelfOptions
{
    /// <summary>Cells to run.</summary>
    public required IReadOnlyList<SelfCell> Cells { get; init; }

    /// <summary>What to measure without load, by names.</summary>
    public required IReadOnlyList<string> Alone { get; init; }

    /// <summary>Our program, which is also the client.</summary>
    public required string Program { get; init; }

    /// <summary>The program as dotnet publish makes it; null if it is not there.</summary>
    public string? Published { get; init; }

    /// <summary>Times each variant is started anew.</summary>
    public required int Restarts { get; init; }

    /// <summary>Loads on each started server.</summary>
    public required int Runs { get; init; }

    /// <summary>Counted time of a load.</summary>
    public required double Seconds { get; init; }

    /// <summary>How long a process has to become idle.</summary>
    public required double SettleSeconds { get; init; }

    /// <summary>How long an idle process is watched.</summary>
    public required double IdleSeconds { get; init; }

    /// <summary>Processors for servers, as taskset takes them; null for any.</summary>
    public string? ServerCpu { get; init; }

    /// <summary>Processors for the client.</summary>
    public string? ClientCpu { get; init; }

    /// <summary>Where the files go.</summary>
    public required string Folder { get; init; }

    /// <summary>Size of the test file, and of disks in memory.</summary>
    public required long FileBytes { get; init; }

    /// <summary>Where results go.</summary>
    public required string JsonPath { get; init; }

    /// <summary>The socket of whatever is measured. A path of at most 107 bytes, which a folder for results may exceed.</summary>
    public string SocketPath { get; } = Path.Combine(Path.GetTempPath(), string.Create(CultureInfo.InvariantCulture, $"vbf-self-{Environment.ProcessId}.sock"));

    /// <summary>The test file.</summary>
    public string FilePath => Path.Combine(Folder, "self.img");

    /// <summary>A command with its places filled in.</summary>
    public string Fill(string command) => command
        .Replace("{socket}", SocketPath, StringComparison.Ordinal)
        .Replace("{control}", SocketPath + ".control", StringComparison.Ordinal)
        .Replace("{file}", Contestant.Quote(FilePath), StringComparison.Ordinal)
        .Replace("{bytes}", FileBytes.ToString(CultureInfo.InvariantCulture), StringComparison.Ordinal);

    /// <summary>A text without where things are on this machine.</summary>
    public string WithoutPaths(string text)
    {
        foreach (string program in new[] { Published, Program }.OfType<string>())
        {
            text = text.Replace(Contestant.Quote(program), "vblkflow", StringComparison.Ordinal).Replace(program, "vblkflow", StringComparison.Ordinal);
        }

        return text.Replace(JsonPath, "self.json", StringComparison.Ordinal).Replace(Folder, ".", StringComparison.Ordinal);
    }
}

/// <summary>The command line of <c>self</c>.</summary>
internal sealed class SelfCommand
{
    private readonly Option<string> _cells = new("--cells")
    {
        Description = "full, or names of cells or their beginnings, separated by commas; start, footprint, allocation and idle are measured alone",
        DefaultValueFactory = _ => "full",
    };

    private readonly Option<string> _program = new("--program") { Description = "vblkflow, which serves and drives", Required = true };

    private readonly Option<string?> _published = new("--published") { Description = "vblkflow as dotnet publish makes it, for start and footprint" };

    private readonly Option<int> _restarts = new("--restarts") { Description = "starts of each variant in each cell", DefaultValueFactory = _ => 3 };

    private readonly Option<int> _runs = new("--runs") { Description = "loads on each started server", DefaultValueFactory = _ => 1 };

    private readonly Option<double> _seconds = new("--seconds") { Description = "counted time of a load", DefaultValueFactory = _ => 2 };

    private readonly Option<double> _settle = new("--settle-seconds") { Description = "how long a process has to become idle", DefaultValueFactory = _ => 2 };

    private readonly Option<double> _idle = new("--idle-seconds") { Description = "how long an idle process is watched", DefaultValueFactory = _ => 10 };

    private readonly Option<string?> _serverCpu = new("--server-cpu") { Description = "processors for servers, as taskset -c takes them" };

    private readonly Option<string?> _clientCpu = new("--client-cpu") { Description = "processors for the client" };

    private readonly Option<string> _folder = new("--folder") { Description = "for the files; not on tmpfs", Required = true };

    private readonly Option<int> _fileMebibytes = new("--file-mib") { Description = "size of the test file, and of disks in memory", DefaultValueFactory = _ => 256 };

    private readonly Option<string> _json = new("--json") { Description = "file for the results", Required = true };

    private SelfCommand() => Root = new RootCommand("Compares vblkflow with itself with one thing changed, and measures it without load.")
    {
        _cells, _program, _published, _restarts, _runs, _seconds, _settle, _idle, _serverCpu, _clientCpu, _folder, _fileMebibytes, _json,
    };

    private RootCommand Root { get; }

    /// <summary>Reads a command line; null, with a complaint, if it is wrong.</summary>
    /// <param name="arguments">Behind the word self.</param>
    /// <param name="complaint">What is wrong.</param>
    public static SelfOptions? Parse(IReadOnlyList<string> arguments, out string complaint)
    {
        var command = new SelfCommand();
        ParseResult result = command.Root.Parse(arguments, new ParserConfiguration { ResponseFileTokenReplacer = null });
        complaint = result.Errors.Count > 0 ? result.Errors[0].Message : "";
        if (complaint.Length > 0)
        {
            return null;
        }

        try
        {
            return command.Read(result);
        }
        catch (CompareException exception)
        {
            complaint = exception.Message;
            return null;
        }
    }

    private static bool IsTime(double seconds) => seconds is >= 0.1 and <= 3600;

    private SelfOptions Read(ParseResult result)
    {
        int restarts = result.GetValue(_restarts);
        int runs = result.GetValue(_runs);
        int mebibytes = result.GetValue(_fileMebibytes);
        double[] times = [result.GetValue(_seconds), result.GetValue(_settle), result.GetValue(_idle)];
        if (restarts is < 1 or > 1000 || runs is < 1 or > 1000 || !times.All(IsTime) || mebibytes is < 1 or > 1 << 20)
        {
            throw new CompareException(
                "--restarts and --runs take 1 to 1000, --seconds, --settle-seconds and --idle-seconds 0.1 to 3600, --file-mib 1 to 1048576.");
        }

        string?[] cpus = [result.GetValue(_serverCpu), result.GetValue(_clientCpu)];
        if (cpus.OfType<string>().FirstOrDefault(list => !CpuList.IsList(list)) is { } wrong)
        {
            throw new CompareException($"--server-cpu and --client-cpu take numbers and ranges such as 0,2-3, not '{wrong}'.");
        }

        string choice = result.GetValue(_cells)!;
        string[] all = [.. SelfCellTable.All.Select(cell => cell.Name), .. MeasuredAlone.Names];
        string[] chosen = choice == "full" ? all : [.. CellTable.NamesFor(choice, all)];
        return new SelfOptions
        {
            Cells = [.. SelfCellTable.All.Where(cell => chosen.Contains(cell.Name))],
            Alone = [.. MeasuredAlone.Names.Where(chosen.Contains)],
            Program = result.GetValue(_program)!,
            Published = result.GetValue(_published),
            Restarts = restarts,
            Runs = runs,
            Seconds = times[0],
            SettleSeconds = times[1],
            IdleSeconds = times[2],
            ServerCpu = cpus[0],
            ClientCpu = cpus[1],
            Folder = Path.GetFullPath(result.GetValue(_folder)!),
            FileBytes = (long)mebibytes << 20,
            JsonPath = result.GetValue(_json)!,
        };
    }
}
