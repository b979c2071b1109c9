using System.Reflection;
using VirtioBlkFlow.ConformanceTests.Machinery;
using VirtioBlkFlow.EndToEndTests.Harness;

namespace VirtioBlkFlow.ConformanceTests;

/// <summary>Runs after and beside nothing.</summary>
[CollectionDefinition(DocumentLast.Collection, DisableParallelization = true)]
public sealed class DocumentCollection;

/// <summary>docs/conformance.md against what this run has shown. It runs last; with a filter, it has nothing to compare.</summary>
[Collection(DocumentLast.Collection)]
public class DocumentTests
{
    private const string UpdateVariable = "VIRTIOBLKFLOW_UPDATE_CONFORMANCE";

    private static readonly ConformanceDocument s_document = new(RowTables.All, Claims(), RunRecord.OutcomeOf);

    [Fact]
    public void Every_id_a_test_names_is_a_row() => Assert.Empty(s_document.UnknownIds());

    [Fact]
    public void Every_row_stands_once() => Assert.Empty(s_document.DoubleIds());

    [Fact]
    public void No_row_is_tested_and_said_not_to_apply() => Assert.Empty(s_document.TestedWithReason());

    [Fact]
    public void Every_binding_row_has_a_test_or_a_reason()
    {
        IReadOnlyList<string> missing = s_document.Missing();
        Assert.True(missing.Count == 0, $"{missing.Count} rows have neither test nor reason: {string.Join(", ", missing)}");
    }

    [Fact]
    public void The_document_says_what_this_run_has_shown()
    {
        IReadOnlyList<string> notPassed = s_document.NotPassed();
        Assert.True(notPassed.Count == 0, $"Not every row was shown in this run:\n{string.Join('\n', notPassed)}");
        string path = Path.Combine(RepoPaths.Root, "docs/conformance.md");
        string text = s_document.Render();
        if (Environment.GetEnvironmentVariable(UpdateVariable) == "1")
        {
            File.WriteAllText(path, text);
            return;
        }

        string committed = File.Exists(path) ? File.ReadAllText(path) : "";
        int line = committed.AsSpan(0, committed.AsSpan().CommonPrefixLength(text)).Count('\n');
        Assert.True(
            committed == text,
            $"docs/conformance.md is not what this run has shown, from line {line + 1} on:\n{LineOf(text, line)}\nTo write it anew: {UpdateVariable}=1 tests/run.sh ConformanceTests");
    }

    private static string LineOf(string text, int line) => text.Split('\n').ElementAtOrDefault(line) ?? "";

    private static IEnumerable<Claim> Claims() =>
        from type in Assembly.GetExecutingAssembly().GetTypes()
        from method in type.GetMethods()
        let rows = method.GetCustomAttribute<ConformanceAttribute>()
        where rows is not null
        select new Claim(RunRecord.NameOf(type.FullName!, method.Name), rows.Ids);
}
