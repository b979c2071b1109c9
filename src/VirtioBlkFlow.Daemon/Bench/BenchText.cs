using System.CommandLine.Parsing;
using System.Globalization;
using VirtioBlkFlow.Frontend.Load;

namespace VirtioBlkFlow.Daemon.Bench;

/// <summary>Values of the options of <c>vblkflow bench</c>: sizes, times, mixes.</summary>
internal static class BenchText
{
    /// <summary>A number of bytes: digits and K, M, G or T.</summary>
    public static ulong ParseSize(ArgumentResult result) => Parse<ulong>(result, TryParseSize, "a size such as 4096, 64K, 1G");

    /// <summary>A time: digits and ms, s, m or h; seconds without.</summary>
    public static TimeSpan ParseTime(ArgumentResult result) => Parse<TimeSpan>(result, TryParseTime, "a time such as 500ms, 10s, 2m");

    /// <summary>SIZE or SIZE:WEIGHT/SIZE:WEIGHT…</summary>
    public static BlockSizeMix? ParseBlockSizes(ArgumentResult result)
    {
        var sizes = new List<WeightedSize>();
        foreach (string part in result.Tokens[0].Value.Split('/'))
        {
            string[] pair = part.Split(':');
            int weight = 1;
            if (pair.Length > 2 || !TryParseSize(pair[0], out ulong bytes) || bytes > BlockSizeMix.MaxBytes
                || (pair.Length == 2 && !int.TryParse(pair[1], NumberStyles.None, CultureInfo.InvariantCulture, out weight)))
            {
                result.AddError($"--block-size takes SIZE, or a mix such as 4K:70/64K:30, not '{result.Tokens[0].Value}'.");
                return null;
            }

            sizes.Add(new WeightedSize((uint)bytes, weight));
        }

        try
        {
            return new BlockSizeMix([.. sizes]);
        }
        catch (LoadException exception)
        {
            result.AddError($"--block-size: {exception.Message}");
            return null;
        }
    }

    /// <summary>Digits and K, M, G or T, in powers of 1024.</summary>
    public static bool TryParseSize(string text, out ulong bytes)
    {
        bytes = 0;
        int shift = text.Length == 0 ? -1 : "KMGT".IndexOf(char.ToUpperInvariant(text[^1]), StringComparison.Ordinal);
        string digits = shift < 0 ? text : text[..^1];
        shift = (shift + 1) * 10;
        if (!ulong.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out ulong number) || number > (ulong)long.MaxValue >> shift)
        {
            return false;
        }

        bytes = number << shift;
        return true;
    }

    /// <summary>A number of seconds, or with ms, s, m or h.</summary>
    public static bool TryParseTime(string text, out TimeSpan time)
    {
        (string unit, double seconds) = text switch
        {
            [.., 'm', 's'] => ("ms", 0.001),
            [.., 's'] => ("s", 1),
            [.., 'm'] => ("m", 60),
            [.., 'h'] => ("h", 3600),
            _ => ("", 1),
        };
        time = default;
        // A year is more than anybody means, and far from where TimeSpan ends.
        const double Longest = 365 * 86400.0;
        if (!double.TryParse(text[..^unit.Length], NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out double number) || number * seconds > Longest)
        {
            return false;
        }

        time = TimeSpan.FromSeconds(number * seconds);
        return true;
    }

    private delegate bool TryParser<T>(string text, out T value);

    private static T Parse<T>(ArgumentResult result, TryParser<T> tryParse, string what)
        where T : struct
    {
        if (!tryParse(result.Tokens[0].Value, out T value))
        {
            result.AddError($"{(result.Parent as OptionResult)?.Option.Name} takes {what}, not '{result.Tokens[0].Value}'.");
        }

        return value;
    }
}
