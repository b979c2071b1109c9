using System.Globalization;
using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.Frontend.Recovery;
using VirtioBlkFlow.Frontend.Ring;
using Xunit.Abstractions;

namespace VirtioBlkFlow.EndToEndTests.OwnFrontend;

/// <summary>
/// The daemon is killed at random moments, with up to 32 requests in flight on each queue, and another takes over with what the record of
/// requests in flight says (vhost-user.rst, "Inflight I/O tracking"): each request completes exactly once, in order where that was agreed
/// on, and the disk holds what was written last.
/// </summary>
public class KilledUnderLoadTests(ITestOutputHelper output)
{
    private const string Variable = "VIRTIOBLKFLOW_OWN_FRONTEND_KILLS";

    /// <summary>How often a daemon is killed in each case: enough for every run of the tests; a soak sets more.</summary>
    private static readonly int s_kills = int.Parse(Environment.GetEnvironmentVariable(Variable) ?? "5", CultureInfo.InvariantCulture);

    [Theory]
    [InlineData(false, false, 1)]
    [InlineData(false, false, 2)]
    [InlineData(false, true, 1)]
    [InlineData(false, true, 2)]
    [InlineData(true, false, 1)]
    [InlineData(true, false, 2)]
    [InlineData(true, true, 1)]
    [InlineData(true, true, 2)]
    public Task Each_request_completes_exactly_once(bool packed, bool eventIndex, int queues) =>
        KillAndVerifyAsync(new SuccessionOptions { Packed = packed, EventIndex = eventIndex, QueueCount = queues });

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public Task Each_request_completes_in_order_where_that_was_agreed_on(bool packed) =>
        KillAndVerifyAsync(new SuccessionOptions { Packed = packed, InOrder = true, EventIndex = true });

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public Task Indirect_tables_and_the_other_engine_make_no_difference(bool packed) =>
        KillAndVerifyAsync(new SuccessionOptions { Packed = packed, Indirect = true, EventIndex = true, QueueDepth = 64, IoEngine = "threads" });

    [Fact]
    public Task A_packed_ring_goes_on_though_the_front_end_only_knows_where_it_began() =>
        KillAndVerifyAsync(new SuccessionOptions { Packed = true, EventIndex = true, PackedBase = PackedBaseAfterCrash.FromBefore });

    /// <summary>The canary: a check that finds nothing wrong here finds nothing anywhere.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Without_a_record_of_requests_in_flight_violations_are_found(bool packed)
    {
        const int MostKills = 50;
        Exception? violation = null;
        int kills = 0;
        using TestFolder folder = new();
        SuccessionOptions options = new() { Packed = packed, Inflight = false, PatienceMs = 1_000 };
        await using SucceedingDaemons daemons = await SucceedingDaemons.StartAsync(folder, options, seed: 1);
        while (violation is null && kills++ < MostKills)
        {
            violation = await Record.ExceptionAsync(daemons.KillUnderLoadAsync);
        }

        output.WriteLine($"After {kills} kills: {violation?.Message}");
        Assert.True(violation is WorkloadException or DeviceBrokeRingException, $"After {kills} kills: {violation}");
    }

    private async Task KillAndVerifyAsync(SuccessionOptions options)
    {
        int seed = RandomSeed.Take();
        try
        {
            using TestFolder folder = new();
            await using SucceedingDaemons daemons = await SucceedingDaemons.StartAsync(folder, options, seed);
            for (int kill = 0; kill < s_kills; kill++)
            {
                await daemons.KillUnderLoadAsync();
            }

            await daemons.FinishAsync();
            output.WriteLine($"Seed {seed}: {s_kills} kills under load, {daemons.KilledWhileAttaching} more while a daemon took over, {daemons.CompletedCount} requests.");
        }
        catch (Exception exception)
        {
            throw new InvalidOperationException($"Seed {seed}: {exception.Message}", exception);
        }
    }
}
