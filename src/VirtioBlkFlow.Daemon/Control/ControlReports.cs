using System.Text.Json.Serialization;

namespace VirtioBlkFlow.Daemon.Control;

/// <summary>Answer to <c>GET /v1/status</c>.</summary>
/// <param name="Program">The program's name.</param>
/// <param name="Version">Its version.</param>
/// <param name="ProcessId">Its process.</param>
/// <param name="StartedAt">When it began to serve.</param>
/// <param name="UptimeSeconds">For how long it has.</param>
/// <param name="Disks">How many disks it serves.</param>
/// <param name="Frontends">How many of them have a front-end.</param>
/// <param name="ManagedBytes">Memory that objects have.</param>
/// <param name="AllocatedBytes">Memory that objects were given since the process began, in steps of some kilobytes.</param>
internal sealed record StatusReport(
    string Program, string Version, int ProcessId, DateTimeOffset StartedAt, double UptimeSeconds, int Disks, int Frontends, long ManagedBytes, long AllocatedBytes);

/// <summary>Answer to <c>GET /v1/disks</c>.</summary>
/// <param name="Disks">In the order of the command line.</param>
internal sealed record DiskListReport(IReadOnlyList<DiskReport> Disks);

/// <summary>A disk and its counters: answer to <c>GET /v1/disks/ID</c>.</summary>
/// <param name="Id">Its name among the disks of the process.</param>
/// <param name="Kind">What it is made of: file, memory, null.</param>
/// <param name="What">What keeps the sectors: the path of an image, a size.</param>
/// <param name="Socket">Where front-ends connect; null for an inherited descriptor.</param>
/// <param name="CapacityBytes">Its size.</param>
/// <param name="ReadOnly">Whether guests may only read.</param>
/// <param name="Engine">Who does the I/O: io_uring or threads.</param>
/// <param name="StageLatency">How much is measured of where time goes: on, off or all.</param>
/// <param name="HasFrontend">Whether a front-end is connected.</param>
/// <param name="Queues">The queues that were ever started.</param>
/// <param name="Group">The group it shares its limits with; null for none.</param>
/// <param name="Limits">Its limits; null if it is not made for any.</param>
/// <param name="Held">Requests that are held because of errors.</param>
/// <param name="Health">How it fares; null if nothing tells.</param>
/// <param name="Refresh">How far its refresh has got; null if it is not made for that.</param>
internal sealed record DiskReport(
    string Id,
    string Kind,
    string What,
    string? Socket,
    ulong CapacityBytes,
    bool ReadOnly,
    string Engine,
    string StageLatency,
    bool HasFrontend,
    IReadOnlyList<QueueReport> Queues,
    string? Group = null,
    IReadOnlyDictionary<string, ulong>? Limits = null,
    int Held = 0,
    HealthReport? Health = null,
    RefreshReport? Refresh = null);

/// <summary>How a disk fares; null is what is not told.</summary>
/// <param name="Source">What tells.</param>
/// <param name="WearPercent">Life used up, at least.</param>
/// <param name="SparePercent">Reserved blocks left, at most.</param>
/// <param name="TemperatureCelsius">Its temperature.</param>
/// <param name="Warned">Whether a limit of health-warn is reached.</param>
/// <param name="ReadOnly">Whether writes fail because of health-read-only.</param>
/// <param name="Obstacle">Why it cannot be read now; the values are those of before then.</param>
internal sealed record HealthReport(
    string Source, int? WearPercent, int? SparePercent, int? TemperatureCelsius, bool Warned, bool ReadOnly, string? Obstacle);

/// <summary>How far the refresh of a disk has got.</summary>
/// <param name="State">none, running, finished, stopped or failed.</param>
/// <param name="Rewrites">Whether what was read is written again.</param>
/// <param name="PositionBytes">Everything before this was looked at.</param>
/// <param name="CapacityBytes">Size of the disk.</param>
/// <param name="ReadBytes">Bytes that could be read.</param>
/// <param name="RewrittenBytes">Bytes that were written again.</param>
/// <param name="UnreadableBytes">Bytes that could not be read.</param>
/// <param name="Unreadable">The first of the ranges that could not: first byte, length in bytes.</param>
/// <param name="Pauses">How often it waited because of the guest.</param>
/// <param name="Error">Why nothing is rewritten any more, or why it could not go on.</param>
internal sealed record RefreshReport(
    string State,
    bool Rewrites,
    ulong PositionBytes,
    ulong CapacityBytes,
    ulong ReadBytes,
    ulong RewrittenBytes,
    ulong UnreadableBytes,
    IReadOnlyList<ulong[]> Unreadable,
    long Pauses,
    string? Error);

/// <summary>Answer to <c>/v1/disks/ID/limits</c> and <c>/v1/groups/NAME/limits</c>: what holds now.</summary>
/// <param name="Group">The group they are those of; null for one disk alone.</param>
/// <param name="Limits">By the keys of the command line.</param>
internal sealed record LimitsReport(string? Group, IReadOnlyDictionary<string, ulong> Limits);

/// <summary>Answer to <c>POST /v1/disks/ID/resume</c>.</summary>
/// <param name="Held">Requests that were held and are tried again.</param>
internal sealed record ResumeReport(int Held);

/// <summary>Answer to <c>POST /v1/disks/ID/resize</c>.</summary>
/// <param name="OldBytes">Size before.</param>
/// <param name="NewBytes">Size now.</param>
/// <param name="UnusedBytes">What is behind it, less than a block.</param>
internal sealed record ResizeReport(ulong OldBytes, ulong NewBytes, ulong UnusedBytes);

/// <summary>What a queue has done since the program was started.</summary>
/// <param name="Queue">Its number.</param>
/// <param name="Running">Whether it is being served.</param>
/// <param name="Requests">Requests returned to the driver, by type; types that did not occur are left out.</param>
/// <param name="BytesRead">Bytes read, in requests that succeeded.</param>
/// <param name="BytesWritten">Bytes written, in requests that succeeded.</param>
/// <param name="Errors">Requests that were returned with another status than OK, by status.</param>
/// <param name="Batches">Looks at the ring that found something.</param>
/// <param name="Bursts">How often completions were published.</param>
/// <param name="Kicks">Kicks seen.</param>
/// <param name="Calls">Calls made.</param>
/// <param name="SystemCalls">Calls of the I/O engine into the kernel.</param>
/// <param name="Spins">How often the thread spun before sleeping.</param>
/// <param name="FruitfulSpins">How often that found something.</param>
/// <param name="Sleeps">How often it slept.</param>
internal sealed record QueueReport(
    int Queue,
    bool Running,
    IReadOnlyDictionary<string, ulong> Requests,
    ulong BytesRead,
    ulong BytesWritten,
    IReadOnlyDictionary<string, ulong> Errors,
    ulong Batches,
    ulong Bursts,
    ulong Kicks,
    ulong Calls,
    ulong SystemCalls,
    ulong Spins,
    ulong FruitfulSpins,
    ulong Sleeps);

/// <summary>Answer to <c>GET /v1/disks/ID/latency</c>: where requests have spent their time since the program was started.</summary>
/// <param name="Id">The disk.</param>
/// <param name="StageLatency">How much is measured: on, off or all.</param>
/// <param name="Queues">The queues that were ever started; empty if nothing is measured.</param>
internal sealed record LatencyReport(string Id, string StageLatency, IReadOnlyList<QueueLatencyReport> Queues);

/// <summary>Where the requests of a queue have spent their time.</summary>
/// <param name="Queue">Its number.</param>
/// <param name="Stages">In the order in which a request goes through them.</param>
internal sealed record QueueLatencyReport(int Queue, IReadOnlyList<StageReport> Stages);

/// <summary>How long requests were in a stage.</summary>
/// <param name="Stage">ring, slot, parse, kernel, completion or call.</param>
/// <param name="Count">Requests; those that a timed one stands for included.</param>
/// <param name="SumNs">All their nanoseconds.</param>
/// <param name="MeanNs">Mean, in nanoseconds.</param>
/// <param name="P50Ns">What half of them did not exceed.</param>
/// <param name="P99Ns">What 99 % of them did not exceed.</param>
/// <param name="P999Ns">What 99.9 % of them did not exceed.</param>
/// <param name="MaxNs">The longest.</param>
/// <param name="Buckets">All that are not empty: shortest and longest time in nanoseconds, requests.</param>
internal sealed record StageReport(
    string Stage,
    ulong Count,
    ulong SumNs,
    double MeanNs,
    long P50Ns,
    long P99Ns,
    [property: JsonPropertyName("p99_9Ns")] long P999Ns,
    long MaxNs,
    IReadOnlyList<ulong[]> Buckets);

/// <summary>Answer to what is not there, or wrong, or not possible.</summary>
/// <param name="Error">Cause and remedy.</param>
internal sealed record ErrorReport(string Error);

/// <summary>Reads and writes reports without reflection.</summary>
[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase)]
[JsonSerializable(typeof(StatusReport))]
[JsonSerializable(typeof(DiskListReport))]
[JsonSerializable(typeof(LatencyReport))]
[JsonSerializable(typeof(DiskReport))]
[JsonSerializable(typeof(LimitsReport))]
[JsonSerializable(typeof(ResumeReport))]
[JsonSerializable(typeof(ResizeReport))]
[JsonSerializable(typeof(RefreshReport))]
[JsonSerializable(typeof(ErrorReport))]
internal sealed partial class ControlJson : JsonSerializerContext;
