using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.Device.Latency;

/// <summary>The counters of a queue, as they were when somebody looked. Immutable.</summary>
public sealed class QueueCounts
{
    private readonly ulong[] _requests;
    private readonly ulong[] _errors;

    /// <param name="requests">Requests by number of their type.</param>
    /// <param name="errors">Requests by status.</param>
    internal QueueCounts(ulong[] requests, ulong[] errors)
    {
        _requests = requests;
        _errors = errors;
    }

    /// <summary>Looks at the ring that found something.</summary>
    public required ulong Batches { get; init; }

    /// <summary>Publishes: how often the used index was moved on.</summary>
    public required ulong Bursts { get; init; }

    /// <summary>Kicks that were seen.</summary>
    public required ulong Kicks { get; init; }

    /// <summary>Calls to the driver, each of them a system call.</summary>
    public required ulong Calls { get; init; }

    /// <summary>Requests that were returned to the driver, of whatever type and with whatever status.</summary>
    public ulong TotalRequests => Sum(_requests);

    /// <summary>Requests that were returned with another status than OK.</summary>
    public ulong TotalErrors => Sum(_errors);

    /// <summary>Bytes that the driver has read from the disk, in requests that succeeded.</summary>
    public required ulong BytesRead { get; init; }

    /// <summary>Bytes that the driver has written to the disk, appended ones among them, in requests that succeeded.</summary>
    public required ulong BytesWritten { get; init; }

    /// <summary>Requests of a type; of all types this program does not know together, and of what was no request, for any of those.</summary>
    public ulong RequestsOf(BlkRequestType type) => _requests[QueueCounters.NumberOf(type)];

    /// <summary>Requests that were returned with a status; 0 for OK, which is no error.</summary>
    public ulong ErrorsOf(BlkStatus status) => (int)status < _errors.Length ? _errors[(int)status] : 0;

    private static ulong Sum(ulong[] counters)
    {
        ulong sum = 0;
        foreach (ulong counter in counters)
        {
            sum += counter;
        }

        return sum;
    }
}

/// <summary>What the thread of a queue has done, as it was when somebody looked.</summary>
/// <param name="SystemCalls">Calls of the I/O engine into the kernel; calls to drivers come on top.</param>
/// <param name="Spins">How often it spun before sleeping.</param>
/// <param name="FruitfulSpins">How often that found something.</param>
/// <param name="Sleeps">How often it slept.</param>
public readonly record struct ThreadCounts(ulong SystemCalls, ulong Spins, ulong FruitfulSpins, ulong Sleeps);
