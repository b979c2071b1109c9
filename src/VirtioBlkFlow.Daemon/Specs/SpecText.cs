using System.Text;

namespace VirtioBlkFlow.Daemon.Specs;

/// <summary>A key and its value as they were written, and where; no value if there was none.</summary>
internal readonly record struct SpecEntry(string Key, string? Value, string Origin);

/// <summary>The text of a specification: parts with commas between them, where a comma in a part is written twice, as for QEMU.</summary>
internal static class SpecText
{
    public static IReadOnlyList<string> Split(string text)
    {
        List<string> parts = [];
        var part = new StringBuilder();
        for (int i = 0; i < text.Length; i++)
        {
            bool isDoubled = text[i] == ',' && i + 1 < text.Length && text[i + 1] == ',';
            if (text[i] == ',' && !isDoubled)
            {
                parts.Add(part.ToString());
                part.Clear();
                continue;
            }

            part.Append(text[i]);
            i += isDoubled ? 1 : 0;
        }

        parts.Add(part.ToString());
        return parts;
    }

    /// <summary>KEY=VALUE or KEY; what follows the first '=' is the value.</summary>
    public static SpecEntry EntryOf(string part, string origin)
    {
        int equals = part.IndexOf('=', StringComparison.Ordinal);
        return equals < 0 ? new SpecEntry(part, null, origin) : new SpecEntry(part[..equals], part[(equals + 1)..], origin);
    }
}
