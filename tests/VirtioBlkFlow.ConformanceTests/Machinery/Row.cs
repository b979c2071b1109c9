namespace VirtioBlkFlow.ConformanceTests.Machinery;

/// <summary>One requirement, in our own words.</summary>
/// <param name="Id">What a test names it by.</param>
/// <param name="Level">How binding it is; one of <see cref="Levels"/>.</param>
/// <param name="Section">Title of the section it comes from, in the document its part names.</param>
/// <param name="Requirement">What is asked of the device.</param>
/// <param name="Reason">Why it does not apply; empty if it does.</param>
internal sealed record Row(string Id, string Level, string Section, string Requirement, string Reason)
{
    /// <summary>Text: stated by prose or layout without a keyword. Own: asked by this project, where the other side breaks its own MUST.</summary>
    public static readonly string[] Levels = ["MUST", "MUST NOT", "MUST (text)", "SHOULD", "SHOULD NOT", "MAY", "own"];

    public bool Applies => Reason.Length == 0;

    /// <summary>Whether the run may not pass while nothing shows it. A permission binds nobody.</summary>
    public bool IsBinding => Applies && Level is not ("SHOULD" or "SHOULD NOT" or "MAY");
}

/// <summary>The rows of one subject, and the document they come from.</summary>
/// <param name="Title">The subject.</param>
/// <param name="Source">Document and version.</param>
/// <param name="Rows">In the order of the document.</param>
internal sealed record RowTable(string Title, string Source, IReadOnlyList<Row> Rows);
