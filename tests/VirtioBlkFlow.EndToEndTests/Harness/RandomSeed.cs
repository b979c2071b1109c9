using System.Globalization;

namespace VirtioBlkFlow.EndToEndTests.Harness;

/// <summary>The seed of a random test: a fresh one, or that of a failure to run again. Whoever takes one puts it into its message.</summary>
internal static class RandomSeed
{
    private const string Variable = "VIRTIOBLKFLOW_SEED";

    public static int Take() => Environment.GetEnvironmentVariable(Variable) is { Length: > 0 } text
        ? int.Parse(text, CultureInfo.InvariantCulture)
        : Environment.TickCount;
}
