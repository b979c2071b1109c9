using System.Globalization;
using Xunit.Abstractions;

namespace VirtioBlkFlow.UnitTests.Virtio;

/// <summary>The seed of a random test: printed, and taken from VIRTIOBLKFLOW_SEED when that is set, so that a failure can be run again.</summary>
internal static class TestSeed
{
    private const string Variable = "VIRTIOBLKFLOW_SEED";

    public static int Take(ITestOutputHelper output)
    {
        int seed = Environment.GetEnvironmentVariable(Variable) is { Length: > 0 } text
            ? int.Parse(text, CultureInfo.InvariantCulture)
            : Random.Shared.Next();
        output.WriteLine($"{Variable}={seed}");
        return seed;
    }
}
