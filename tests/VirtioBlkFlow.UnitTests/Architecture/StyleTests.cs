using Xunit;

namespace VirtioBlkFlow.UnitTests.Architecture;

public sealed class StyleTests
{
    // The house rule is 100 to 400 lines; beyond 500 a file is two.
    private const int MostLines = 500;

    [Fact]
    public void No_source_file_is_longer_than_one_enjoys_reading()
    {
        string[] files = [.. SourceTree.SourceFiles()];
        Assert.NotEmpty(files);
        string[] tooLong =
        [
            .. files.Select(file => (Name: Path.GetRelativePath(SourceTree.Root, file), Lines: File.ReadLines(file).Count()))
                .Where(file => file.Lines > MostLines)
                .Select(file => $"{file.Name}: {file.Lines} lines"),
        ];
        Assert.Empty(tooLong);
    }
}
