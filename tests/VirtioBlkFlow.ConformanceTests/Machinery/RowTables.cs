using System.Reflection;

namespace VirtioBlkFlow.ConformanceTests.Machinery;

/// <summary>
/// Reads <c>Rows/*.md</c>, the one place where requirements stand: a title, a line that names the source, and a table of five columns. A
/// line that is neither blank nor one of these is an error, so that a row cannot be lost by a slip.
/// </summary>
internal static class RowTables
{
    private static readonly string[] s_order = ["virtio-core", "virtio-blk", "split-virtqueue", "packed-virtqueue", "vhost-user", "hardening"];

    /// <summary>All tables, in the order of the document they become.</summary>
    public static IReadOnlyList<RowTable> All { get; } = [.. s_order.Select(name => Parse(name, TextOf(name)))];

    public static RowTable Parse(string name, string text)
    {
        string title = "";
        string source = "";
        List<Row> rows = [];
        foreach ((int number, string line) in text.Split('\n').Index())
        {
            if (line.StartsWith("# ", StringComparison.Ordinal))
            {
                title = line[2..];
            }
            else if (line.StartsWith("Source: ", StringComparison.Ordinal))
            {
                source = line["Source: ".Length..];
            }
            else if (line.StartsWith("| ", StringComparison.Ordinal) && !line.StartsWith("| id ", StringComparison.Ordinal))
            {
                rows.Add(ParseRow(line) ?? throw new FormatException($"{name}, line {number + 1}: no row: {line}"));
            }
            else if (line.Length > 0 && line[0] != '|')
            {
                throw new FormatException($"{name}, line {number + 1}: neither title, source nor row: {line}");
            }
        }

        return title.Length > 0 && source.Length > 0 ? new RowTable(title, source, rows) : throw new FormatException($"{name} has no title or no source.");
    }

    private static Row? ParseRow(string line)
    {
        string[] cells = [.. line.Split('|').Select(cell => cell.Trim())];
        // The line begins and ends with a bar: an empty cell on either side.
        return cells is ["", var id, var level, var section, var requirement, var reason, ""]
            && id.Length > 0 && Row.Levels.Contains(level) && section.Length > 0 && requirement.Length > 0
            ? new Row(id, level, section, requirement, reason)
            : null;
    }

    private static string TextOf(string name)
    {
        using Stream stream = Assembly.GetExecutingAssembly().GetManifestResourceStream(name)
            ?? throw new FileNotFoundException($"Rows/{name}.md is not in the assembly.");
        using StreamReader reader = new(stream);
        return reader.ReadToEnd();
    }
}
