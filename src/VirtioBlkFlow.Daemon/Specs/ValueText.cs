using System.Globalization;

namespace VirtioBlkFlow.Daemon.Specs;

/// <summary>Values as people write them.</summary>
internal static class ValueText
{
    /// <summary>Digits, and K, M, G or T for powers of 1024; at most what a signed file offset can hold.</summary>
    public static bool TryParseSize(string text, out ulong bytes)
    {
        bytes = 0;
        int shift = text.Length == 0 ? -1 : "KMGT".IndexOf(char.ToUpperInvariant(text[^1]), StringComparison.Ordinal);
        shift = shift < 0 ? 0 : (shift + 1) * 10;
        if (!TryParseCount(shift > 0 ? text[..^1] : text, out ulong number) || number > (ulong)long.MaxValue >> shift)
        {
            return false;
        }

        bytes = number << shift;
        return true;
    }

    /// <summary>Digits and nothing else.</summary>
    public static bool TryParseCount(string text, out ulong count) =>
        ulong.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out count);

    /// <summary>One number, or two with a separator between them.</summary>
    public static bool TryParsePair(string text, ReadOnlySpan<char> separators, out ulong first, out ulong? second)
    {
        second = null;
        int separator = text.AsSpan().IndexOfAny(separators);
        if (separator < 0)
        {
            return TryParseCount(text, out first);
        }

        bool isPair = TryParseCount(text[..separator], out first) & TryParseCount(text[(separator + 1)..], out ulong number);
        second = number;
        return isPair;
    }
}
