using System.Globalization;
using VirtioBlkFlow.Disks.Wrapping;

namespace VirtioBlkFlow.Daemon.Specs;

/// <summary>Times and how they are spread: 5ms, 1ms-20ms for anything between, ~5ms for exponential ones around a mean.</summary>
internal static class DelayText
{
    public const string Form = "TIME|TIME-TIME|~TIME";

    public const string Takes = "a time such as 200us, 5ms or 2s, two with '-' between for a range, or one behind '~' for a mean";

    // Arbitrary: longer than anybody waits, and far from where a counter of nanoseconds ends.
    private static readonly TimeSpan s_longest = TimeSpan.FromHours(1);

    public static bool TryParse(string text, out DelayDistribution? delay)
    {
        delay = null;
        if (text.StartsWith('~'))
        {
            delay = TryParseTime(text[1..], out TimeSpan mean) ? DelayDistribution.Exponential(mean) : null;
            return delay is not null;
        }

        string[] bounds = text.Split('-');
        if (bounds.Length > 2 || !TryParseTime(bounds[0], out TimeSpan least))
        {
            return false;
        }

        if (bounds.Length == 1)
        {
            delay = DelayDistribution.Fixed(least);
        }
        else if (TryParseTime(bounds[1], out TimeSpan most) && most >= least)
        {
            delay = DelayDistribution.Uniform(least, most);
        }

        return delay is not null;
    }

    /// <summary>Digits, and us, ms or s.</summary>
    public static bool TryParseTime(string text, out TimeSpan time)
    {
        time = default;
        string digits = text.TrimEnd('u', 'm', 's');
        if (!uint.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out uint number))
        {
            return false;
        }

        TimeSpan? unit = text[digits.Length..] switch
        {
            "us" => TimeSpan.FromMicroseconds(1),
            "ms" => TimeSpan.FromMilliseconds(1),
            "s" => TimeSpan.FromSeconds(1),
            _ => null,
        };
        if (unit is null || number > s_longest / unit.Value)
        {
            return false;
        }

        time = unit.Value * number;
        return true;
    }
}
