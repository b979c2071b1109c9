using System.Diagnostics;
using VirtioBlkFlow.FuzzTests.Generators;
using VirtioBlkFlow.FuzzTests.Harness;
using VirtioBlkFlow.FuzzTests.Target;

namespace VirtioBlkFlow.FuzzTests.Hunt;

/// <summary>What <c>tests/fuzz.sh</c> runs: one generator after the other, again and again, until the time is up.</summary>
internal static class LongHunt
{
    private const int AnswerDeadlineMs = 10_000;

    // A worker's share of time: long enough that starting the process does not count, short enough for each generator to have its turn.
    private const int LongestShareMs = 30_000;

    // Then a person had better look.
    private const int MostFindings = 10;

    /// <summary>Hunts, and prints as it goes.</summary>
    /// <param name="duration">How long.</param>
    /// <param name="seed">All that is random follows from it.</param>
    /// <param name="names">Generators; none for all.</param>
    /// <returns>The exit code: 1 with a finding.</returns>
    public static int Run(TimeSpan duration, ulong seed, string[] names)
    {
        IReadOnlyList<IGenerator> generators = names.Length == 0 ? AllGenerators.List : [.. names.Select(AllGenerators.Find)];
        Console.WriteLine($"seed {seed}, {duration.TotalMinutes:0.##} minutes");
        int shareMs = (int)Math.Clamp(duration.TotalMilliseconds / (2 * generators.Count), 1, LongestShareMs);
        Dictionary<string, (long Cases, TimeSpan Elapsed)> totals = generators.ToDictionary(generator => generator.Name, _ => (0L, TimeSpan.Zero));
        FuzzRandom seeds = new(seed);
        List<Finding> findings = [];
        Stopwatch elapsed = Stopwatch.StartNew();
        for (int turn = 0; elapsed.Elapsed < duration && findings.Count < MostFindings; turn++)
        {
            IGenerator generator = generators[turn % generators.Count];
            WorkerOrder order = new(new RoundId(generator.Name, seeds.Next64()), shareMs, Sabotage.None, AnswerDeadlineMs);
            WorkerResult result = WorkerProcess.Run(order);
            (long cases, TimeSpan time) = totals[generator.Name];
            totals[generator.Name] = (cases + result.Cases, time + result.Elapsed);
            Console.WriteLine($"{elapsed.Elapsed:hh\\:mm\\:ss} {generator.Name}: {result.Cases} cases in {result.Rounds} rounds, {result.Cases / result.Elapsed.TotalSeconds:0} a second");
            if (result.Finding is { } finding)
            {
                findings.Add(finding);
                Console.WriteLine(finding);
            }
        }

        foreach ((string name, (long cases, TimeSpan time)) in totals)
        {
            Console.WriteLine($"{name}: {cases} cases, {cases / Math.Max(1, time.TotalSeconds):0} a second");
        }

        Console.WriteLine($"seed {seed}: {totals.Values.Sum(total => total.Cases)} cases, {findings.Count} findings");
        findings.ForEach(finding => Console.WriteLine($"{finding.Kind}: tests/fuzz.sh --replay {finding.Round}"));
        return findings.Count == 0 ? 0 : 1;
    }

    /// <summary>Runs one round again, in a process of its own.</summary>
    /// <param name="round">The round.</param>
    /// <param name="times">How often: what depends on a race shows in some runs only.</param>
    public static int Replay(RoundId round, int times)
    {
        for (int i = 0; i < times; i++)
        {
            WorkerResult result = WorkerProcess.Run(new WorkerOrder(round, 0, Sabotage.None, AnswerDeadlineMs));
            if (result.Finding is { } finding)
            {
                Console.WriteLine(finding);
                return 1;
            }
        }

        Console.WriteLine($"round {round}: {times} times without a finding");
        return 0;
    }
}
