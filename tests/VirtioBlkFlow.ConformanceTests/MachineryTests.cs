using VirtioBlkFlow.ConformanceTests.Machinery;

namespace VirtioBlkFlow.ConformanceTests;

/// <summary>The document cannot be talked into saying what was not shown.</summary>
public class MachineryTests
{
    private const string Head = "# Part\n\nSource: a book\n\n| id | level | section | requirement | reason |\n|---|---|---|---|---|\n";

    private static readonly RowTable s_table = RowTables.Parse(
        "part", Head + "| A-1 | MUST | Here | Do. |  |\n| A-2 | MAY | Here | May. |  |\n| A-3 | MUST | There | Do not. | cannot be |\n");

    [Fact]
    public void A_test_that_fails_shows_as_failed_even_beside_one_that_passes()
    {
        ConformanceDocument document = Of([new Claim("T.good", ["A-1"]), new Claim("T.bad", ["A-1"])], ("T.good", TestOutcome.Passed), ("T.bad", TestOutcome.Failed));
        Assert.Contains("| A-1 | Do. | MUST | Here | `T.bad`<br>`T.good` | failed |", document.Render(), StringComparison.Ordinal);
        Assert.Equal(["T.bad: failed"], document.NotPassed());
    }

    [Fact]
    public void A_test_that_was_not_run_shows_nothing()
    {
        ConformanceDocument document = Of([new Claim("T.one", ["A-1"]), new Claim("T.two", ["A-1"])], ("T.one", TestOutcome.Passed));
        Assert.Contains("`T.one`<br>`T.two` | not run |", document.Render(), StringComparison.Ordinal);
        Assert.Equal(["T.two: not run"], document.NotPassed());
    }

    [Fact]
    public void Rows_without_test_or_reason_are_missing_and_those_that_bind_are_reported()
    {
        ConformanceDocument document = Of([]);
        Assert.Equal(["A-1"], document.Missing());
        Assert.Contains("| A-2 | May. | MAY | Here |  | missing |", document.Render(), StringComparison.Ordinal);
        Assert.Contains("| A-3 | Do not. | MUST | There |  | not applicable: cannot be |", document.Render(), StringComparison.Ordinal);
    }

    [Fact]
    public void Ids_that_no_row_has_and_rows_that_should_not_be_tested_are_reported()
    {
        ConformanceDocument document = Of([new Claim("T.x", ["A-4", "A-3"])], ("T.x", TestOutcome.Passed));
        Assert.Equal(["T.x names A-4"], document.UnknownIds());
        Assert.Equal(["A-3"], document.TestedWithReason());
        Assert.Equal(["A-1", "A-2", "A-3"], new ConformanceDocument([s_table, s_table], [], _ => TestOutcome.NotRun).DoubleIds());
    }

    [Fact]
    public void The_worst_case_of_a_theory_counts()
    {
        const string Test = "MachineryTests.no such test";
        RunRecord.Note(Test, TestOutcome.Passed);
        RunRecord.Note(Test, TestOutcome.Failed);
        RunRecord.Note(Test, TestOutcome.Passed);
        Assert.Equal(TestOutcome.Failed, RunRecord.OutcomeOf(Test));
    }

    [Theory]
    [InlineData("| A-1 | MUST | Here | Do. |")]
    [InlineData("| A-1 | OUGHT | Here | Do. |  |")]
    [InlineData("| A-1 | MUST | Here |  |  |")]
    [InlineData("A-1 | MUST | Here | Do. |  |")]
    public void A_line_that_is_no_row_is_an_error(string line) => Assert.Throws<FormatException>(() => RowTables.Parse("part", Head + line));

    private static ConformanceDocument Of(Claim[] claims, params (string Test, TestOutcome Outcome)[] outcomes) =>
        new([s_table], claims, test => outcomes.FirstOrDefault(outcome => outcome.Test == test).Outcome);
}
