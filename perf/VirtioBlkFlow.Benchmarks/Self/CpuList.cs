using System.Globalization;

namespace VirtioBlkFlow.Benchmarks.Self;

/// <summary>Processors as taskset -c takes them: numbers and ranges with commas between them.</summary>
internal static class CpuList
{
    /// <summary>Where a variant's server and client go.</summary>
    /// <param name="placement">What it wants.</param>
    /// <param name="serverCpu">What was given for servers; null for any.</param>
    /// <param name="clientCpu">What was given for the client.</param>
    public static (string? Server, string? Client) Place(Placement placement, string? serverCpu, string? clientCpu)
    {
        if (placement == Placement.Together)
        {
            string one = FirstOf(serverCpu ?? Allowed());
            return (one, one);
        }

        return placement == Placement.Free ? (null, null) : (serverCpu, clientCpu);
    }

    /// <summary>The first processor of a list.</summary>
    public static string FirstOf(string list) => int.Parse(list.Split(',', '-')[0], CultureInfo.InvariantCulture).ToString(CultureInfo.InvariantCulture);

    /// <summary>Whether it is such a list.</summary>
    public static bool IsList(string text) => text.Split(',', '-').All(number => int.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out _));

    // Those that this process may use.
    private static string Allowed()
    {
        const string Name = "Cpus_allowed_list:";
        return File.ReadLines("/proc/self/status").First(line => line.StartsWith(Name, StringComparison.Ordinal))[Name.Length..].Trim();
    }
}
