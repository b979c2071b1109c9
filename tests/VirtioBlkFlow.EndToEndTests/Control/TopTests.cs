using System.Text.Json;
using VirtioBlkFlow.EndToEndTests.Bench;
using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.Program;

namespace VirtioBlkFlow.EndToEndTests.Control;

/// <summary>What reads a control socket: top, bench, and SIGUSR1, which does without.</summary>
public sealed class TopTests : IDisposable
{
    private const int SIGUSR1 = 10;

    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task Top_once_prints_a_line_for_each_queue()
    {
        await using ControlledDaemon daemon = await ControlledDaemon.StartAsync(
            _folder, "--blk-file", _folder.CreateImage(16).FilePath, "--stage-latency", "all");
        await BenchProgram.RunAsync(_folder, daemon.SocketPath, "--count 1000 --queue-depth 8 --queues 2");
        await ControlSocketTests.LeftAsync(daemon);
        ProgramEnd top = await Vblkflow.RunAsync(_folder, "top", "--once", daemon.ControlPath);
        Assert.True(top.ExitCode == ProgramEnd.Success, top.Error);
        Assert.Contains($"process {daemon.Process.ProcessId}", top.Output[0], StringComparison.Ordinal);
        string[] heads = Words(Assert.Single(top.Output, line => line.Contains("IOPS", StringComparison.Ordinal)));
        Assert.Equal(["disk", "queue", "state", "IOPS", "read/s", "written/s", "errors", "req/batch", "syscalls/req", "ring", "slot", "parse", "kernel", "completion", "call"], heads);
        string[][] rows = [.. top.Output.Where(line => line.Contains("no front-end", StringComparison.Ordinal)).Select(Words)];
        Assert.Equal(["0", "1"], rows.Select(row => row[1]));
        Assert.All(rows, row => Assert.Matches(@"^[0-9.]+(ns|µs|ms|s)/[0-9.]+(ns|µs|ms|s)$", row[^3]));
        Assert.Empty(top.Errors);
        await daemon.StopAsync();
    }

    [Fact]
    public async Task Top_says_what_is_wrong_with_a_path()
    {
        ProgramEnd absent = await Vblkflow.RunAsync(_folder, "top", "--once", _folder["nothing.sock"]);
        absent.AssertRefusedWith(ProgramEnd.Failure, "nothing.sock", "--control");
        await using ChildProcess daemon = await Vblkflow.StartListeningAsync(_folder, "--blk-file", _folder.CreateImage(16).FilePath);
        ProgramEnd wrong = await Vblkflow.RunAsync(_folder, "top", "--once", _folder[Vblkflow.SocketName]);
        wrong.AssertRefusedWith(ProgramEnd.Failure, "--control");
        ProgramEnd noTerminal = await Vblkflow.RunAsync(_folder, "top", _folder["nothing.sock"]);
        noTerminal.AssertRefusedWith(ProgramEnd.Usage, "--once");
        ProgramEnd nowhere = await Vblkflow.RunAsync(_folder, "top");
        nowhere.AssertRefusedWith(ProgramEnd.Usage, "top");
    }

    [Fact]
    public async Task Bench_prints_where_its_latency_comes_from()
    {
        await using ControlledDaemon daemon = await ControlledDaemon.StartAsync(
            _folder, "--blk-file", _folder.CreateImage(16).FilePath, "--stage-latency", "all");
        // What was before is not this run's.
        await BenchProgram.RunAsync(_folder, daemon.SocketPath, "--count 500");
        ProgramEnd bench = await BenchProgram.EndOfAsync(
            _folder, daemon.SocketPath, $"--count 2000 --warm-up 0s --queue-depth 8 --control {daemon.ControlPath} --json {_folder["bench.json"]}");
        Assert.True(bench.ExitCode == ProgramEnd.Success, bench.Error);
        Assert.Contains(bench.Output, line => line.StartsWith("kernel ", StringComparison.Ordinal));
        Assert.Contains(bench.Output, line => line.StartsWith("outside of the device", StringComparison.Ordinal));
        using JsonDocument json = JsonDocument.Parse(await File.ReadAllTextAsync(_folder["bench.json"]));
        JsonElement[] stages = [.. json.RootElement.GetProperty("jobs")[0].GetProperty("vblkflow").GetProperty("stages").EnumerateArray()];
        Assert.Equal(["ring", "slot", "parse", "kernel", "completion", "call"], stages.Select(stage => stage.GetProperty("stage").GetString()));
        // The last burst may be counted a moment after the driver has seen it.
        Assert.All(stages, stage => Assert.InRange(stage.GetProperty("count").GetInt64(), 1992, 2000));
        await daemon.StopAsync();
    }

    [Fact]
    public async Task Bench_refuses_the_control_socket_of_another_daemon()
    {
        await using ControlledDaemon daemon = await ControlledDaemon.StartAsync(_folder, "--blk-file", _folder.CreateImage(16).FilePath);
        ProgramEnd bench = await BenchProgram.EndOfAsync(_folder, _folder["elsewhere.sock"], $"--count 1 --control {daemon.ControlPath}");
        bench.AssertRefusedWith(ProgramEnd.Failure, "does not serve", "elsewhere.sock");
        await daemon.StopAsync();
    }

    [Fact]
    public async Task SIGUSR1_logs_a_snapshot_and_ends_nothing()
    {
        await using ChildProcess daemon = await Vblkflow.StartListeningAsync(_folder, "--blk-file", _folder.CreateImage(16).FilePath, "--stage-latency", "all");
        daemon.Signal(SIGUSR1);
        await daemon.Errors.WaitForAsync(line => line.Contains("no queue was ever started", StringComparison.Ordinal), Vblkflow.EndDeadline);
        await BenchProgram.RunAsync(_folder, _folder[Vblkflow.SocketName], "--count 700 --queue-depth 4");
        daemon.Signal(SIGUSR1);
        await daemon.Errors.WaitForAsync(
            line => line.Contains("queue 0: 700 requests, 0 errors, 2867200 bytes read, 0 written", StringComparison.Ordinal)
                && line.Contains("; p50/p99 ring ", StringComparison.Ordinal),
            Vblkflow.EndDeadline);
        await Vblkflow.EndBySignalAsync(daemon, _folder[Vblkflow.SocketName]);
    }

    private static string[] Words(string line) => [.. line.Replace("no front-end", "no-front-end", StringComparison.Ordinal).Split(' ', StringSplitOptions.RemoveEmptyEntries)];
}
