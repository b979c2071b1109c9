using VirtioBlkFlow.Daemon.Specs;
using VirtioBlkFlow.Disks.Wrapping;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Daemon.Specs;

public sealed class CompositeFileTests : IDisposable
{
    private readonly string _path = Path.Combine(Path.GetTempPath(), $"virtioblkflow-test-{Guid.NewGuid():n}.json");

    [Fact]
    public void Parts_say_what_they_are_and_where()
    {
        CompositeFile file = Read("""
            {
              "sectors": 4096, // more than the parts
              "parts": [
                { "start": 0, "disk": "file:/a,b.img", "ro": true, "range": "8/16", },
                { "disk": "memory:1M", "start": 2048 },
              ],
            }
            """);
        Assert.Equal(4096ul, file.SectorCount);
        Assert.Equal([0, 2048], file.Parts.Select(part => (int)part.Start));
        Assert.Equal(("/a,b.img", true, new RangeDiskOptions(8, 16)), (file.Parts[0].Disk.What, file.Parts[0].Disk.ReadOnly, file.Parts[0].Disk.Range));
        Assert.Equal("memory", file.Parts[1].Disk.Kind.Name);
    }

    [Theory]
    [InlineData("{ \"parts\": [] }", 0, "\"parts\"")]
    [InlineData("{ \"ports\": [] }", 1, "'ports'")]
    [InlineData("{\n\"sectors\": \"many\" }", 2, "'many'")]
    [InlineData("{ \"parts\": [\n{ \"disk\": \"null:1M\" } ] }", 2, "\"start\"")]
    [InlineData("{ \"parts\": [\n{ \"start\": 0 } ] }", 2, "KIND:WHAT")]
    [InlineData("{ \"parts\": [\n{ \"start\": -1, \"disk\": \"null:1M\" } ] }", 2, "'-1'")]
    [InlineData("{ \"parts\": [ { \"start\": 0, \"disk\": \"null:1M\",\n\"cache\": \"writeback\" } ] }", 2, "'cache'", "range", "zeroes")]
    [InlineData("{ \"parts\": [ { \"start\": 0, \"disk\": \"null:1M\",\n\"feature.mq\": false } ] }", 2, "'feature.mq'", "range")]
    [InlineData("{ \"parts\": [ { \"start\": 0,\n\"disk\": \"composite:x.json\" } ] }", 2, "no part of another")]
    public void What_is_wrong_is_named_with_its_line(string text, int line, params string[] words)
    {
        string refusal = Assert.Throws<SpecException>(() => Read(text)).Message;
        Assert.StartsWith(line == 0 ? $"{_path}: " : $"{_path}:{line}: ", refusal, StringComparison.Ordinal);
        Assert.All(words, word => Assert.Contains(word, refusal, StringComparison.Ordinal));
    }

    public void Dispose() => File.Delete(_path);

    private CompositeFile Read(string text)
    {
        File.WriteAllText(_path, text);
        return CompositeFile.Read(_path);
    }
}
