using System.Text.RegularExpressions;

namespace VirtioBlkFlow.Benchmarks.Compare;

/// <summary>A comparison as one page with charts, which holds all it needs: data, style, scripts.</summary>
internal static partial class ComparePage
{
    private const string DataName = "data";

    /// <summary>Makes the page.</summary>
    /// <param name="json">The comparison, as its file has it.</param>
    public static string Make(string json) => Placeholder().Replace(
        Part("page.html"),
        // In a script element nothing but its end tag means anything to HTML.
        place => place.Groups["name"].Value == DataName ? json.Replace("</", "<\\/", StringComparison.Ordinal) : Part(place.Groups["name"].Value));

    [GeneratedRegex(@"\{\{(?<name>[\w.]+)\}\}")]
    private static partial Regex Placeholder();

    private static string Part(string name)
    {
        using Stream stream = typeof(ComparePage).Assembly.GetManifestResourceStream($"page/{name}")
            ?? throw new InvalidOperationException($"There is no part '{name}' of the page.");
        using var reader = new StreamReader(stream);
        return reader.ReadToEnd();
    }
}
