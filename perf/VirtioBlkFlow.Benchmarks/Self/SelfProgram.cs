using VirtioBlkFlow.Benchmarks.Compare;

namespace VirtioBlkFlow.Benchmarks.Self;

/// <summary>The <c>self</c> command from its arguments to its exit code.</summary>
internal static class SelfProgram
{
    /// <summary>Runs it.</summary>
    /// <returns>0, 1 if something failed, 2 for a wrong command line.</returns>
    public static int Run(IReadOnlyList<string> arguments, TextWriter output)
    {
        SelfOptions? options = SelfCommand.Parse(arguments, out string complaint);
        if (options is null)
        {
            Console.Error.WriteLine($"self: {complaint}");
            return 2;
        }

        try
        {
            SelfResult result = Measure(arguments, options, output);
            File.WriteAllText(options.JsonPath, result.ToJson());
            int skipped = result.Cells.Sum(cell => cell.Skipped.Count);
            if (skipped > 0)
            {
                Console.Error.WriteLine($"self: {skipped} variants failed; the results say why.");
            }

            return skipped > 0 ? 1 : 0;
        }
        catch (Exception exception) when (exception is CompareException or IOException or UnauthorizedAccessException)
        {
            Console.Error.WriteLine($"self: {exception.Message}");
            return 1;
        }
        finally
        {
            File.Delete(options.FilePath);
        }
    }

    private static SelfResult Measure(IReadOnlyList<string> arguments, SelfOptions options, TextWriter output)
    {
        DateTimeOffset startedAt = DateTimeOffset.UtcNow;
        Machine machine = MachineFacts.Read(options.Folder, []);
        var method = new SelfMethod(
            options.Restarts,
            options.Runs,
            options.Seconds,
            options.SettleSeconds,
            options.IdleSeconds,
            options.ServerCpu,
            options.ClientCpu,
            options.FileBytes,
            RatioEstimate.ChanceOfAgreement(options.Restarts));
        output.WriteLine(
            $"{options.Cells.Count} cells, {options.Alone.Count} measured alone, {options.Restarts} restarts; ratios are to the first variant, with 95 % intervals");
        TestImage.Make(options.FilePath, options.FileBytes);
        IReadOnlyList<Quantity> alone = new MeasuredAlone(options, output).Run();
        IReadOnlyList<SelfCellResult> cells = new SelfRunner(options, output).Run();
        return new SelfResult(
            SelfResult.CurrentSchema, startedAt, options.WithoutPaths($"self {string.Join(' ', arguments)}"), machine, method, cells, alone);
    }
}
