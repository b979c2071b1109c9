using VirtioBlkFlow.FuzzTests.Harness;
using VirtioBlkFlow.FuzzTests.Target;

namespace VirtioBlkFlow.FuzzTests.Generators;

/// <summary>Makes hostile input of one kind.</summary>
internal interface IGenerator
{
    /// <summary>As in a <see cref="RoundId"/>.</summary>
    string Name { get; }

    /// <summary>Disks it can judge requests on; the round draws one of them.</summary>
    IReadOnlyList<DiskKind> Disks { get; }

    /// <summary>
    /// Runs the cases of one round. Throws a <see cref="FindingException"/> when an invariant does not hold. All it made is gone when it
    /// returns.
    /// </summary>
    /// <param name="target">The device.</param>
    /// <param name="random">All that is random.</param>
    /// <param name="beginCase">To be called before each case, with its number from 0.</param>
    void RunRound(FuzzTarget target, FuzzRandom random, Action<int> beginCase);
}

/// <summary>All generators.</summary>
internal static class AllGenerators
{
    public static IReadOnlyList<IGenerator> List { get; } = [new MessageGenerator(), new RingGenerator(), new BodyGenerator(), new LifeCycleGenerator(), new InflightGenerator()];

    public static IGenerator Find(string name) => List.FirstOrDefault(generator => generator.Name == name)
        ?? throw new ArgumentException($"There is no generator '{name}', only {string.Join(", ", List.Select(generator => generator.Name))}.");
}
