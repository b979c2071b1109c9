using System.Diagnostics.Metrics;
using System.Globalization;
using System.Text;

namespace VirtioBlkFlow.Daemon.Control;

/// <summary>
/// Writes the instruments of a meter in Prometheus' text format 0.0.4. Names follow OpenTelemetry's rules for it: dots become underscores,
/// then the unit, then <c>_total</c> for what only grows (OpenTelemetry, "Prometheus and OpenMetrics Compatibility").
/// </summary>
internal static class PrometheusText
{
    /// <summary>The media type.</summary>
    public const string ContentType = "text/plain; version=0.0.4; charset=utf-8";

    /// <summary>Asks all observable instruments of the meter once, and writes what they say.</summary>
    public static string Write(Meter meter)
    {
        // By name, as lines of a family must stand together; in the order in which families appear.
        List<Family> families = [];
        using var listener = new MeterListener
        {
            InstrumentPublished = (instrument, listener) =>
            {
                if (instrument.Meter == meter)
                {
                    listener.EnableMeasurementEvents(instrument);
                }
            },
        };
        listener.SetMeasurementEventCallback<long>((instrument, value, tags, _) => Add(instrument, value.ToString(CultureInfo.InvariantCulture), tags));
        listener.SetMeasurementEventCallback<double>((instrument, value, tags, _) => Add(instrument, NumberText(value), tags));
        listener.Start();
        listener.RecordObservableInstruments();
        var text = new StringBuilder();
        foreach (Family family in families)
        {
            text.Append("# HELP ").Append(family.Name).Append(' ').Append(Escape(family.Help, quote: false)).Append('\n');
            text.Append("# TYPE ").Append(family.Name).Append(' ').Append(family.Type).Append('\n');
            // The lines of a histogram in its own order: buckets, sum, count of one set of labels after the other.
            foreach (IGrouping<string, string> series in family.Lines.GroupBy(line => line.Series, line => line.Text))
            {
                foreach (string line in series)
                {
                    text.Append(line).Append('\n');
                }
            }
        }

        return text.ToString();

        void Add(Instrument instrument, string value, ReadOnlySpan<KeyValuePair<string, object?>> tags)
        {
            (string name, string type, string suffix) = Describe(instrument);
            Family? family = families.Find(family => family.Name == name);
            if (family == null)
            {
                families.Add(family = new Family(name, type, instrument.Description ?? ""));
            }

            family.Lines.Add((SeriesOf(tags), $"{name}{suffix}{Labels(tags)} {value}"));
        }
    }

    // The name of the family, its type, and what its lines have behind the name.
    private static (string Name, string Type, string Suffix) Describe(Instrument instrument)
    {
        if (instrument.Tags?.FirstOrDefault(tag => tag.Key == DeviceMetrics.HistogramTag).Value is string histogram)
        {
            return ($"{NameText(histogram)}_seconds", "histogram", NameText(instrument.Name[histogram.Length..]));
        }

        string unit = instrument.Unit switch
        {
            "By" => "_bytes",
            "s" => "_seconds",
            // What stands in braces is a comment on what is counted.
            _ => "",
        };
        bool grows = instrument is ObservableCounter<long> or ObservableCounter<double>;
        return (NameText(instrument.Name) + unit + (grows ? "_total" : ""), grows ? "counter" : "gauge", "");
    }

    // [a-zA-Z_:][a-zA-Z0-9_:]* is what a name may be; ours begin with a letter.
    private static string NameText(string name) => string.Concat(name.Select(character => char.IsAsciiLetterOrDigit(character) ? character : '_'));

    private static string SeriesOf(ReadOnlySpan<KeyValuePair<string, object?>> tags)
    {
        var series = new StringBuilder();
        foreach (KeyValuePair<string, object?> tag in tags)
        {
            if (tag.Key != DeviceMetrics.BoundTag)
            {
                series.Append(tag.Value).Append('\0');
            }
        }

        return series.ToString();
    }

    private static string Labels(ReadOnlySpan<KeyValuePair<string, object?>> tags)
    {
        if (tags.Length == 0)
        {
            return "";
        }

        var labels = new StringBuilder();
        foreach (KeyValuePair<string, object?> tag in tags)
        {
            string value = tag.Value is double number ? NumberText(number) : Convert.ToString(tag.Value, CultureInfo.InvariantCulture) ?? "";
            labels.Append(labels.Length == 0 ? '{' : ',').Append(NameText(tag.Key)).Append("=\"").Append(Escape(value, quote: true)).Append('"');
        }

        return labels.Append('}').ToString();
    }

    // As Go's ParseFloat reads it.
    private static string NumberText(double value) => double.IsPositiveInfinity(value) ? "+Inf" : value.ToString(CultureInfo.InvariantCulture);

    private static string Escape(string text, bool quote)
    {
        text = text.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("\n", "\\n", StringComparison.Ordinal);
        return quote ? text.Replace("\"", "\\\"", StringComparison.Ordinal) : text;
    }

    private sealed record Family(string Name, string Type, string Help)
    {
        public List<(string Series, string Text)> Lines { get; } = [];
    }
}
