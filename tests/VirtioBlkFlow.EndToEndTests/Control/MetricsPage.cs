using System.Globalization;
using System.Text.RegularExpressions;

namespace VirtioBlkFlow.EndToEndTests.Control;

/// <summary>A sample of a page of metrics.</summary>
internal sealed record Metric(string Name, IReadOnlyDictionary<string, string> Labels, double Value)
{
    /// <summary>Name and labels in a fixed order, without some.</summary>
    public string Key(params string[] without) =>
        $"{Name} {string.Join(',', Labels.Where(label => !without.Contains(label.Key)).OrderBy(label => label.Key, StringComparer.Ordinal).Select(label => $"{label.Key}={label.Value}"))}";
}

/// <summary>
/// Reads Prometheus' text format 0.0.4 and takes nothing that is not in its description, nor what is bad style there: families in pieces,
/// samples without HELP and TYPE, counters not called _total, histograms that do not add up.
/// </summary>
internal sealed partial class MetricsPage
{
    private readonly Dictionary<string, (string Type, List<Metric> Samples)> _families = [];

    private MetricsPage()
    {
    }

    public IEnumerable<string> Families => _families.Keys;

    public static MetricsPage Parse(string text)
    {
        Assert.EndsWith("\n", text, StringComparison.Ordinal);
        var page = new MetricsPage();
        string? family = null;
        string? help = null;
        foreach (string line in text[..^1].Split('\n'))
        {
            if (line.StartsWith("# HELP ", StringComparison.Ordinal))
            {
                help = line.Split(' ', 4)[2];
                Assert.True(line.Split(' ', 4)[3].Length > 0, line);
            }
            else if (line.StartsWith("# TYPE ", StringComparison.Ordinal))
            {
                string[] words = line.Split(' ');
                Assert.Equal(4, words.Length);
                family = words[2];
                Assert.Equal(help, family);
                Assert.Matches("^(counter|gauge|histogram)$", words[3]);
                Assert.True(page._families.TryAdd(family, (words[3], [])), $"{family} comes twice.");
                Assert.Equal(words[3] == "counter", family.EndsWith("_total", StringComparison.Ordinal));
            }
            else
            {
                Assert.NotNull(family);
                Metric metric = ParseSample(line);
                Assert.Matches(page._families[family].Type == "histogram" ? $"^{family}_(bucket|sum|count)$" : $"^{family}$", metric.Name);
                page._families[family].Samples.Add(metric);
            }
        }

        foreach ((string name, (string type, List<Metric> samples)) in page._families)
        {
            Assert.NotEmpty(samples);
            Assert.Equal(samples.Count, samples.Select(sample => sample.Key()).Distinct().Count());
            if (type == "histogram")
            {
                RequireHistogram(name, samples);
            }
        }

        return page;
    }

    /// <summary>The one sample with these labels, among others perhaps.</summary>
    public double Value(string name, params (string Key, string Value)[] labels) => Assert.Single(
        _families.Values.SelectMany(family => family.Samples),
        sample => sample.Name == name && labels.All(label => sample.Labels.GetValueOrDefault(label.Key) == label.Value)).Value;

    private static Metric ParseSample(string line)
    {
        Match match = Sample().Match(line);
        Assert.True(match.Success, $"This is no sample: {line}");
        Dictionary<string, string> labels = [];
        foreach (Match label in Label().Matches(match.Groups["labels"].Value))
        {
            string value = Regex.Unescape(label.Groups["value"].Value);
            Assert.True(labels.TryAdd(label.Groups["name"].Value, value), line);
        }

        return new Metric(match.Groups["name"].Value, labels, NumberOf(match.Groups["value"].Value));
    }

    private static double NumberOf(string text) => text == "+Inf" ? double.PositiveInfinity : double.Parse(text, NumberStyles.Float, CultureInfo.InvariantCulture);

    private static void RequireHistogram(string name, List<Metric> samples)
    {
        Metric[] counts = [.. samples.Where(sample => sample.Name == name + "_count")];
        Assert.NotEmpty(counts);
        foreach (Metric count in counts)
        {
            string key = count.Key()[count.Name.Length..];
            Assert.Single(samples, sample => sample.Name == name + "_sum" && sample.Key()[sample.Name.Length..] == key);
            Metric[] buckets = [.. samples.Where(sample => sample.Name == name + "_bucket" && sample.Key("le")[sample.Name.Length..] == key)];
            double[] bounds = [.. buckets.Select(bucket => NumberOf(bucket.Labels["le"]))];
            Assert.Equal(bounds.Order(), bounds);
            Assert.Equal(double.PositiveInfinity, bounds[^1]);
            Assert.Equal(buckets.Select(bucket => bucket.Value).Order(), buckets.Select(bucket => bucket.Value));
            Assert.Equal(count.Value, buckets[^1].Value);
        }

        Assert.Equal(samples.Count(sample => sample.Name == name + "_bucket"), counts.Length * samples.Where(sample => sample.Labels.ContainsKey("le")).Select(sample => sample.Labels["le"]).Distinct().Count());
    }

    [GeneratedRegex("""^(?<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?<labels>[a-zA-Z_][a-zA-Z0-9_]*="([^"\\\n]|\\["\\n])*"(,[a-zA-Z_][a-zA-Z0-9_]*="([^"\\\n]|\\["\\n])*")*)\})? (?<value>[+-]?[0-9.]+([eE][+-]?[0-9]+)?|\+Inf|-Inf|NaN)$""")]
    private static partial Regex Sample();

    [GeneratedRegex("""(?<name>[a-zA-Z_][a-zA-Z0-9_]*)="(?<value>([^"\\\n]|\\["\\n])*)"(,|$)""")]
    private static partial Regex Label();
}
