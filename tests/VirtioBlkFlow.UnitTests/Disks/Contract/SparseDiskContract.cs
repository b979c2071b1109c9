using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Samples;
using VirtioBlkFlow.UnitTests.Architecture;
using Xunit;
using Xunit.Abstractions;

namespace VirtioBlkFlow.UnitTests.Disks.Contract;

/// <summary>The disk of docs/writing-a-disk.md.</summary>
public sealed class SparseDiskContract(ITestOutputHelper output) : DiskContract(output)
{
    protected override IDisk OpenDisk() => new SparseDisk(SizeBytes);

    [Fact]
    public void The_document_shows_what_is_built_here()
    {
        string document = File.ReadAllText(Path.Combine(SourceTree.Root, "docs", "writing-a-disk.md"));
        string source = File.ReadAllText(Path.Combine(SourceTree.Root, "samples", "SparseDisk", "SparseDisk.cs"));
        Assert.Contains($"```csharp\n{source}```", document, StringComparison.Ordinal);
    }
}
