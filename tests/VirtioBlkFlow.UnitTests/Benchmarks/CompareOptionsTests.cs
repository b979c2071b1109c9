using VirtioBlkFlow.Benchmarks.Compare;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Benchmarks;

/// <summary>Which cells run, against whom, in which order.</summary>
public sealed class CompareOptionsTests
{
    private static readonly Cell s_null = new(DiskKind.Null, "randread", 4096, 8);
    private static readonly Cell s_polled = s_null with { ServerPolls = true };
    private static readonly Cell s_direct = new(DiskKind.Direct, "randwrite", 4096, 32);

    [Fact]
    public void Names_of_cells_are_told_apart()
    {
        Assert.Equal("null-randread-4k-qd8-poll", s_polled.Name);
        Assert.Equal(CellTable.Full.Count, CellTable.Full.Select(cell => cell.Name).Distinct().Count());
    }

    [Fact]
    public void Cells_are_chosen_by_the_beginnings_of_their_names()
    {
        Assert.Equal(["direct-randread-4k-qd1"], CellTable.Choose("direct-randread-4k-qd1").Select(cell => cell.Name));
        Assert.Equal(["direct-randread-4k-qd1", "direct-randread-4k-qd8"], CellTable.Choose("direct-randread-4k-qd1,direct-randread-4k-qd8").Select(cell => cell.Name));
        Assert.Equal(CellTable.Full.Count(cell => cell.NeedsFile), CellTable.Choose("cache,direct,cache-read").Count);
        Assert.Contains("null-randread-4k-qd1", Assert.Throws<CompareException>(() => CellTable.Choose("tape")).Message, StringComparison.Ordinal);
        Assert.Throws<CompareException>(() => CellTable.Choose("null,"));
    }

    [Fact]
    public void Ours_serves_every_cell_and_polls_where_the_cell_says_so()
    {
        Contestant ours = Contestant.Ours("/a b/vblkflow", "--parallelism 4");

        Assert.Equal("'/a b/vblkflow' --disk null:1073741824 --socket-path {socket} --cache writeback --poll --parallelism 4", ours.CommandFor(s_polled));
        Assert.Contains("--blk-file {file} --no-lock --direct", ours.CommandFor(s_direct), StringComparison.Ordinal);
        Assert.DoesNotContain("--poll", ours.CommandFor(s_direct), StringComparison.Ordinal);
        Assert.All(CellTable.Full, cell => Assert.NotNull(ours.CommandFor(cell)));
        Assert.StartsWith("vblkflow --disk null:1073741824", ours.DescribeCommand(s_null), StringComparison.Ordinal);
    }

    [Fact]
    public void Peers_serve_what_they_can()
    {
        Assert.Null(Contestant.StorageDaemon("q").CommandFor(new Cell(DiskKind.Memory, "randread", 4096, 1)));
        // It takes no suffix of a size there.
        Assert.Contains("driver=null-co,size=1073741824,", Contestant.StorageDaemon("q").CommandFor(s_null), StringComparison.Ordinal);
        Assert.Contains("cache.direct=on", Contestant.StorageDaemon("q").CommandFor(s_direct), StringComparison.Ordinal);
        Assert.Null(Contestant.Fio("fio").CommandFor(s_null));
        Assert.Contains("--direct=1", Contestant.Fio("fio").CommandFor(s_direct), StringComparison.Ordinal);
    }

    [Fact]
    public void Another_server_is_a_name_and_a_command()
    {
        Contestant onFiles = Contestant.Parse("other=serve --path={socket} {file}");
        Contestant onNull = Contestant.Parse("spdk@null=vhost {socket}");

        Assert.Equal(("other", "serve --path={socket} {file}"), (onFiles.Name, onFiles.CommandFor(s_direct)));
        Assert.Null(onFiles.CommandFor(s_null));
        Assert.Equal("vhost {socket}", onNull.CommandFor(s_null));
        Assert.Null(onNull.CommandFor(s_direct));
    }

    [Fact]
    public void Commands_of_one_name_for_different_disks_are_one_server()
    {
        CompareOptions options = Parse("--ours", "mine@null=a {socket}", "--ours", "mine@cache=b {socket} {file}", "its@null=c {socket}", "its@direct=d {socket} {file}")!;

        Assert.Equal(["mine", "its"], options.Contestants.Select(contestant => contestant.Name));
        Contestant mine = options.Contestants[0];
        Assert.Equal(("a {socket}", "b {socket} {file}", null), (mine.CommandFor(s_null), mine.CommandFor(s_null with { Disk = DiskKind.Cache }), mine.CommandFor(s_direct)));
        Assert.Equal("d {socket} {file}", options.Contestants[1].CommandFor(s_direct));
        Assert.Equal("vblkflow", options.Program);
    }

    [Theory]
    [InlineData("other")]
    [InlineData("=serve {socket}")]
    [InlineData("other=serve")]
    [InlineData("other@tape=serve {socket}")]
    [InlineData("other@null@null=serve {socket}")]
    public void What_is_no_peer_is_refused(string text) => Assert.Throws<CompareException>(() => Contestant.Parse(text));

    [Fact]
    public void Turns_go_forth_and_back()
    {
        Assert.Equal([1, 2, 3], CompareRunner.InTurn([1, 2, 3], 0));
        Assert.Equal([3, 2, 1], CompareRunner.InTurn([1, 2, 3], 1));
    }

    [Fact]
    public void Peers_are_found_by_themselves_and_ours_comes_first()
    {
        CompareOptions options = Parse("--peer", "x={socket} {file}", "--cells", "cache", "--restarts", "5")!;

        Assert.Equal(["vblkflow", "qemu-storage-daemon", "fio", "x"], options.Contestants.Select(contestant => contestant.Name));
        Assert.Equal(5, options.Restarts);
        Assert.Equal(["vblkflow", "fio", "x"], Parse("fio", "x={socket} {file}")!.Contestants.Select(contestant => contestant.Name));
    }

    [Theory]
    [InlineData("--restarts", "0")]
    [InlineData("--seconds", "0")]
    [InlineData("--cells", "tape")]
    [InlineData("--peer", "nobody")]
    [InlineData("--bogus", "1")]
    [InlineData("fio", "tape")]
    [InlineData("a={socket}", "a={socket} {file}")]
    [InlineData("a@null={socket}", "a@null={socket} 2")]
    [InlineData("--ours=a@null={socket}", "--ours=b@cache={socket} {file}")]
    [InlineData("--ours=a={socket}", "--our-options=--poll")]
    public void What_makes_no_sense_is_refused(string option, string value) => Assert.Null(Parse(option, value));

    private static CompareOptions? Parse(params string[] arguments)
    {
        CompareOptions? options = CompareCommand.Parse(
            ["--program", "vblkflow", "--folder", "/x", "--json", "out.json", .. arguments], name => $"/usr/bin/{name}", out string complaint);
        Assert.Equal(options is null, complaint.Length > 0);
        return options;
    }
}
