using System.Globalization;
using System.Text;

namespace VirtioBlkFlow.ConformanceTests.Machinery;

/// <summary>
/// What rows, claims and outcomes make together: the text of docs/conformance.md and the faults a run may not have. The same input gives the
/// same text.
/// </summary>
internal sealed class ConformanceDocument
{
    private readonly IReadOnlyList<RowTable> _tables;
    private readonly ILookup<string, string> _testsOf;
    private readonly Func<string, TestOutcome> _outcomeOf;
    private readonly Claim[] _claims;

    public ConformanceDocument(IReadOnlyList<RowTable> tables, IEnumerable<Claim> claims, Func<string, TestOutcome> outcomeOf)
    {
        _tables = tables;
        _claims = [.. claims];
        _outcomeOf = outcomeOf;
        _testsOf = _claims
            .SelectMany(claim => claim.Ids.Select(id => (Id: id, claim.Test)))
            .OrderBy(pair => pair.Test, StringComparer.Ordinal)
            .ToLookup(pair => pair.Id, pair => pair.Test);
    }

    private IEnumerable<Row> Rows => _tables.SelectMany(table => table.Rows);

    /// <summary>Ids a test names that no row has.</summary>
    public IReadOnlyList<string> UnknownIds()
    {
        HashSet<string> known = [.. Rows.Select(row => row.Id)];
        return [.. _claims.SelectMany(claim => claim.Ids.Where(id => !known.Contains(id)).Select(id => $"{claim.Test} names {id}"))];
    }

    /// <summary>Rows that stand twice.</summary>
    public IReadOnlyList<string> DoubleIds() => [.. Rows.CountBy(row => row.Id).Where(count => count.Value > 1).Select(count => count.Key)];

    /// <summary>Rows that are said not to apply, and are tested all the same.</summary>
    public IReadOnlyList<string> TestedWithReason() => [.. Rows.Where(row => !row.Applies && _testsOf.Contains(row.Id)).Select(row => row.Id)];

    /// <summary>Binding rows with neither test nor reason.</summary>
    public IReadOnlyList<string> Missing() => [.. Rows.Where(row => row.IsBinding && !_testsOf.Contains(row.Id)).Select(row => row.Id)];

    /// <summary>Tests that claim a row and did not pass.</summary>
    public IReadOnlyList<string> NotPassed() =>
        [.. _claims.Where(claim => _outcomeOf(claim.Test) != TestOutcome.Passed).Select(claim => $"{claim.Test}: {Words(_outcomeOf(claim.Test))}")];

    /// <summary>The document.</summary>
    public string Render()
    {
        StringBuilder text = new();
        text.Append(
            """
            # Conformance

            Written by the run of `tests/VirtioBlkFlow.ConformanceTests`; see [testing](testing.md) for how. Requirements are in our own words. *Text* is
            what prose or layout of the document says without a keyword; *own* is asked by this project, where the other side breaks a rule of its own.


            """);
        text.Append("| part | rows | shown | not applicable | missing |\n|---|---|---|---|---|\n");
        foreach (RowTable table in _tables)
        {
            AppendSummary(text, table.Title, table.Rows);
        }

        AppendSummary(text, "all", [.. Rows]);
        foreach (RowTable table in _tables)
        {
            text.Append(CultureInfo.InvariantCulture, $"\n## {table.Title}\n\n{table.Source}\n\n");
            text.Append("| id | requirement | level | section | test | result |\n|---|---|---|---|---|---|\n");
            foreach (Row row in table.Rows)
            {
                text.Append(CultureInfo.InvariantCulture, $"| {row.Id} | {row.Requirement} | {row.Level} | {row.Section} | ");
                text.AppendJoin("<br>", _testsOf[row.Id].Select(test => $"`{test}`")).Append(" | ").Append(ResultOf(row)).Append(" |\n");
            }
        }

        return text.ToString();
    }

    private void AppendSummary(StringBuilder text, string title, IReadOnlyList<Row> rows) => text.Append(
        CultureInfo.InvariantCulture,
        $"| {title} | {rows.Count} | {rows.Count(row => ResultOf(row) == "passed")} | {rows.Count(row => !row.Applies)} | {rows.Count(row => ResultOf(row) == "missing")} |\n");

    private string ResultOf(Row row)
    {
        if (!row.Applies)
        {
            return "not applicable: " + row.Reason;
        }

        return _testsOf.Contains(row.Id) ? Words(_testsOf[row.Id].Max(WorstFirst)) : "missing";
    }

    // A test that was not run shows less than one that passed.
    private TestOutcome WorstFirst(string test) => _outcomeOf(test) is TestOutcome.NotRun ? TestOutcome.Skipped : _outcomeOf(test);

    private static string Words(TestOutcome outcome) => outcome switch
    {
        TestOutcome.Passed => "passed",
        TestOutcome.Failed => "failed",
        _ => "not run",
    };
}
