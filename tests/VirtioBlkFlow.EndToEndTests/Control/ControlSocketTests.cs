using System.Diagnostics;
using System.Net;
using System.Text.Json;
using VirtioBlkFlow.EndToEndTests.Bench;
using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.EndToEndTests.Program;

namespace VirtioBlkFlow.EndToEndTests.Control;

/// <summary>--control: what is answered over HTTP on a unix socket, and that nothing of it is there without.</summary>
public sealed class ControlSocketTests : IDisposable
{
    private static readonly string[] s_stages = ["ring", "slot", "parse", "kernel", "completion", "call"];

    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task Status_and_disks_say_what_is_served_and_what_was_done()
    {
        string image = _folder.CreateImage(16).FilePath;
        await using ControlledDaemon daemon = await ControlledDaemon.StartAsync(_folder, "--blk-file", image, "--cache", "writeback");
        JsonElement status = await daemon.GetJsonAsync("/v1/status");
        Assert.Equal("vblkflow", status.GetProperty("program").GetString());
        Assert.Equal(daemon.Process.ProcessId, status.GetProperty("processId").GetInt32());
        Assert.Equal(1, status.GetProperty("disks").GetInt32());
        Assert.Equal(0, status.GetProperty("frontends").GetInt32());
        JsonElement disk = await OnlyDiskAsync(daemon);
        Assert.Equal("file", disk.GetProperty("kind").GetString());
        Assert.Equal(image, disk.GetProperty("what").GetString());
        Assert.Equal(daemon.SocketPath, disk.GetProperty("socket").GetString());
        Assert.Equal(16 << 20, disk.GetProperty("capacityBytes").GetInt64());
        Assert.False(disk.GetProperty("hasFrontend").GetBoolean());
        Assert.Equal(0, disk.GetProperty("queues").GetArrayLength());

        using (FrontendSession session = FrontendSession.Open(daemon.SocketPath))
        {
            session.VerifyRoundTrip(new DiskImage(image), sector: 8);
            disk = await OnlyDiskAsync(daemon);
            Assert.True(disk.GetProperty("hasFrontend").GetBoolean());
            Assert.True(Assert.Single(disk.GetProperty("queues").EnumerateArray()).GetProperty("running").GetBoolean());
            Assert.Equal(1, (await daemon.GetJsonAsync("/v1/status")).GetProperty("frontends").GetInt32());
        }

        await LeftAsync(daemon);
        long before = ReadsOf(await OnlyDiskAsync(daemon));
        await BenchProgram.RunAsync(_folder, daemon.SocketPath, "--count 2000 --queue-depth 8 --block-size 8K");
        await LeftAsync(daemon);
        disk = await OnlyDiskAsync(daemon);
        JsonElement queue = Assert.Single(disk.GetProperty("queues").EnumerateArray());
        Assert.Equal(before + 2000, ReadsOf(disk));
        Assert.False(queue.GetProperty("running").GetBoolean());
        Assert.True(queue.GetProperty("bytesRead").GetInt64() >= 2000 * 8192);
        Assert.True(queue.GetProperty("systemCalls").GetInt64() > 0);
        Assert.Empty(queue.GetProperty("errors").EnumerateObject());
        await daemon.StopAsync();
        Assert.Empty(daemon.Process.Errors.Lines);
    }

    [Fact]
    public async Task Latency_is_told_by_queue_and_stage()
    {
        await using ControlledDaemon daemon = await ControlledDaemon.StartAsync(
            _folder, "--blk-file", _folder.CreateImage(16).FilePath, "--stage-latency", "all");
        string id = (await OnlyDiskAsync(daemon)).GetProperty("id").GetString()!;
        await BenchProgram.RunAsync(_folder, daemon.SocketPath, "--count 3000 --queue-depth 16");
        await LeftAsync(daemon);
        JsonElement latency = await daemon.GetJsonAsync($"/v1/disks/{id}/latency");
        Assert.Equal(id, latency.GetProperty("id").GetString());
        Assert.Equal("all", latency.GetProperty("stageLatency").GetString());
        JsonElement queue = Assert.Single(latency.GetProperty("queues").EnumerateArray());
        Assert.Equal(0, queue.GetProperty("queue").GetInt32());
        JsonElement[] stages = [.. queue.GetProperty("stages").EnumerateArray()];
        Assert.Equal(s_stages, stages.Select(stage => stage.GetProperty("stage").GetString()));
        foreach (JsonElement stage in stages)
        {
            Assert.Equal(3000, stage.GetProperty("count").GetInt64());
            Assert.Equal(3000, stage.GetProperty("buckets").EnumerateArray().Sum(bucket => bucket[2].GetInt64()));
            Assert.True(stage.GetProperty("p50Ns").GetInt64() <= stage.GetProperty("p99Ns").GetInt64());
            Assert.True(stage.GetProperty("p99Ns").GetInt64() <= stage.GetProperty("maxNs").GetInt64());
            Assert.Equal(stage.GetProperty("sumNs").GetDouble() / 3000, stage.GetProperty("meanNs").GetDouble(), 1e-3);
        }

        Assert.True(stages[3].GetProperty("p50Ns").GetInt64() > 0, "A read takes no time.");
        await daemon.StopAsync();
    }

    [Fact]
    public async Task Switched_off_there_is_no_latency_to_tell()
    {
        await using ControlledDaemon daemon = await ControlledDaemon.StartAsync(
            _folder, "--blk-file", _folder.CreateImage(16).FilePath, "--stage-latency", "off");
        JsonElement disk = await OnlyDiskAsync(daemon);
        await BenchProgram.RunAsync(_folder, daemon.SocketPath, "--count 100");
        JsonElement latency = await daemon.GetJsonAsync($"/v1/disks/{disk.GetProperty("id").GetString()}/latency");
        Assert.Equal("off", latency.GetProperty("stageLatency").GetString());
        Assert.Equal(0, latency.GetProperty("queues").GetArrayLength());
        ProgramEnd bench = await BenchProgram.EndOfAsync(_folder, daemon.SocketPath, $"--count 1 --warm-up 0s --control {daemon.ControlPath}");
        bench.AssertRefusedWith(ProgramEnd.Failure, "measures nothing", "--stage-latency off");
    }

    [Fact]
    public async Task What_is_not_there_is_refused_with_what_is()
    {
        await using ControlledDaemon daemon = await ControlledDaemon.StartAsync(_folder, "--blk-file", _folder.CreateImage(16).FilePath);
        foreach ((string path, string remedy) in new[] { ("/v1/disks/no%20such%22disk/latency", "/v1/disks"), ("/", "/v1/status"), ("/v2/status", "/metrics") })
        {
            using HttpResponseMessage answer = await daemon.SendAsync(HttpMethod.Get, path);
            Assert.Equal(HttpStatusCode.NotFound, answer.StatusCode);
            string error = JsonDocument.Parse(await answer.Content.ReadAsStringAsync()).RootElement.GetProperty("error").GetString()!;
            Assert.Contains(remedy, error, StringComparison.Ordinal);
        }

        using HttpResponseMessage post = await daemon.SendAsync(HttpMethod.Post, "/v1/status");
        Assert.False(post.IsSuccessStatusCode);
        await daemon.StopAsync();
    }

    [Fact]
    public async Task The_socket_is_its_owners_alone_and_one_left_behind_is_replaced()
    {
        string image = _folder.CreateImage(16).FilePath;
        await using (ControlledDaemon killed = await ControlledDaemon.StartAsync(_folder, "--blk-file", image))
        {
            Assert.Equal("600", (await ChildProcess.RunAsync("stat", ["-c", "%a", killed.ControlPath], Vblkflow.EndDeadline)).Trim());
            killed.Process.Signal(ChildProcess.SIGKILL);
            await killed.Process.WaitForExitAsync(Vblkflow.EndDeadline);
            Assert.True(File.Exists(killed.ControlPath));
            await using ChildProcess next = Vblkflow.Start(
                _folder, "--socket-path", killed.SocketPath, "--control", killed.ControlPath, "--blk-file", image);
            Vblkflow.WaitUntilListening(killed.ControlPath, next);
            Assert.Equal("vblkflow", (await killed.GetJsonAsync("/v1/status")).GetProperty("program").GetString());
            ProgramEnd other = await Vblkflow.RunAsync(
                _folder, "--socket-path", _folder["other.sock"], "--control", killed.ControlPath, "--blk-file", _folder.CreateImage(1, "other.img").FilePath);
            other.AssertRefusedWith(ProgramEnd.Failure, "--control", killed.ControlPath);
            await Vblkflow.EndBySignalAsync(next, killed.SocketPath);
        }
    }

    [Fact]
    public async Task Without_it_no_web_framework_is_loaded()
    {
        string image = _folder.CreateImage(16).FilePath;
        await using ChildProcess plain = await Vblkflow.StartListeningAsync(_folder, "--blk-file", image);
        using (FrontendSession session = FrontendSession.Open(_folder[Vblkflow.SocketName]))
        {
            session.VerifyRoundTrip(new DiskImage(image), sector: 8);
        }

        Assert.DoesNotContain(WebAssembliesOf(plain), static _ => true);
        await Vblkflow.EndBySignalAsync(plain, _folder[Vblkflow.SocketName]);
    }

    [Fact]
    public async Task The_web_framework_is_loaded_when_somebody_asks_for_the_first_time()
    {
        string image = _folder.CreateImage(16).FilePath;
        await using ControlledDaemon daemon = await ControlledDaemon.StartAsync(_folder, "--blk-file", image);
        var listens = Stopwatch.StartNew();
        using (FrontendSession session = FrontendSession.Open(daemon.SocketPath))
        {
            session.VerifyRoundTrip(new DiskImage(image), sector: 8);
        }

        Assert.DoesNotContain(WebAssembliesOf(daemon.Process), static _ => true);
        double servedSeconds = listens.Elapsed.TotalSeconds;
        JsonElement status = await daemon.GetJsonAsync("/v1/status");
        Assert.Equal("vblkflow", status.GetProperty("program").GetString());
        // It serves since it listens, and not since somebody asked.
        Assert.True(status.GetProperty("uptimeSeconds").GetDouble() > servedSeconds);
        // Or the looks above would have seen nothing either way.
        Assert.Contains(WebAssembliesOf(daemon.Process), static name => name.Contains("Kestrel", StringComparison.Ordinal));
        await daemon.StopAsync();
    }

    [Fact]
    public async Task A_daemon_that_nobody_asked_ends_and_leaves_no_socket()
    {
        await using ControlledDaemon daemon = await ControlledDaemon.StartAsync(_folder, "--blk-file", _folder.CreateImage(16).FilePath);
        await daemon.StopAsync();
    }

    [Fact]
    public async Task Those_who_connect_before_the_first_answer_are_all_answered()
    {
        await using ControlledDaemon daemon = await ControlledDaemon.StartAsync(_folder, "--blk-file", _folder.CreateImage(16).FilePath);
        JsonElement[] answers = await Task.WhenAll(Enumerable.Range(0, 32).Select(_ => daemon.GetJsonAsync("/v1/status")));
        Assert.All(answers, static answer => Assert.Equal("vblkflow", answer.GetProperty("program").GetString()));
        await daemon.StopAsync();
    }

    private static IEnumerable<string> WebAssembliesOf(ChildProcess process) => File.ReadLines($"/proc/{process.ProcessId}/maps")
        .Select(line => Path.GetFileName(line.Split(' ')[^1]))
        .Where(name => name.StartsWith("Microsoft.AspNetCore.", StringComparison.Ordinal));

    private static async Task<JsonElement> OnlyDiskAsync(ControlledDaemon daemon) =>
        Assert.Single((await daemon.GetJsonAsync("/v1/disks")).GetProperty("disks").EnumerateArray());

    private static long ReadsOf(JsonElement disk) => disk.GetProperty("queues")[0].GetProperty("requests").GetProperty("read").GetInt64();

    // The daemon hears of the end of a connection a moment later.
    internal static async Task LeftAsync(ControlledDaemon daemon)
    {
        using CancellationTokenSource deadline = new(Vblkflow.EndDeadline);
        while ((await OnlyDiskAsync(daemon)).GetProperty("hasFrontend").GetBoolean())
        {
            deadline.Token.ThrowIfCancellationRequested();
        }
    }
}
