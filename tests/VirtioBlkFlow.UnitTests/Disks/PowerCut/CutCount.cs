using System.Globalization;

namespace VirtioBlkFlow.UnitTests.Disks.PowerCut;

/// <summary>How often a power-cut test cuts: VIRTIOBLKFLOW_CUTS, for who has more time than a run of all tests.</summary>
internal static class CutCount
{
    /// <param name="usual">Without the variable.</param>
    public static int Take(int usual) =>
        Environment.GetEnvironmentVariable("VIRTIOBLKFLOW_CUTS") is { Length: > 0 } text ? int.Parse(text, CultureInfo.InvariantCulture) : usual;
}
