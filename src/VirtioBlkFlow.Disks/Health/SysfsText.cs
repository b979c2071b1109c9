using System.Globalization;

namespace VirtioBlkFlow.Disks.Health;

/// <summary>Files of sysfs with numbers in them, and links between its folders.</summary>
internal static class SysfsText
{
    /// <summary>Where a link leads in the end; null if there is none.</summary>
    public static string? TargetOf(string link)
    {
        try
        {
            return Directory.ResolveLinkTarget(link, returnFinalTarget: true)?.FullName;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    /// <summary>All of a file; null if it cannot be read.</summary>
    public static string? Read(string path)
    {
        try
        {
            return System.IO.File.ReadAllText(path);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    /// <summary>One of the hexadecimal numbers of a file, with or without 0x: older kernels leave it out of pre_eol_info. 0 if there is none.</summary>
    public static uint Hexadecimal(string path, int position)
    {
        string[] numbers = (Read(path) ?? "").Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);
        string text = position < numbers.Length ? numbers[position] : "";
        text = text.StartsWith("0x", StringComparison.OrdinalIgnoreCase) ? text[2..] : text;
        return uint.TryParse(text, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out uint number) ? number : 0;
    }
}
