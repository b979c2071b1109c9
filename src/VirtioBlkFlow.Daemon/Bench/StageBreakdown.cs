using System.Globalization;
using System.Text.Json;
using VirtioBlkFlow.Daemon.Control;
using VirtioBlkFlow.Frontend.Load;

namespace VirtioBlkFlow.Daemon.Bench;

/// <summary>Where the latency of a run comes from, in the words of the daemon that served it: what its control socket said before and after.</summary>
internal sealed class StageBreakdown : IDisposable
{
    private readonly ControlClient _client;
    private readonly string _disk;
    private readonly LatencyReport _before;
    private IReadOnlyList<StageShare> _stages = [];

    private StageBreakdown(ControlClient client, string disk, LatencyReport before)
    {
        _client = client;
        _disk = disk;
        _before = before;
    }

    /// <summary>Looks before the run.</summary>
    /// <param name="controlPath">The daemon's control socket.</param>
    /// <param name="socketPath">The socket of the disk that is going to be loaded.</param>
    /// <exception cref="ControlException">The daemon does not answer, or does not serve this socket, or measures nothing.</exception>
    public static StageBreakdown Begin(string controlPath, string socketPath)
    {
        var client = new ControlClient(controlPath);
        try
        {
            string full = Path.GetFullPath(socketPath);
            DiskReport disk = Wait(client.DisksAsync(default)).FirstOrDefault(disk => disk.Socket == full)
                ?? throw new ControlException($"The daemon at '{controlPath}' does not serve '{full}'. Give --control the PATH of the daemon that does.");
            if (disk.StageLatency == "off")
            {
                throw new ControlException($"The daemon at '{controlPath}' measures nothing on '{disk.Id}'. Start it without --stage-latency off.");
            }

            return new StageBreakdown(client, disk.Id, Wait(client.LatencyAsync(disk.Id, default)));
        }
        catch
        {
            client.Dispose();
            throw;
        }
    }

    /// <summary>Looks after the run.</summary>
    /// <exception cref="ControlException">The daemon does not answer any more.</exception>
    public void End() => _stages = StageShares.Of(Wait(_client.LatencyAsync(_disk, default)).Queues, _before.Queues);

    /// <summary>Writes it as a table for people.</summary>
    public void Write(TextWriter output, LoadResult result)
    {
        output.WriteLine();
        output.WriteLine("where it comes from, warm-up included:");
        output.WriteLine($"         {"mean",9} {"p50",9} {"p99",9}");
        foreach (StageShare stage in _stages)
        {
            output.WriteLine($"{stage.Stage,-10} {Units.Time(stage.MeanNs),7} {Units.Time(stage.P50Ns),9} {Units.Time(stage.P99Ns),9}");
        }

        double inside = _stages.Sum(stage => stage.MeanNs);
        output.WriteLine($"{"sum",-10} {Units.Time(inside),7}");
        double whole = MeanNsOf(result.Total);
        output.WriteLine(string.Create(
            CultureInfo.InvariantCulture, $"outside of the device (driver, wake-ups): {Units.Time(Math.Max(0, whole - inside))} of the mean of {Units.Time(whole)}"));
    }

    /// <summary>Writes it as members of the object at hand.</summary>
    public void Write(Utf8JsonWriter json)
    {
        json.WriteStartArray("stages");
        foreach (StageShare stage in _stages)
        {
            json.WriteStartObject();
            json.WriteString("stage", stage.Stage);
            json.WriteNumber("count", stage.Count);
            json.WriteNumber("mean_ns", stage.MeanNs);
            json.WriteNumber("p50_ns", stage.P50Ns);
            json.WriteNumber("p99_ns", stage.P99Ns);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    public void Dispose() => _client.Dispose();

    private static double MeanNsOf(QueueTally total)
    {
        double requests = total.Read.Latency.Count + (double)total.Write.Latency.Count;
        return requests == 0 ? 0 : ((total.Read.Latency.MeanNs * total.Read.Latency.Count) + (total.Write.Latency.MeanNs * total.Write.Latency.Count)) / requests;
    }

    private static T Wait<T>(Task<T> task) => task.GetAwaiter().GetResult();
}
