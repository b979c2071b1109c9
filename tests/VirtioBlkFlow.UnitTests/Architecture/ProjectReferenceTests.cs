using Xunit;

namespace VirtioBlkFlow.UnitTests.Architecture;

public sealed class ProjectReferenceTests
{
    public static TheoryData<string, string[]> Drawn => new()
    {
        { "IoUring.Net", [] },
        { "VirtioBlkFlow.Virtio", [] },
        { "VirtioBlkFlow.VhostUser", [] },
        { "VirtioBlkFlow.Disks", ["IoUring.Net", "VirtioBlkFlow.Virtio"] },
        { "VirtioBlkFlow.Device", ["VirtioBlkFlow.Disks", "VirtioBlkFlow.VhostUser", "VirtioBlkFlow.Virtio"] },
        { "VirtioBlkFlow.Frontend", ["VirtioBlkFlow.VhostUser", "VirtioBlkFlow.Virtio"] },
        { "VirtioBlkFlow.Daemon", ["VirtioBlkFlow.Device", "VirtioBlkFlow.Frontend"] },
    };

    [Theory]
    [MemberData(nameof(Drawn))]
    public void A_project_refers_to_what_the_drawing_says_and_to_nothing_else(string project, string[] references) =>
        Assert.Equal(references, SourceTree.ReferencesOf(project));

    [Fact]
    public void Every_project_under_src_is_in_the_drawing()
    {
        string[] projects =
        [
            .. Directory.GetFiles(Path.Combine(SourceTree.Root, "src"), "*.csproj", SearchOption.AllDirectories)
                .Select(file => Path.GetFileNameWithoutExtension(file)!).Order(StringComparer.Ordinal),
        ];
        Assert.Equal(Drawn.Select(row => (string)row[0]).Order(StringComparer.Ordinal), projects);
    }

    [Fact]
    public void The_program_touches_no_memory_and_makes_no_system_calls_of_its_own() =>
        Assert.Null(SourceTree.PropertyOf("VirtioBlkFlow.Daemon", "AllowUnsafeBlocks"));
}
