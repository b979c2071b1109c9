namespace VirtioBlkFlow.ConformanceTests.Machinery;

/// <summary>The rows of the two specifications that a test shows. Ids are those of <c>Rows/*.md</c>.</summary>
[AttributeUsage(AttributeTargets.Method)]
internal sealed class ConformanceAttribute(params string[] ids) : Attribute
{
    public IReadOnlyList<string> Ids { get; } = ids;
}
