using System.Text.Json;
using VirtioBlkFlow.EndToEndTests.Harness;

namespace VirtioBlkFlow.EndToEndTests.Program;

/// <summary>--print-capabilities, as management programs use it (vhost-user.rst, "Backend program conventions").</summary>
public class CapabilitiesTests
{
    [Theory]
    [InlineData("--print-capabilities")]
    [InlineData("--print-capabilities", "--no-such-option", "--poll", "--no-poll", "--num-queues=none", "stray")]
    [InlineData("--fd=7", "--socket-path=/nowhere/at/all", "--blk-file", "/missing", "--print-capabilities")]
    public async Task Prints_what_it_can_as_JSON_whatever_stands_beside_it(params string[] arguments)
    {
        using TestFolder folder = new();

        ProgramEnd end = await Vblkflow.RunAsync(folder, arguments);

        Assert.Equal(ProgramEnd.Success, end.ExitCode);
        Assert.Empty(end.Errors);
        using JsonDocument json = JsonDocument.Parse(string.Join('\n', end.Output));
        Assert.Equal(["type", "features"], json.RootElement.EnumerateObject().Select(property => property.Name));
        Assert.Equal("block", json.RootElement.GetProperty("type").GetString());
        Assert.Equal(
            ["blk-file", "read-only"],
            json.RootElement.GetProperty("features").EnumerateArray().Select(feature => feature.GetString()).Order(StringComparer.Ordinal));
        Assert.Empty(Directory.EnumerateFileSystemEntries(folder.FullName));
    }
}
