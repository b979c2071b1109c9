using System.Diagnostics.Metrics;
using VirtioBlkFlow.Daemon.Control;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Daemon.Control;

/// <summary>How instruments become lines of Prometheus' text format.</summary>
public sealed class PrometheusTextTests
{
    [Fact]
    public void Names_units_and_escapes_are_as_the_format_wants_them()
    {
        using var meter = new Meter("of this test");
        using var other = new Meter("of this test");
        meter.CreateObservableCounter("a.b-c", () => new Measurement<long>(7, Tag("path", "C:\\disk \"1\"\nnext")), "By", "Line one\nand \\ two.");
        meter.CreateObservableGauge("level", () => new Measurement<double>(0.25), "s", "No \"labels\".");
        meter.CreateObservableGauge("words", () => new Measurement<long>(-3, Tag("of.us", 5)), "{word}", "In braces.");
        other.CreateObservableGauge("foreign", () => 1L, null, "Not ours.");
        Assert.Equal(
            """
            # HELP a_b_c_bytes_total Line one\nand \\ two.
            # TYPE a_b_c_bytes_total counter
            a_b_c_bytes_total{path="C:\\disk \"1\"\nnext"} 7
            # HELP level_seconds No "labels".
            # TYPE level_seconds gauge
            level_seconds 0.25
            # HELP words In braces.
            # TYPE words gauge
            words{of_us="5"} -3

            """,
            PrometheusText.Write(meter));
    }

    [Fact]
    public void Lines_of_a_histogram_stand_together_for_each_set_of_labels()
    {
        using var meter = new Meter("of this test");
        KeyValuePair<string, object?>[] tags = [Tag(DeviceMetrics.HistogramTag, "x.time")];
        meter.CreateObservableCounter(
            "x.time.bucket",
            () => new Measurement<long>[] { new(1, Tag("q", 0), Tag("le", 0.5)), new(2, Tag("q", 0), Tag("le", double.PositiveInfinity)), new(4, Tag("q", 1), Tag("le", double.PositiveInfinity)) },
            null,
            "Time.",
            tags);
        meter.CreateObservableCounter("x.time.sum", () => new Measurement<double>[] { new(1.5, Tag("q", 0)), new(2, Tag("q", 1)) }, "s", "Time.", tags);
        meter.CreateObservableCounter("x.time.count", () => new Measurement<long>[] { new(2, Tag("q", 0)), new(4, Tag("q", 1)) }, null, "Time.", tags);
        Assert.Equal(
            """
            # HELP x_time_seconds Time.
            # TYPE x_time_seconds histogram
            x_time_seconds_bucket{q="0",le="0.5"} 1
            x_time_seconds_bucket{q="0",le="+Inf"} 2
            x_time_seconds_sum{q="0"} 1.5
            x_time_seconds_count{q="0"} 2
            x_time_seconds_bucket{q="1",le="+Inf"} 4
            x_time_seconds_sum{q="1"} 2
            x_time_seconds_count{q="1"} 4

            """,
            PrometheusText.Write(meter));
    }

    private static KeyValuePair<string, object?> Tag(string key, object value) => new(key, value);
}
