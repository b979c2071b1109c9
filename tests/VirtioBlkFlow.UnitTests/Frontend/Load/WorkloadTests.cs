using VirtioBlkFlow.Frontend.Load;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Frontend.Load;

/// <summary>Which requests a load consists of.</summary>
public sealed class WorkloadTests
{
    private const ulong First = 1000;
    private const ulong Count = 4099;

    private static readonly BlockSizeMix s_mix = new(new WeightedSize(4096, 70), new WeightedSize(65536, 30));

    [Fact]
    public void The_seed_decides_about_every_request()
    {
        LoadOptions options = new() { ReadPercent = 40, BlockSizes = s_mix };

        Assert.Equal(Take(options, seed: 5), Take(options, seed: 5));
        Assert.NotEqual(Take(options, seed: 5), Take(options, seed: 6));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Every_request_lies_within_the_range(bool sequential) => Assert.All(
        Take(new LoadOptions { Sequential = sequential, BlockSizes = s_mix }),
        request => Assert.True(request.Sector >= First && request.Sector + (request.Bytes / 512) <= First + Count, $"{request}"));

    [Fact]
    public void Random_requests_start_at_multiples_of_their_size_and_reach_all_of_the_range()
    {
        PlannedRequest[] requests = Take(new LoadOptions());

        Assert.All(requests, request => Assert.Equal(0UL, (request.Sector - First) % 8));
        Assert.Equal(Count / 8, (ulong)requests.Select(request => request.Sector).Distinct().Count());
    }

    [Fact]
    public void A_sequence_goes_on_where_it_ended_and_begins_again_at_the_end()
    {
        PlannedRequest[] requests = Take(new LoadOptions { Sequential = true, BlockSizes = BlockSizeMix.Of(65536) }, count: 34);

        Assert.Equal(Enumerable.Range(0, 34).Select(i => First + ((ulong)(i % 32) * 128)), requests.Select(request => request.Sector));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(30)]
    [InlineData(100)]
    public void So_many_of_a_hundred_are_reads(int percent)
    {
        double reads = Take(new LoadOptions { ReadPercent = percent }).Average(request => request.IsWrite ? 0 : 100.0);

        // 20000 draws: more than five standard deviations away would be a mistake. At the ends there is no deviation.
        Assert.InRange(reads, percent == 100 ? 100 : percent - 1.7, percent == 0 ? 0 : percent + 1.7);
    }

    [Fact]
    public void Sizes_come_by_their_weights()
    {
        double small = Take(new LoadOptions { BlockSizes = s_mix }).Average(request => request.Bytes == 4096 ? 100.0 : 0);

        Assert.InRange(small, 68.3, 71.7);
    }

    [Fact]
    public void Weights_divide_the_line_without_a_gap()
    {
        var thirds = new BlockSizeMix(new WeightedSize(512, 1), new WeightedSize(1024, 1), new WeightedSize(1536, 1));

        Assert.Equal([512u, 512u, 1024u, 1024u, 1536u, 1536u], new uint[] { 0, 0x5555_5554, 0x5555_5555, 0xaaaa_aaa9, 0xaaaa_aaaa, uint.MaxValue }.Select(thirds.Pick));
    }

    [Theory]
    [InlineData(0u, 1)]
    [InlineData(513u, 1)]
    [InlineData((1u << 30) + 512, 1)]
    [InlineData(512u, 0)]
    [InlineData(512u, 1_000_001)]
    public void A_size_or_weight_out_of_range_is_refused(uint bytes, int weight) =>
        Assert.Throws<LoadException>(() => new BlockSizeMix(new WeightedSize(bytes, weight)));

    private static PlannedRequest[] Take(LoadOptions options, ulong seed = 1, int count = 20_000)
    {
        var source = new RequestSource(options, First, Count, seed);
        return [.. Enumerable.Range(0, count).Select(_ => source.Next())];
    }
}
