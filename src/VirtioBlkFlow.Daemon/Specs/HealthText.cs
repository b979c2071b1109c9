using System.Globalization;
using VirtioBlkFlow.Disks.Health;

namespace VirtioBlkFlow.Daemon.Specs;

/// <summary>Limits of a disk's health: QUANTITY:LIMIT[:BACK], with '+' between them; % and C may be written.</summary>
internal static class HealthText
{
    public const string Form = "QUANTITY:LIMIT[:BACK][+...]";

    public const string Takes =
        "limits with + between: wear:PERCENT (used up), spare:PERCENT (left) or temperature:CELSIUS, and with one more colon what it has to come back to";

    // As in a health file.
    private const int MostPercent = 255;
    private const int MostCelsius = 300;

    /// <summary>The limits, or null if the text is none.</summary>
    public static IReadOnlyList<HealthLimit>? TryParse(string text)
    {
        List<HealthLimit> limits = [];
        foreach (string part in text.Split('+'))
        {
            if (TryParseLimit(part.Split(':')) is not { } limit)
            {
                return null;
            }

            limits.Add(limit);
        }

        return limits;
    }

    private static HealthLimit? TryParseLimit(string[] words)
    {
        HealthQuantity? named = words[0] switch
        {
            "wear" => HealthQuantity.Wear,
            "spare" => HealthQuantity.Spare,
            "temperature" => HealthQuantity.Temperature,
            _ => null,
        };
        if (named is not { } quantity || words.Length is < 2 or > 3 || !TryParseValue(quantity, words[1], out int threshold))
        {
            return null;
        }

        var limit = new HealthLimit(quantity, threshold);
        if (words.Length == 2)
        {
            return limit;
        }

        // Back is better than the limit: less wear, more spare, cooler.
        bool isBack = TryParseValue(quantity, words[2], out int back) && (quantity == HealthQuantity.Spare ? back >= threshold : back <= threshold);
        return isBack ? limit with { Back = back } : null;
    }

    private static bool TryParseValue(HealthQuantity quantity, string text, out int value)
    {
        bool isTemperature = quantity == HealthQuantity.Temperature;
        string digits = text.EndsWith(isTemperature ? 'C' : '%') ? text[..^1] : text;
        return int.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out value) && value <= (isTemperature ? MostCelsius : MostPercent);
    }
}
