using System.Text;
using VirtioBlkFlow.Daemon.Specs;
using VirtioBlkFlow.Device;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Daemon.Specs;

public sealed class ConfigFileTests
{
    [Fact]
    public void The_example_works()
    {
        ConfigFile config = Parse(ConfigFile.Example);
        DiskSpec[] disks = [.. config.Disks(new DiskSpec { Serial = "of the command line" })];
        Assert.Equal("/run/vm", config.SocketFolder!.Value.Value);
        Assert.Equal(["system", "data"], disks.Select(disk => disk.Id));
        Assert.All(disks, disk => Assert.Equal((4, "of the command line"), (disk.Device.QueueCount, disk.Serial)));
        Assert.Equal([true, false], disks.Select(disk => disk.ReadOnly));
        Assert.Equal(CacheMode.Writeback, disks[1].Device.Cache);
        Assert.True(FeatureChoices.TryGetBit("discard", out ulong discard));
        Assert.Equal(discard, disks[1].Device.Features.Off);
    }

    [Fact]
    public void A_path_is_written_as_it_is_commas_and_all()
    {
        DiskSpec disk = Assert.Single(Parse("""/* a block */ { "disks": [ { "disk": "file:/a,b.img", "num-queues": 2, }, ] }""").Disks(new DiskSpec()));
        Assert.Equal(("/a,b.img", 2), (disk.What, disk.Device.QueueCount));
    }

    [Fact]
    public void A_disks_own_keys_win_over_the_files_defaults_and_these_over_the_command_lines()
    {
        const string Text = """{ "disks": [ { "disk": "null:1M" }, { "disk": "null:1M", "serial": "own" } ], "defaults": { "serial": "file" } }""";
        Assert.Equal(["file", "own"], Parse(Text).Disks(new DiskSpec { Serial = "line", ReadOnly = true }).Select(disk => disk.Serial));
    }

    [Theory]
    [InlineData("", 1, "JSON")]
    [InlineData("{", 1, "JSON")]
    [InlineData("\n\n{ \"disks\": [ }", 3, "JSON")]
    [InlineData("[]", 1, "an object")]
    [InlineData("{}\n{}", 2, "JSON")]
    [InlineData("{\n\"discs\": [] }", 2, "'discs'", "disks, defaults, socket-dir")]
    [InlineData("{ \"disks\":\n{} }", 2, "an array")]
    [InlineData("{ \"disks\": [\n\"file:a.img\" ] }", 2, "an object")]
    [InlineData("{ \"disks\": [\n\n{ \"ro\": true } ] }", 3, "\"disk\": \"KIND:WHAT\"")]
    [InlineData("{ \"disks\": [ { \"disk\": \"null:1M\",\n// a comment\n\"colour\": 1 } ] }", 3, "'colour'", "zeroes")]
    [InlineData("{ \"disks\": [ { \"disk\": \"null:1M\",\n\"num-queues\":\n0 } ] }", 3, "num-queues", "1 to 256", "'0'")]
    [InlineData("{ \"disks\": [ { \"disk\": \"null:1M\",\n\"num-queues\": [1] } ] }", 2, "num-queues", "a number")]
    [InlineData("{ \"disks\": [ { \"disk\": \"null:1M\",\n\"ro\": null } ] }", 2, "ro", "true or false")]
    [InlineData("{ \"disks\": [ { \"disk\": \"null:1M\",\n\"ro\": true,\n\"ro\": true } ] }", 3, "'ro'", "twice")]
    [InlineData("{ \"disks\": [ { \"disk\": \"null:1M\",\n\"ro\": true,\n\"readonly\": true } ] }", 3, "'readonly'", "twice")]
    [InlineData("{ \"disks\": [\n{ \"disk\": \"a.img\" } ] }", 2, "KIND:WHAT")]
    [InlineData("{ \"disks\": [ { \"disk\": \"null:1M\" } ], \"defaults\": {\n\"socket\": \"/a\" } }", 2, "'socket'", "cache")]
    [InlineData("{ \"disks\": [ { \"disk\": \"null:1M\" } ], \"defaults\": {\n\"cache\": true } }", 2, "cache", "'on'")]
    public void What_is_wrong_is_named_with_its_line(string text, int line, params string[] words)
    {
        string refusal = Assert.Throws<SpecException>(() => Parse(text).Disks(new DiskSpec()).ToList()).Message;
        Assert.StartsWith($"vm.json:{line}: ", refusal, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', refusal);
        Assert.All(words, word => Assert.Contains(word, refusal, StringComparison.Ordinal));
    }

    [Fact]
    public void A_configuration_without_disks_is_refused() =>
        Assert.Contains("no disk", Assert.Throws<SpecException>(() => Parse("{ \"disks\": [] }")).Message, StringComparison.Ordinal);

    [Fact]
    public void A_byte_order_mark_is_no_part_of_the_text() =>
        Assert.Single(ConfigFile.Parse("vm.json", [.. Encoding.UTF8.Preamble, .. "{ \"disks\": [ { \"disk\": \"null:1M\" } ] }"u8]).Disks(new DiskSpec()));

    private static ConfigFile Parse(string text) => ConfigFile.Parse("vm.json", Encoding.UTF8.GetBytes(text));
}
