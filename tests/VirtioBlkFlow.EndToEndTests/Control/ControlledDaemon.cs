using System.Net;
using System.Net.Sockets;
using System.Text.Json;
using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.Program;

namespace VirtioBlkFlow.EndToEndTests.Control;

/// <summary>A daemon with a control socket, and somebody who asks there.</summary>
internal sealed class ControlledDaemon : IAsyncDisposable
{
    private const string ControlName = "control.sock";

    private readonly HttpClient _http;

    private ControlledDaemon(TestFolder folder, ChildProcess process)
    {
        Process = process;
        SocketPath = folder[Vblkflow.SocketName];
        ControlPath = folder[ControlName];
        var handler = new SocketsHttpHandler
        {
            ConnectCallback = async (_, cancellation) =>
            {
                var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
                await socket.ConnectAsync(new UnixDomainSocketEndPoint(ControlPath), cancellation);
                return new NetworkStream(socket, ownsSocket: true);
            },
        };
        _http = new HttpClient(handler) { BaseAddress = new Uri("http://localhost/"), Timeout = Vblkflow.EndDeadline };
    }

    public ChildProcess Process { get; }

    public string SocketPath { get; }

    public string ControlPath { get; }

    /// <summary>Starts it; the control socket is the last to listen.</summary>
    public static async Task<ControlledDaemon> StartAsync(TestFolder folder, params string[] arguments) => new(
        folder,
        await Harness.ListeningSocket.StartListenerAsync(
            folder,
            ControlName,
            () => Vblkflow.Start(folder, ["--socket-path", folder[Vblkflow.SocketName], "--control", folder[ControlName], .. arguments])));

    /// <summary>Starts it with any number of disks, which say where their sockets are.</summary>
    public static async Task<ControlledDaemon> StartWithDisksAsync(TestFolder folder, params string[] arguments) => new(
        folder,
        await Harness.ListeningSocket.StartListenerAsync(folder, ControlName, () => Vblkflow.Start(folder, ["--control", folder[ControlName], .. arguments])));

    /// <summary>A request that must be answered with 200.</summary>
    public async Task<string> GetAsync(string path, string mediaType)
    {
        using HttpResponseMessage answer = await _http.GetAsync(path);
        Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
        Assert.Equal(mediaType, answer.Content.Headers.ContentType!.MediaType);
        return await answer.Content.ReadAsStringAsync();
    }

    public async Task<JsonElement> GetJsonAsync(string path) => JsonDocument.Parse(await GetAsync(path, "application/json")).RootElement;

    /// <summary>A request, whatever the answer is.</summary>
    public Task<HttpResponseMessage> SendAsync(HttpMethod method, string path, string? json = null) =>
        _http.SendAsync(new HttpRequestMessage(method, path) { Content = json is null ? null : new StringContent(json) });

    /// <summary>A request that must be answered with 200 and JSON.</summary>
    public Task<JsonElement> TellAsync(HttpMethod method, string path, string? json = null) => AnswerAsync(method, path, json, HttpStatusCode.OK);

    /// <summary>A request that must be refused, in words that name something.</summary>
    public async Task AssertRefusedAsync(HttpStatusCode status, HttpMethod method, string path, string? json, params string[] words)
    {
        string error = (await AnswerAsync(method, path, json, status)).GetProperty("error").GetString()!;
        Assert.All(words, word => Assert.Contains(word, error, StringComparison.Ordinal));
    }

    private async Task<JsonElement> AnswerAsync(HttpMethod method, string path, string? json, HttpStatusCode status)
    {
        using HttpResponseMessage answer = await SendAsync(method, path, json);
        string text = await answer.Content.ReadAsStringAsync();
        Assert.True(answer.StatusCode == status, $"{method} {path} {json}: {answer.StatusCode} {text}");
        Assert.Equal("application/json", answer.Content.Headers.ContentType!.MediaType);
        return JsonDocument.Parse(text).RootElement;
    }

    /// <summary>Ends it by a signal; neither socket is left behind.</summary>
    public async Task StopAsync()
    {
        await Vblkflow.EndBySignalAsync(Process, SocketPath);
        Assert.False(File.Exists(ControlPath), "It left its control socket behind.");
    }

    public ValueTask DisposeAsync()
    {
        _http.Dispose();
        return Process.DisposeAsync();
    }
}
