using System.Globalization;

namespace VirtioBlkFlow.Benchmarks.Compare;

/// <summary>
/// Runs the cells. In each, every server is started several times, and contestants take turns: forth in one restart and back in the next, so
/// that a machine that changes its speed changes it for all.
/// </summary>
internal sealed class CompareRunner(CompareOptions options, TextWriter log)
{
    // A path of at most 107 bytes, which a folder for results may exceed.
    private readonly string _socketPath = Path.Combine(Path.GetTempPath(), string.Create(CultureInfo.InvariantCulture, $"vbf-compare-{Environment.ProcessId}.sock"));

    private readonly BenchClient _client = new(options.Program, options.Runs, options.Seconds);

    private string ControlPath => _socketPath + ".control";

    private string FilePath => Path.Combine(options.Folder, "compare.img");

    /// <summary>Runs all cells.</summary>
    /// <exception cref="CompareException">Our own server or the client failed.</exception>
    public IReadOnlyList<CellResult> Run()
    {
        try
        {
            if (options.Cells.Any(cell => cell.NeedsFile))
            {
                TestImage.Make(FilePath, options.FileBytes);
            }

            return [.. options.Cells.Select(RunCell)];
        }
        finally
        {
            File.Delete(FilePath);
        }
    }

    /// <summary>The order of turns in a restart.</summary>
    public static IEnumerable<T> InTurn<T>(IReadOnlyList<T> contestants, int restart) => restart % 2 == 0 ? contestants : contestants.Reverse();

    private CellResult RunCell(Cell cell)
    {
        log.WriteLine(cell.Name);
        Contestant[] able = [.. options.Contestants.Where(contestant => contestant.CommandFor(cell) is not null)];
        var runs = able.ToDictionary(contestant => contestant, _ => new List<Measurement>());
        var skipped = options.Contestants.Except(able).ToDictionary(contestant => contestant.Name, _ => "has no such disk");
        for (int restart = 0; restart < options.Restarts; restart++)
        {
            foreach (Contestant contestant in InTurn(able, restart).Where(contestant => !skipped.ContainsKey(contestant.Name)))
            {
                if (cell.Disk == DiskKind.Cache)
                {
                    TestImage.Load(FilePath);
                }

                try
                {
                    runs[contestant].AddRange(contestant.IsCeiling ? RunCeiling(contestant, cell, restart) : RunServer(contestant, cell, restart));
                }
                catch (CompareException exception) when (contestant != options.Contestants[0])
                {
                    // A peer that fails is left out with its reason; that we fail is no result.
                    skipped[contestant.Name] = contestant.WithoutPath(exception.Message).Replace(options.Folder, ".", StringComparison.Ordinal);
                    log.WriteLine($"  {contestant.Name}: {exception.Message}");
                }
            }
        }

        ContestantResult[] results =
        [
            .. able.Where(contestant => !skipped.ContainsKey(contestant.Name)).Select(
                contestant => new ContestantResult(contestant.Name, contestant.IsCeiling, contestant.DescribeCommand(cell), [.. runs[contestant].OrderBy(run => (run.Restart, run.Run))])),
        ];
        bool isOursThere = results.Length > 0 && results[0].Name == options.Contestants[0].Name;
        var result = new CellResult(
            cell.Name, cell, results, isOursThere ? [.. results.Skip(1).Select(peer => PeerRatios.Of(results[0], peer))] : [], skipped);
        CompareReport.WriteCell(log, result);
        return result;
    }

    private List<Measurement> RunServer(Contestant contestant, Cell cell, int restart)
    {
        // In the last restart alone: to be asked where latency comes from takes memory, which is a figure too.
        string? control = contestant.ControlOption is { } option && restart == options.Restarts - 1 ? option : null;
        using RunningServer server = RunningServer.Start(Fill(contestant.CommandFor(cell) + control), _socketPath, options.ServerCpu);
        if (cell.Disk == DiskKind.Memory)
        {
            // Memory that was never written is one page of zeros for the kernel, which a processor has at hand.
            _client.FillDisk(_socketPath, options.FileBytes);
        }

        return _client.Run(_socketPath, cell, restart, options.ClientCpu, control is null ? [] : ["--control", ControlPath]);
    }

    // It does the server's work, so it gets the server's processor.
    private List<Measurement> RunCeiling(Contestant contestant, Cell cell, int restart)
    {
        var runs = new List<Measurement>();
        for (int run = 0; run < options.Runs; run++)
        {
            (string output, double busy) = CeilingRun.Run(
                Fill(contestant.CommandFor(cell)!), options.ServerCpu, TimeSpan.FromSeconds(WholeSeconds), _client.Deadline);
            runs.Add(Measurement.OfFio(output, cell, restart, run, busy));
        }

        return runs;
    }

    // fio counts in whole ones.
    private int WholeSeconds => (int)Math.Ceiling(options.Seconds);

    private string Fill(string command) => command
        .Replace("{socket}", Contestant.Quote(_socketPath), StringComparison.Ordinal)
        .Replace("{control}", Contestant.Quote(ControlPath), StringComparison.Ordinal)
        .Replace("{file}", FilePath, StringComparison.Ordinal)
        .Replace("{bytes}", options.FileBytes.ToString(CultureInfo.InvariantCulture), StringComparison.Ordinal)
        .Replace("{seconds}", Cell.Number(WholeSeconds), StringComparison.Ordinal);
}
