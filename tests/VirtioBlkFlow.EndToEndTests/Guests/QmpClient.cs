using System.Net.Sockets;
using System.Text.Json.Nodes;

namespace VirtioBlkFlow.EndToEndTests.Guests;

/// <summary>Commands to a running QEMU (QEMU Machine Protocol: one JSON object a line).</summary>
internal sealed class QmpClient : IDisposable
{
    private static readonly TimeSpan s_deadline = TimeSpan.FromSeconds(60);

    private readonly Socket _socket;
    private readonly StreamReader _reader;
    private readonly StreamWriter _writer;
    private readonly List<JsonNode> _waiting = [];

    private QmpClient(Socket socket)
    {
        _socket = socket;
        NetworkStream stream = new(socket, ownsSocket: true);
        _reader = new StreamReader(stream);
        _writer = new StreamWriter(stream) { AutoFlush = true, NewLine = "\n" };
    }

    public static async Task<QmpClient> ConnectAsync(string path)
    {
        Socket socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        await socket.ConnectAsync(new UnixDomainSocketEndPoint(path));
        QmpClient client = new(socket);
        // The greeting, then out of capabilities negotiation.
        await client._reader.ReadLineAsync().WaitAsync(s_deadline);
        await client.ExecuteAsync("qmp_capabilities");
        return client;
    }

    public async Task<JsonNode> ExecuteAsync(string command, JsonObject? arguments = null)
    {
        JsonObject message = new() { ["execute"] = command };
        if (arguments is not null)
        {
            message["arguments"] = arguments;
        }

        await _writer.WriteLineAsync(message.ToJsonString());
        JsonNode answer = await NextAsync(message => message["event"] is null);
        return answer["return"] ?? throw new InvalidOperationException($"{command}: {answer.ToJsonString()}");
    }

    /// <summary>Moves the machine to another QEMU that waits for it, and returns when it runs there.</summary>
    public async Task MigrateAsync(string uri)
    {
        await ExecuteAsync("migrate-set-capabilities", new JsonObject
        {
            ["capabilities"] = new JsonArray(new JsonObject { ["capability"] = "events", ["state"] = true }),
        });
        // Slow enough for the guest to do a good deal while its memory is copied, and willing to stop it for the rest.
        await ExecuteAsync("migrate-set-parameters", new JsonObject { ["max-bandwidth"] = 64L << 20, ["downtime-limit"] = 2000 });
        await ExecuteAsync("migrate", new JsonObject { ["uri"] = uri });
        string status;
        do
        {
            JsonNode change = await NextAsync(message => message["event"]?.GetValue<string>() == "MIGRATION");
            status = change["data"]!["status"]!.GetValue<string>();
            Assert.False(status is "failed" or "cancelled", change.ToJsonString());
        }
        while (status != "completed");
    }

    public void Dispose()
    {
        _writer.Dispose();
        _socket.Dispose();
    }

    // The first message that is wanted; events that are not wait for whoever asks for them.
    private async Task<JsonNode> NextAsync(Predicate<JsonNode> wanted)
    {
        int earlier = _waiting.FindIndex(wanted);
        if (earlier >= 0)
        {
            JsonNode message = _waiting[earlier];
            _waiting.RemoveAt(earlier);
            return message;
        }

        while (true)
        {
            string line = await _reader.ReadLineAsync().WaitAsync(s_deadline) ?? throw new EndOfStreamException("QEMU left.");
            JsonNode message = JsonNode.Parse(line)!;
            if (wanted(message))
            {
                return message;
            }

            _waiting.Add(message);
        }
    }
}
