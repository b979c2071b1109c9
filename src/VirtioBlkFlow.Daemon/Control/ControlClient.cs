using System.Net;
using System.Net.Sockets;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;

namespace VirtioBlkFlow.Daemon.Control;

/// <summary>A control socket did not answer as it should. The message names the cause and what to do about it.</summary>
internal sealed class ControlException(string message) : Exception(message);

/// <summary>Asks a daemon at its control socket.</summary>
internal sealed class ControlClient : IDisposable
{
    // Arbitrary: an answer takes milliseconds.
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(10);

    private readonly string _path;
    private readonly HttpClient _http;

    /// <summary>Connects when it is asked for something.</summary>
    public ControlClient(string path)
    {
        _path = path;
        _http = new HttpClient(new SocketsHttpHandler { ConnectCallback = (_, cancellation) => ConnectAsync(path, cancellation), UseProxy = false })
        {
            // The name is only there because HTTP wants one.
            BaseAddress = new Uri("http://vblkflow/"),
            Timeout = s_patience,
        };
    }

    /// <summary>Where it asks.</summary>
    public string Path => _path;

    /// <exception cref="ControlException">There is no such answer.</exception>
    public Task<StatusReport> StatusAsync(CancellationToken cancellation) => GetAsync("v1/status", ControlJson.Default.StatusReport, cancellation);

    /// <exception cref="ControlException">There is no such answer.</exception>
    public async Task<IReadOnlyList<DiskReport>> DisksAsync(CancellationToken cancellation) =>
        (await GetAsync("v1/disks", ControlJson.Default.DiskListReport, cancellation)).Disks;

    /// <exception cref="ControlException">There is no such answer.</exception>
    public Task<LatencyReport> LatencyAsync(string id, CancellationToken cancellation) =>
        GetAsync($"v1/disks/{Uri.EscapeDataString(id)}/latency", ControlJson.Default.LatencyReport, cancellation);

    public void Dispose() => _http.Dispose();

    private static async ValueTask<Stream> ConnectAsync(string path, CancellationToken cancellation)
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            await socket.ConnectAsync(new UnixDomainSocketEndPoint(path), cancellation);
            return new NetworkStream(socket, ownsSocket: true);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    private async Task<T> GetAsync<T>(string what, JsonTypeInfo<T> type, CancellationToken cancellation)
    {
        try
        {
            using HttpResponseMessage answer = await _http.GetAsync(what, cancellation);
            if (answer.StatusCode != HttpStatusCode.OK)
            {
                throw new ControlException($"'{_path}' answers {(int)answer.StatusCode} to /{what}: this is no control socket of vblkflow, or of another version.");
            }

            await using Stream body = await answer.Content.ReadAsStreamAsync(cancellation);
            return await JsonSerializer.DeserializeAsync(body, type, cancellation) ?? throw new JsonException("null");
        }
        catch (JsonException)
        {
            throw new ControlException($"What '{_path}' answers to /{what} is not understood: this is no control socket of vblkflow, or of another version.");
        }
        catch (Exception exception) when (exception is HttpRequestException or ArgumentException or IOException)
        {
            string reason = exception.InnerException is SocketException refused ? refused.Message : exception.Message;
            throw new ControlException($"The control socket '{_path}' cannot be asked: {reason}. Is this the PATH that the daemon was given with --control?");
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            throw new ControlException($"The control socket '{_path}' does not answer within {s_patience.TotalSeconds} s.");
        }
    }
}
