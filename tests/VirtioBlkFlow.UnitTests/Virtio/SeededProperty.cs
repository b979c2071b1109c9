using System.Globalization;
using FsCheck;
using Xunit.Abstractions;

namespace VirtioBlkFlow.UnitTests.Virtio;

/// <summary>Runs a property with a seed that is printed, and taken from VIRTIOBLKFLOW_SEED when that is set: a failure can be run again.</summary>
internal static class SeededProperty
{
    private const string SeedVariable = "VIRTIOBLKFLOW_SEED";

    // FsCheck's generator wants an odd second number; a fixed one leaves a single number to print.
    private const ulong Gamma = 0x9e37_79b9_7f4a_7c15;

    public static void Check(ITestOutputHelper output, int cases, Property property)
    {
        ulong seed = Environment.GetEnvironmentVariable(SeedVariable) is { Length: > 0 } text
            ? ulong.Parse(text, CultureInfo.InvariantCulture)
            : (ulong)Random.Shared.NextInt64();
        output.WriteLine($"{cases} cases with {SeedVariable}={seed}");
        property.Check(Config.QuickThrowOnFailure.WithMaxTest(cases).WithReplay(seed, Gamma));
    }
}
