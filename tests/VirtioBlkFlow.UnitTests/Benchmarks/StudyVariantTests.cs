using VirtioBlkFlow.Benchmarks.Servers;
using VirtioBlkFlow.Benchmarks.Study;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Benchmarks;

/// <summary>
/// Every architecture of the study does the work it is measured at. Making a bench checks each request of more than one trip around the ring,
/// its data included; here many more rounds follow, with what the driver checks while it is measured.
/// </summary>
public sealed class StudyVariantTests(StudyFile file) : IClassFixture<StudyFile>
{
    private const int Rounds = 2000;

    public static TheoryData<string, int> Cells
    {
        get
        {
            var cells = new TheoryData<string, int>();
            foreach (Variant variant in Variants.All)
            {
                cells.Add(Variants.NameOf(variant), 1);
                cells.Add(Variants.NameOf(variant), 32);
            }

            return cells;
        }
    }

    [Theory]
    [MemberData(nameof(Cells))]
    public void Answers_every_request_of_many_rounds_over_a_null_disk(string variant, int depth)
    {
        using Bench bench = StudyBenches.OnNull(Variants.Find(variant)!.Value, depth);

        RequireRightAnswers(bench, depth);
    }

    [Theory]
    [MemberData(nameof(Cells))]
    public void Answers_every_request_of_many_rounds_over_a_file(string variant, int depth)
    {
        using Bench bench = StudyBenches.OnFile(Variants.Find(variant)!.Value, depth, file.File);

        RequireRightAnswers(bench, depth);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(32)]
    public void A_driver_that_polls_gets_the_same_answers_from_the_thread_pool(int depth)
    {
        foreach (Variant variant in new[] { Variant.PoolBatches, Variant.PoolRequests })
        {
            using Bench bench = StudyBenches.OnFile(variant, depth, file.File);
            ((PoolServer)bench.Server!).TurnWaits = false;
            long[] ticks = new long[Rounds];

            Assert.Equal(Rounds, bench.TimeRounds(ticks, TimeSpan.FromMinutes(10)));

            bench.RequireRightAnswers();
            Assert.All(ticks, round => Assert.True(round > 0));
            Assert.Equal(1, bench.TimeRounds(ticks, TimeSpan.Zero));
            Assert.Equal(0, bench.Server!.InFlightCount);
        }
    }

    [Fact]
    public void Variants_are_found_by_their_names_and_the_bound_comes_first()
    {
        Assert.Equal("hand-written", Variants.NameOf(Variants.All[0]));
        Assert.All(Variants.All, variant => Assert.Equal(variant, Variants.Find(Variants.NameOf(variant))));
        Assert.Null(Variants.Find("hand"));
    }

    private static void RequireRightAnswers(Bench bench, int depth)
    {
        bench.Run(Rounds * depth);

        bench.RequireRightAnswers();
        Assert.Equal(0, bench.Server!.InFlightCount);
    }
}
