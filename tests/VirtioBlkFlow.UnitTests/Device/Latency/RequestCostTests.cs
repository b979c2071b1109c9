using System.Text.Json;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.Device.Latency;
using VirtioBlkFlow.Device.Reactor;
using VirtioBlkFlow.Virtio.Blk;
using Xunit;
using Xunit.Abstractions;

namespace VirtioBlkFlow.UnitTests.Device.Latency;

/// <summary>
/// What a request costs in things that can be counted, at a fixed queue depth, against limits in a file: a guard against getting slower
/// that does not depend on how fast or busy the machine is.
/// </summary>
public sealed class RequestCostTests(ITestOutputHelper output)
{
    private const int Rounds = 200;
    private const string LimitsFile = "request-cost-limits.json";

    private static readonly JsonSerializerOptions s_json = new() { PropertyNamingPolicy = JsonNamingPolicy.CamelCase };

    public static TheoryData<int> Depths => [.. Limits.Keys];

    private static Dictionary<int, Cost> Limits { get; } = JsonSerializer.Deserialize<Dictionary<int, Cost>>(
        File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "Device", "Latency", LimitsFile)), s_json)!;

    [Theory]
    [MemberData(nameof(Depths))]
    public void A_request_costs_no_more_than_it_may(int depth)
    {
        // Beside the program, not in /tmp, where files may be in memory: the kernel serves those by threads, with a wake for each request.
        using var image = new TemporaryImage(folder: AppContext.BaseDirectory);
        using var rig = new DeviceRig(image.Open(), new BlkDeviceOptions { Polling = PollMode.Never }, queueSize: 256);
        rig.Queue.Start();
        // Also warms up: compiled code, files in the page cache.
        long bytes = Allocations.LeastOf(() => rig.OnReactor(GC.GetAllocatedBytesForCurrentThread), () => Run(rig, depth));
        QueueMeasurement before = Settled(rig);
        Run(rig, depth);
        QueueMeasurement after = Settled(rig);
        rig.Queue.Stop();
        double requests = after.Counts.TotalRequests - before.Counts.TotalRequests;
        Assert.Equal(Rounds * depth, requests);
        var cost = new Cost(
            (after.Thread.SystemCalls - before.Thread.SystemCalls + after.Counts.Calls - before.Counts.Calls) / requests,
            (after.Counts.Batches - before.Counts.Batches) / requests,
            Math.Floor(bytes / requests));
        output.WriteLine($"depth {depth}: {cost}");
        Cost limit = Limits[depth];
        Assert.True(cost.SystemCallsPerRequest <= limit.SystemCallsPerRequest, $"{cost.SystemCallsPerRequest} system calls per request; {LimitsFile} allows {limit.SystemCallsPerRequest}.");
        Assert.True(cost.BatchesPerRequest <= limit.BatchesPerRequest, $"{cost.BatchesPerRequest} batches per request; {LimitsFile} allows {limit.BatchesPerRequest}.");
        Assert.True(cost.BytesPerRequest <= limit.BytesPerRequest, $"{cost.BytesPerRequest} bytes allocated per request; {LimitsFile} allows {limit.BytesPerRequest}.");
    }

    // So many requests at once, and the next ones when all have come back: what is in flight does not depend on who is faster.
    private static void Run(DeviceRig rig, int depth)
    {
        for (int i = 0; i < Rounds; i++)
        {
            for (int j = 0; j < depth; j++)
            {
                rig.Queue.Add(BlkRequestType.VIRTIO_BLK_T_IN, (ulong)(j * 8), 4096);
            }

            rig.Queue.Publish();
            for (int j = 0; j < depth; j++)
            {
                Assert.Equal((byte)BlkStatus.VIRTIO_BLK_S_OK, rig.Queue.Take().Status);
            }
        }
    }

    // The driver sees a burst before it is counted.
    private static QueueMeasurement Settled(DeviceRig rig)
    {
        rig.OnReactor(static () => { });
        return Assert.Single(rig.Device.Measure());
    }

    internal sealed record Cost(double SystemCallsPerRequest, double BatchesPerRequest, double BytesPerRequest);
}
