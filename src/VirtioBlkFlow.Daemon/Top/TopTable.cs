using System.Globalization;
using Spectre.Console;
using Spectre.Console.Rendering;
using VirtioBlkFlow.Daemon.Bench;
using VirtioBlkFlow.Daemon.Control;

namespace VirtioBlkFlow.Daemon.Top;

/// <summary>What <c>vblkflow top</c> shows.</summary>
internal static class TopTable
{
    private static readonly Text s_legend = new("stages: p50/p99 of the time that requests were in them; docs/operating.md says what each is");

    private static readonly string[] s_stages = ["ring", "slot", "parse", "kernel", "completion", "call"];

    /// <summary>A table for each daemon.</summary>
    /// <param name="samples">What they say, and said before; null before for since their start.</param>
    public static IRenderable Make(IEnumerable<(TopSample Now, TopSample? Earlier)> samples) =>
        new Rows(samples.SelectMany(sample => new IRenderable[] { Heading(sample.Now), Make(sample.Now, sample.Earlier) }).Append(s_legend));

    private static Text Heading(TopSample sample) => new(string.Create(
        CultureInfo.InvariantCulture,
        $"{sample.Path}: {sample.Status.Program} {sample.Status.Version}, process {sample.Status.ProcessId}, up {sample.Status.UptimeSeconds:F0} s"));

    private static Table Make(TopSample now, TopSample? earlier)
    {
        Table table = new Table().Border(TableBorder.Simple);
        string[] numbers = ["IOPS", "read/s", "written/s", "errors", "req/batch", "syscalls/req"];
        foreach (string name in (IEnumerable<string>)["disk", "queue", "state", .. numbers, .. s_stages])
        {
            bool isNumber = numbers.Contains(name) || s_stages.Contains(name);
            table.AddColumn(new TableColumn(new Text(name)) { Alignment = isNumber ? Justify.Right : Justify.Left, NoWrap = true });
        }

        foreach (TopRow row in TopRow.Of(now, earlier))
        {
            table.AddRow([.. Cells(row).Select(cell => new Text(cell))]);
        }

        return table;
    }

    private static string Short(ulong nanoseconds) => nanoseconds == 0 ? "0" : Units.Time(nanoseconds).Replace(" ", "", StringComparison.Ordinal);

    private static IEnumerable<string> Cells(TopRow row)
    {
        yield return row.Disk;
        yield return row.Queue?.ToString(CultureInfo.InvariantCulture) ?? "-";
        yield return row.State;
        yield return Units.Count(row.RequestsPerSecond);
        yield return Units.Bytes(row.ReadBytesPerSecond);
        yield return Units.Bytes(row.WrittenBytesPerSecond);
        yield return row.Errors.ToString(CultureInfo.InvariantCulture);
        yield return row.RequestsPerBatch.ToString("0.0", CultureInfo.InvariantCulture);
        yield return row.SystemCallsPerRequest.ToString("0.00", CultureInfo.InvariantCulture);
        foreach (string name in s_stages)
        {
            StageShare? stage = row.Stages.FirstOrDefault(stage => stage.Stage == name);
            yield return stage is null or { Count: 0 } ? "-" : $"{Short(stage.P50Ns)}/{Short(stage.P99Ns)}";
        }
    }
}
