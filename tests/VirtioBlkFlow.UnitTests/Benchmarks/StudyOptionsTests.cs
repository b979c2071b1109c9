using VirtioBlkFlow.Benchmarks.Study;
using VirtioBlkFlow.Benchmarks.Study.Serving;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Benchmarks;

/// <summary>What the study and its servers can be asked for.</summary>
public sealed class StudyOptionsTests
{
    [Fact]
    public void The_study_has_both_disks_unless_told_otherwise()
    {
        StudyOptions options = StudyCommand.Parse([], out string complaint)!;

        Assert.Equal("", complaint);
        Assert.Equal(["null", "file"], options.Disks);
        Assert.Equal((300, null), (options.Rounds, options.JsonPath));
        StudyOptions told = StudyCommand.Parse(["--disk", "file", "--rounds", "7", "--json", "x.json"], out _)!;
        Assert.Equal(["file"], told.Disks);
        Assert.Equal((7, "x.json"), (told.Rounds, told.JsonPath));
    }

    [Theory]
    [InlineData("--rounds", "0")]
    [InlineData("--rounds", "many")]
    [InlineData("--rounds", "1000000")]
    [InlineData("--disk", "tape")]
    [InlineData("--bogus", "1")]
    [InlineData("file")]
    public void A_study_that_makes_no_sense_is_refused(params string[] arguments)
    {
        Assert.Null(StudyCommand.Parse(arguments, out string complaint));
        Assert.NotEqual("", complaint);
    }

    [Fact]
    public void A_server_has_a_variant_a_socket_and_a_disk()
    {
        Assert.Equal(new ServeOptions(Variant.PoolBatches, "s", null, false), ServeCommand.Parse(["pool-batches", "--socket-path", "s", "--disk", "null"], out _));
        Assert.Equal(
            new ServeOptions(Variant.OurBlocks, "s", "f", true),
            ServeCommand.Parse(["our-blocks", "--socket-path", "s", "--blk-file", "f", "--direct"], out string complaint));
        Assert.Equal("", complaint);
    }

    [Theory]
    [InlineData("our-blocks", "--disk", "null")]
    [InlineData("their-blocks", "--socket-path", "s", "--disk", "null")]
    [InlineData("our-blocks", "--socket-path", "s")]
    [InlineData("our-blocks", "--socket-path", "s", "--disk", "memory")]
    [InlineData("our-blocks", "--socket-path", "s", "--disk", "null", "--blk-file", "f")]
    [InlineData("our-blocks", "--socket-path", "s", "--disk", "null", "--direct")]
    [InlineData("our-blocks", "hand-written", "--socket-path", "s", "--disk", "null")]
    public void A_server_that_makes_no_sense_is_refused(params string[] arguments)
    {
        Assert.Null(ServeCommand.Parse(arguments, out string complaint));
        Assert.NotEqual("", complaint);
    }
}
