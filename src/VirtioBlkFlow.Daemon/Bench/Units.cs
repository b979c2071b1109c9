using System.Globalization;

namespace VirtioBlkFlow.Daemon.Bench;

/// <summary>Numbers as people read them: three or four digits and a unit.</summary>
internal static class Units
{
    /// <summary>A time given in nanoseconds.</summary>
    public static string Time(double ns) => ns switch
    {
        < 1000 => Short(ns, "ns"),
        < 1e6 => Short(ns / 1e3, "µs"),
        < 1e9 => Short(ns / 1e6, "ms"),
        _ => Short(ns / 1e9, "s"),
    };

    /// <summary>A count, with k and M for thousands and millions.</summary>
    public static string Count(double count) => count switch
    {
        < 1e4 => count.ToString("0", CultureInfo.InvariantCulture),
        < 1e6 => (count / 1e3).ToString("0.0", CultureInfo.InvariantCulture) + "k",
        _ => (count / 1e6).ToString("0.00", CultureInfo.InvariantCulture) + "M",
    };

    /// <summary>Bytes, in units of 1000 as bandwidths have them.</summary>
    public static string Bytes(double bytes) => bytes switch
    {
        < 1e6 => Short(bytes / 1e3, "kB"),
        < 1e9 => Short(bytes / 1e6, "MB"),
        _ => Short(bytes / 1e9, "GB"),
    };

    private static string Short(double value, string unit) =>
        value.ToString(value < 10 ? "0.00" : value < 100 ? "0.0" : "0", CultureInfo.InvariantCulture) + " " + unit;
}
