using VirtioBlkFlow.Benchmarks.Self;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Benchmarks;

/// <summary>Which of our own variants run, how they are started, and where.</summary>
public sealed class SelfOptionsTests
{
    [Fact]
    public void Names_are_told_apart_and_every_cell_has_something_to_compare()
    {
        string[] names = [.. SelfCellTable.All.Select(cell => cell.Name), .. MeasuredAlone.Names];

        Assert.Equal(names.Length, names.Distinct().Count());
        Assert.All(SelfCellTable.All, cell => Assert.True(cell.Variants.Count > 1, cell.Name));
        Assert.All(SelfCellTable.All, cell => Assert.Equal(cell.Variants.Count, cell.Variants.Select(variant => variant.Name).Distinct().Count()));
        // Two that are started and loaded alike would be compared with themselves.
        Assert.All(
            SelfCellTable.All,
            cell => Assert.Equal(cell.Variants.Count, cell.Variants.Select(variant => (variant.Describe(), variant.Neighbourhood, variant.SparseBytes)).Distinct().Count()));
    }

    [Fact]
    public void All_are_run_unless_some_are_named()
    {
        SelfOptions all = Parse()!;
        SelfOptions some = Parse("--cells", "poll,idle,merging")!;

        Assert.Equal((SelfCellTable.All.Count, MeasuredAlone.Names.Count), (all.Cells.Count, all.Alone.Count));
        Assert.Equal(["merging", "poll-qd1", "poll-qd8", "poll-qd32"], some.Cells.Select(cell => cell.Name));
        Assert.Equal(["idle"], some.Alone);
        Assert.Equal((2.0, 10.0), (all.SettleSeconds, all.IdleSeconds));
    }

    [Theory]
    [InlineData("--restarts", "0")]
    [InlineData("--seconds", "0")]
    [InlineData("--idle-seconds", "0.05")]
    [InlineData("--file-mib", "0")]
    [InlineData("--cells", "tape")]
    [InlineData("--server-cpu", "first")]
    [InlineData("--bogus", "1")]
    public void What_makes_no_sense_is_refused(string option, string value) => Assert.Null(Parse(option, value));

    [Fact]
    public void Variants_differ_by_what_their_cell_says()
    {
        Assert.Equal(
            ["vblkflow --socket-path {socket} --blk-file {file} --no-lock --cache writeback --merge off", "vblkflow --socket-path {socket} --blk-file {file} --no-lock --cache writeback"],
            CommandsOf("merging"));
        Assert.Equal(
            ["vblkflow --socket-path {socket} --disk null:1G --cache writeback", "vblkflow --socket-path {socket} --disk null:8T --cache writeback"], CommandsOf("size-null"));
        Assert.StartsWith("vblkflow {neighbours} --disk null:1073741824,socket={socket} ", CommandsOf("neighbours")[1], StringComparison.Ordinal);
        Assert.EndsWith("--queue-depth 8 --wait poll --queue-size 1024", Named("queue-size").Variants[^1].Describe(), StringComparison.Ordinal);
    }

    [Fact]
    public void Places_are_filled_in_and_taken_out_again()
    {
        SelfOptions options = Parse("--file-mib", "3")!;

        Assert.Equal($"'/x/self.img' 3145728 {options.SocketPath} {options.SocketPath}.control", options.Fill("{file} {bytes} {socket} {control}"));
        Assert.Equal("vblkflow --blk-file './self.img'", options.WithoutPaths("'/a b/vblkflow' --blk-file '/x/self.img'"));
    }

    [Theory]
    [InlineData("0", "0")]
    [InlineData("2-3", "2")]
    [InlineData("5,1", "5")]
    public void The_first_processor_of_a_list_is_found(string list, string first)
    {
        Assert.True(CpuList.IsList(list));
        Assert.Equal(first, CpuList.FirstOf(list));
    }

    [Fact]
    public void Server_and_client_share_a_processor_where_they_should()
    {
        Assert.Equal(("1-2", "0"), CpuList.Place(Placement.AsGiven, "1-2", "0"));
        Assert.Equal(("1", "1"), CpuList.Place(Placement.Together, "1-2", "0"));
        Assert.Equal((null, null), CpuList.Place(Placement.Free, "1-2", "0"));
        (string? server, string? client) = CpuList.Place(Placement.Together, null, null);
        Assert.True(server is not null && server == client, $"{server}, {client}");
    }

    private static SelfCell Named(string name) => SelfCellTable.All.Single(cell => cell.Name == name);

    private static string[] CommandsOf(string cell) => [.. Named(cell).Variants.Select(variant => variant.Command("vblkflow"))];

    private static SelfOptions? Parse(params string[] arguments)
    {
        SelfOptions? options = SelfCommand.Parse(["--program", "/a b/vblkflow", "--folder", "/x", "--json", "out.json", .. arguments], out string complaint);
        Assert.Equal(options is null, complaint.Length > 0);
        return options;
    }
}
