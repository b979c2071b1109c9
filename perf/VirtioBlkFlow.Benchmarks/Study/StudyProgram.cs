namespace VirtioBlkFlow.Benchmarks.Study;

/// <summary>The <c>study</c> command from its arguments to its exit code.</summary>
internal static class StudyProgram
{
    /// <summary>Runs it.</summary>
    /// <returns>0, or 2 for a wrong command line.</returns>
    public static int Run(IReadOnlyList<string> arguments)
    {
        if (StudyCommand.Parse(arguments, out string complaint) is not { } options)
        {
            Console.Error.WriteLine($"study: {complaint}");
            return 2;
        }

        StudyFigures figures = new StudyRunner(options, Console.Out).Run();
        if (options.JsonPath is { } path)
        {
            File.WriteAllText(path, figures.ToJson());
        }

        return 0;
    }
}
