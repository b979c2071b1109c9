namespace VirtioBlkFlow.ConformanceTests.Machinery;

/// <summary>How a test went; the worst of its cases counts.</summary>
internal enum TestOutcome
{
    /// <summary>It was not part of this run.</summary>
    NotRun,

    Passed,

    /// <summary>Counts as failed: nothing was shown.</summary>
    Skipped,

    Failed,
}

/// <summary>A test that claims rows.</summary>
/// <param name="Test">Class and method.</param>
/// <param name="Ids">The rows.</param>
internal sealed record Claim(string Test, IReadOnlyList<string> Ids);
