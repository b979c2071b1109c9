using System.Globalization;

namespace VirtioBlkFlow.Benchmarks.Compare;

/// <summary>The client of every server: <c>vblkflow bench</c>. Immutable.</summary>
/// <param name="Program">Our program.</param>
/// <param name="Runs">Loads on each started server.</param>
/// <param name="Seconds">Counted time of a load.</param>
internal sealed record BenchClient(string Program, int Runs, double Seconds)
{
    // .NET compiles what is hot in both programs meanwhile. That of a ceiling is part of its command.
    private const double WarmUpSeconds = 1.5;

    /// <summary>How long a load may take with all that belongs to it.</summary>
    public TimeSpan Deadline => TimeSpan.FromSeconds((4 * Seconds) + 60);

    /// <summary>Puts the load of a cell on a server that listens, as often as there are runs.</summary>
    /// <param name="socketPath">Where it listens.</param>
    /// <param name="cell">The load.</param>
    /// <param name="restart">Which start of the server it is, from 0; decides about places, too.</param>
    /// <param name="cpus">Processors for the client, as taskset takes them; null for any.</param>
    /// <param name="options">More options of bench.</param>
    public List<Measurement> Run(string socketPath, Cell cell, int restart, string? cpus, params IReadOnlyList<string> options)
    {
        var measured = new List<Measurement>();
        for (int run = 0; run < Runs; run++)
        {
            string[] words =
            [
                Program, "bench", socketPath, .. cell.BenchOptions(), "--time", InSeconds(Seconds), "--warm-up", InSeconds(WarmUpSeconds),
                "--seed", Cell.Number(1 + (restart * Runs) + run), "--json", "-", .. options,
            ];
            measured.Add(Measurement.OfBench(Shell.Run(string.Join(' ', words.Select(Contestant.Quote)), cpus, Deadline), cell, restart, run));
        }

        return measured;
    }

    /// <summary>Fills a disk with contents that are not all alike, once over, and reads all of it once more to see that they are there.</summary>
    /// <param name="socketPath">Where its server listens.</param>
    /// <param name="bytes">Size of the disk.</param>
    public void FillDisk(string socketPath, long bytes)
    {
        const int BlockBytes = 1 << 20;
        string[] words =
        [
            Program, "bench", socketPath, "--rw", "write", "--allow-writes", "--verify", "--block-size", Cell.Number(BlockBytes), "--queue-depth", "4",
            "--warm-up", "0s", "--count", (bytes / BlockBytes).ToString(CultureInfo.InvariantCulture), "--json", "-",
        ];
        Shell.Run(string.Join(' ', words.Select(Contestant.Quote)), null, Deadline);
    }

    private static string InSeconds(double seconds) => seconds.ToString(CultureInfo.InvariantCulture) + "s";
}
