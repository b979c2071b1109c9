using VirtioBlkFlow.Benchmarks.Compare;
using VirtioBlkFlow.Frontend.Protocol;

namespace VirtioBlkFlow.Benchmarks.Self;

/// <summary>
/// Runs the cells. In each, the server is started several times in every variant, and variants take turns: forth in one restart and back in
/// the next, so that a machine that changes its speed changes it for all.
/// </summary>
internal sealed class SelfRunner(SelfOptions options, TextWriter log)
{
    private readonly BenchClient _client = new(options.Program, options.Runs, options.Seconds);

    /// <summary>Runs all cells. Their file is there already.</summary>
    public IReadOnlyList<SelfCellResult> Run() => [.. options.Cells.Select(RunCell)];

    /// <summary>What went wrong with a server, as opposed to with us.</summary>
    public static bool IsOfTheServer(Exception exception) =>
        exception is CompareException or IOException or TimeoutException or BackendRefusedException or BackendProtocolException;

    private SelfCellResult RunCell(SelfCell cell)
    {
        log.WriteLine($"{cell.Name}: {cell.Changed}");
        var runs = cell.Variants.ToDictionary(variant => variant.Name, _ => new List<Measurement>());
        var skipped = new Dictionary<string, string>();
        for (int restart = 0; restart < options.Restarts; restart++)
        {
            foreach (SelfVariant variant in CompareRunner.InTurn(cell.Variants, restart).Where(variant => !skipped.ContainsKey(variant.Name)))
            {
                try
                {
                    runs[variant.Name].AddRange(Measure(variant, restart));
                }
                catch (Exception exception) when (IsOfTheServer(exception))
                {
                    // One that cannot run here, such as the largest of files, takes none of the others with it.
                    skipped[variant.Name] = options.WithoutPaths(exception.Message);
                    log.WriteLine($"  {variant.Name}: {exception.Message}");
                }
            }
        }

        ContestantResult[] variants =
        [
            .. cell.Variants.Where(variant => !skipped.ContainsKey(variant.Name)).Select(
                variant => new ContestantResult(variant.Name, variant.IsCopying, variant.Describe(), [.. runs[variant.Name].OrderBy(run => (run.Restart, run.Run))])),
        ];
        SelfCellResult result = SelfCellResult.Of(cell, variants, skipped, options.Restarts);
        SelfReport.WriteCell(log, result);
        return result;
    }

    private List<Measurement> Measure(SelfVariant variant, int restart)
    {
        (string? serverCpu, string? clientCpu) = CpuList.Place(variant.Placement, options.ServerCpu, options.ClientCpu);
        if (variant.IsCopying)
        {
            return CopyCeiling.Run(variant.Load, options.FileBytes, options.Seconds, options.Runs, restart, serverCpu);
        }

        string sparsePath = Path.Combine(options.Folder, "self-sparse.img");
        try
        {
            if (variant.SparseBytes > 0)
            {
                using var file = new FileStream(sparsePath, FileMode.Create, FileAccess.Write);
                file.SetLength(variant.SparseBytes);
            }

            using NeighbourDisks? neighbours = variant.Neighbourhood == Neighbourhood.None
                ? null
                : new NeighbourDisks(options.Folder, options.SocketPath, SelfCellTable.NeighbourCount);
            if (variant.Load.Disk == DiskKind.Cache && variant.SparseBytes == 0)
            {
                TestImage.Load(options.FilePath);
            }

            string command = options.Fill(variant.Command(Contestant.Quote(options.Program)))
                .Replace("{sparse}", Contestant.Quote(sparsePath), StringComparison.Ordinal)
                .Replace("{neighbours}", neighbours?.Options, StringComparison.Ordinal);
            using RunningServer server = RunningServer.Start(command, options.SocketPath, serverCpu);
            if (variant.Neighbourhood == Neighbourhood.Attached)
            {
                neighbours!.Attach();
            }

            if (variant.IsFilled)
            {
                _client.FillDisk(options.SocketPath, options.FileBytes);
            }

            return _client.Run(options.SocketPath, variant.Load, restart, clientCpu, variant.BenchOptions);
        }
        finally
        {
            File.Delete(sparsePath);
        }
    }
}
