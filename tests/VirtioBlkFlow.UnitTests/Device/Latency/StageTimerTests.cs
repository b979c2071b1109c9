using VirtioBlkFlow.Device.Latency;
using VirtioBlkFlow.Device.Pipeline;
using VirtioBlkFlow.UnitTests.Virtio;
using Xunit;
using Xunit.Abstractions;

namespace VirtioBlkFlow.UnitTests.Device.Latency;

/// <summary>Which batches are timed, and for how many each stands.</summary>
public sealed class StageTimerTests : IDisposable
{
    private const int Batches = 100_000;

    private readonly StageHistograms _histograms = new();
    private readonly RequestTable _table = new(queueSize: 64, rangesPerSlot: 1);
    private readonly BatchPool _batches = new(batchCount: 1, batchCapacity: 64);
    private readonly RequestBatch _batch;
    private readonly ITestOutputHelper _output;

    public StageTimerTests(ITestOutputHelper output)
    {
        _output = output;
        _batch = _batches.Rent();
    }

    public void Dispose()
    {
        _batches.Dispose();
        _table.Dispose();
    }

    [Fact]
    public void Of_many_batches_few_are_timed_and_stand_for_all()
    {
        int seed = TestSeed.Take(_output);
        var timer = new StageTimer(_histograms, _table, _batches, timesAll: false, seed);
        int timed = 0;
        uint stoodFor = 0;
        for (int i = 0; i < Batches; i++)
        {
            if (Pass(timer, requests: 1) is > 0 and uint weight)
            {
                timed++;
                stoodFor += weight;
            }
        }

        _output.WriteLine($"{timed} of {Batches} were timed.");
        // Some 20 ns each, one in 50 µs: there would have to be a thousand preemptions to make it a quarter.
        Assert.InRange(timed, Batches / StageTimer.MaxGap, Batches / 4);
        Assert.InRange(stoodFor, (uint)(Batches - StageTimer.MaxGap), (uint)Batches);
        Assert.Equal(stoodFor, _histograms.Copy(LatencyStage.Ring).Count);
        Assert.Equal(stoodFor, _histograms.Copy(LatencyStage.Slot).Count);
        Assert.Equal(stoodFor, _histograms.Copy(LatencyStage.Parse).Count);
    }

    [Fact]
    public void The_sizes_of_batches_are_met_as_often_as_they_occur()
    {
        int seed = TestSeed.Take(_output);
        var timer = new StageTimer(_histograms, _table, _batches, timesAll: false, seed);
        // A driver with a rhythm: one large batch, then 31 small ones.
        const int Large = 32;
        ulong requests = 0;
        for (int i = 0; i < 8 * Batches; i++)
        {
            int size = i % 32 == 0 ? Large : 1;
            requests += (uint)size;
            Pass(timer, size);
        }

        // About 12500 are timed; what a chance of 1 in 32 is off by then is below a fifth with all certainty one may ask for.
        double ratio = (double)_histograms.Copy(LatencyStage.Parse).Count / requests;
        _output.WriteLine($"{ratio:F3} of the requests");
        Assert.InRange(ratio, 0.8, 1.2);
    }

    [Fact]
    public void A_batch_that_ends_a_sleep_is_timed_for_itself_and_changes_nothing_for_the_others()
    {
        var timer = new StageTimer(_histograms, _table, _batches, timesAll: false, seed: 1);
        uint stoodFor = 0;
        for (int i = 0; i < Batches; i++)
        {
            if (i % 10 == 0)
            {
                timer.OnSleepEnded();
                Assert.Equal(1u, Pass(timer, 1));
            }
            else
            {
                stoodFor += Pass(timer, 1);
            }
        }

        Assert.InRange(stoodFor, (uint)((Batches * 9 / 10) - StageTimer.MaxGap), (uint)(Batches * 9 / 10));
    }

    [Fact]
    public void Told_to_time_all_it_times_all_and_each_stands_for_itself()
    {
        var timer = new StageTimer(_histograms, _table, _batches, timesAll: true, seed: 1);
        for (int i = 0; i < 1000; i++)
        {
            Assert.Equal(1u, Pass(timer, 3));
        }

        Assert.Equal(3000u, _histograms.Copy(LatencyStage.Parse).Count);
    }

    // A batch on its way to the disk; its completion needs slots, which a device has.
    private uint Pass(StageTimer timer, int requests)
    {
        timer.OnPop(_batch);
        _batch.Close(requests);
        timer.OnParsed(_batch);
        uint weight = _batch.Times.Weight;
        _batch.Clear();
        return weight;
    }
}
