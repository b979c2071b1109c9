using VirtioBlkFlow.FuzzTests.Generators;
using VirtioBlkFlow.FuzzTests.Harness;
using VirtioBlkFlow.FuzzTests.Hunt;
using VirtioBlkFlow.FuzzTests.Target;
using Xunit.Abstractions;

namespace VirtioBlkFlow.FuzzTests;

/// <summary>A bounded hunt of each generator: from a seed that is always the same, and from a fresh one.</summary>
public sealed class GeneratorTests(ITestOutputHelper output)
{
    private const int DurationMs = 1500;

    // Two workers share two cores with what else runs there.
    private const int DeadlineMs = 20_000;

    public static TheoryData<string> Generators => [.. AllGenerators.List.Select(generator => generator.Name)];

    [Theory]
    [MemberData(nameof(Generators))]
    public void Finds_nothing_from_a_fixed_seed(string generator) => Hunt(new RoundId(generator, 1));

    [Theory]
    [MemberData(nameof(Generators))]
    public void Finds_nothing_from_a_fresh_seed(string generator) => Hunt(new RoundId(generator, FreshSeed()));

    private void Hunt(RoundId from)
    {
        output.WriteLine($"from {from}");
        WorkerResult result = WorkerProcess.Run(new WorkerOrder(from, DurationMs, Sabotage.None, DeadlineMs));
        output.WriteLine($"{result.Cases} cases in {result.Elapsed.TotalSeconds:0.0} s");
        Assert.True(result.Finding is null, $"from {from}: {result.Finding}");
        Assert.True(result.Cases > 0);
    }

    private static ulong FreshSeed() =>
        Environment.GetEnvironmentVariable("VIRTIOBLKFLOW_SEED") is { Length: > 0 } text ? ulong.Parse(text) : (ulong)Random.Shared.NextInt64();
}
