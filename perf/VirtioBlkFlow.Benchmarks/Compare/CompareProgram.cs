namespace VirtioBlkFlow.Benchmarks.Compare;

/// <summary>The <c>compare</c> command from its arguments to its exit code.</summary>
internal static class CompareProgram
{
    /// <summary>Runs it.</summary>
    /// <returns>0, 1 for a comparison that failed, 2 for a wrong command line.</returns>
    public static int Run(IReadOnlyList<string> arguments)
    {
        CompareOptions? options = CompareCommand.Parse(arguments, Find, out string complaint);
        if (options is null)
        {
            Console.Error.WriteLine($"compare: {complaint}");
            return 2;
        }

        try
        {
            DateTimeOffset startedAt = DateTimeOffset.UtcNow;
            Machine machine = MachineFacts.Read(options.Folder, options.Contestants.Select(contestant => contestant.Name));
            var method = new Method(
                options.Restarts, options.Runs, options.Seconds, options.ServerCpu, options.ClientCpu, options.FileBytes, RatioEstimate.ChanceOfAgreement(options.Restarts));
            Console.WriteLine($"{options.Cells.Count} cells, {options.Contestants.Count} contestants, {options.Restarts} restarts; ratios are ours / theirs, with 95 % intervals");
            IReadOnlyList<CellResult> cells = new CompareRunner(options, Console.Out).Run();
            var result = new CompareResult(CompareResult.CurrentSchema, startedAt, Describe(arguments, options), machine, method, cells);
            string json = result.ToJson();
            File.WriteAllText(options.JsonPath, json);
            File.WriteAllText(Path.ChangeExtension(options.JsonPath, ".html"), ComparePage.Make(json));
            return 0;
        }
        catch (Exception exception) when (exception is CompareException or IOException or UnauthorizedAccessException)
        {
            Console.Error.WriteLine($"compare: {exception.Message}");
            return 1;
        }
    }

    // As it was given, but for where things are on this machine.
    private static string Describe(IReadOnlyList<string> arguments, CompareOptions options) =>
        Contestant.Ours(options.Program).WithoutPath($"compare {string.Join(' ', arguments)}")
            .Replace(options.JsonPath, "compare.json", StringComparison.Ordinal).Replace(options.Folder, ".", StringComparison.Ordinal);

    private static string? Find(string program) => (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':')
        .Select(folder => Path.Combine(folder, program)).FirstOrDefault(File.Exists);
}
