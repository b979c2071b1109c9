using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.Program;

namespace VirtioBlkFlow.EndToEndTests.Bench;

/// <summary><c>vblkflow bench</c> against the daemon.</summary>
public sealed class BenchTests : IDisposable
{
    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    public static TheoryData<string, string, int> Ways()
    {
        var ways = new TheoryData<string, string, int>();
        foreach (string ring in new[] { "split", "packed" })
        {
            foreach (string wait in new[] { "poll", "sleep" })
            {
                ways.Add(ring, wait, 1);
                ways.Add(ring, wait, 2);
            }
        }

        return ways;
    }

    [Theory]
    [MemberData(nameof(Ways))]
    public async Task Every_request_comes_back_over_any_ring_with_any_way_to_wait(string ring, string wait, int queues)
    {
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(_folder, new DaemonOptions(_folder.CreateImage(16)) { Cache = "writeback" });

        BenchJob job = await BenchProgram.RunAsync(
            _folder,
            daemon.SocketPath,
            $"--rw randrw --allow-writes --verify --block-size 4K:3/64K:1 --queue-depth 16 --count 4000 --ring {ring} --wait {wait} --queues {queues}");

        Assert.Equal(4000, job.Reads + job.Writes);
        Assert.True(job.Reads > 1500 && job.Writes > 1500, $"{job.Reads} reads, {job.Writes} writes");
        Assert.True(job.OwnCount("verified_sectors") > 4000);
        Assert.Equal(0, job.OwnCount("odd_used_lengths"));
        Assert.Equal(ring, job.Own.GetProperty("ring").GetString());
        Assert.Equal(daemon.ProcessId, job.Own.GetProperty("server").GetProperty("pid").GetInt32());
        Assert.True(job.Own.GetProperty("server").GetProperty("cpu_ns_per_request").GetDouble() > 0);
        await daemon.StopAsync();
    }

    [Fact]
    public async Task Without_event_idx_and_indirect_tables_it_goes_as_well()
    {
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(_folder, new DaemonOptions(_folder.CreateImage(16)));

        BenchJob job = await BenchProgram.RunAsync(
            _folder, daemon.SocketPath, "--rw read --block-size 128K --queue-depth 4 --count 500 --wait sleep --no-event-idx --no-indirect");

        Assert.Equal(500, job.Reads);
        Assert.False(job.Own.GetProperty("event_idx").GetBoolean());
        Assert.False(job.Own.GetProperty("indirect").GetBoolean());
        // A driver that sleeps is called, and it slept.
        Assert.True(job.OwnCount("calls") > 0 && job.OwnCount("sleeps") > 0);
    }

    [Fact]
    public async Task An_open_loop_makes_the_requests_that_are_due()
    {
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(_folder, new DaemonOptions(_folder.CreateImage(16)));

        BenchJob job = await BenchProgram.RunAsync(
            _folder, daemon.SocketPath, "--rate 1000 --arrivals poisson --wait sleep --queue-depth 256 --count 500");

        Assert.Equal(500, job.Reads);
        Assert.Equal(0, job.OwnCount("never_begun"));
        // 500 of them at 1000 a second: half a second, but for the luck of the draw (five standard deviations) at its lower end.
        Assert.True(job.OwnCount("elapsed_ns") > 380_000_000, $"{job.OwnCount("elapsed_ns")} ns");
    }

    [Fact]
    public async Task Data_that_somebody_changed_under_the_daemon_is_found()
    {
        DiskImage image = _folder.CreateImage(4);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(_folder, new DaemonOptions(image) { Cache = "writeback", Lock = false });
        await BenchProgram.RunAsync(
            _folder, daemon.SocketPath, "--rw write --allow-writes --verify --block-size 64K --queue-depth 4 --count 64 --seed 9");
        const string Check = "--rw read --verify --block-size 64K --count 64 --seed 9";
        BenchJob right = await BenchProgram.RunAsync(_folder, daemon.SocketPath, Check);
        Assert.Equal(4 << 20 >> 9, right.OwnCount("verified_sectors"));

        using (FileStream file = new(image.FilePath, FileMode.Open, FileAccess.Write, FileShare.ReadWrite))
        {
            file.Position = (2 << 20) + 700;
            file.WriteByte(0);
            file.WriteByte(1);
        }

        ProgramEnd end = await BenchProgram.EndOfAsync(_folder, daemon.SocketPath, $"{Check} --warm-up 0s");
        end.AssertRefusedWith(ProgramEnd.Failure, "Wrong data", $"sector {(2 << 20 >> 9) + 1} ");
    }

    [Theory]
    [InlineData("poll")]
    [InlineData("sleep")]
    public async Task A_daemon_that_is_killed_ends_the_run_with_a_sentence(string wait)
    {
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(_folder, new DaemonOptions(_folder.CreateImage(4)));
        // An open loop whose next request is far away: nothing but the end of the connection can wake it.
        ChildProcess bench = BenchProgram.Start(_folder, daemon.SocketPath, $"--wait {wait} --warm-up 0s --rate 0.01 --time 1h");
        Assert.True(SpinWait.SpinUntil(() => bench.HasExited || HasConnection(daemon), Vblkflow.EndDeadline), "It does not connect.");

        await daemon.KillAsync();

        (await Vblkflow.EndOfAsync(bench)).AssertRefusedWith(ProgramEnd.Failure, "closed the connection");
    }

    [Fact]
    public async Task A_signal_ends_the_run_early_with_a_report()
    {
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(_folder, new DaemonOptions(_folder.CreateImage(4)));
        ChildProcess bench = BenchProgram.Start(_folder, daemon.SocketPath, "--wait sleep --warm-up 0s --time 1h");
        Assert.True(SpinWait.SpinUntil(() => bench.HasExited || HasConnection(daemon), Vblkflow.EndDeadline), "It does not connect.");

        bench.Signal(ChildProcess.SIGTERM);

        ProgramEnd end = await Vblkflow.EndOfAsync(bench);
        Assert.True(end.ExitCode == ProgramEnd.Failure, $"exit code {end.ExitCode}\n{end.Error}");
        Assert.Contains(end.Output, line => line.Contains("stopped before its time", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_disk_it_may_not_write_and_a_socket_nobody_listens_on_are_named()
    {
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(_folder, new DaemonOptions(_folder.CreateImage(4)) { ReadOnly = true, QueueCount = 2 });

        (await BenchProgram.EndOfAsync(_folder, daemon.SocketPath, "--rw randwrite --allow-writes")).AssertRefusedWith(ProgramEnd.Failure, "read-only");
        (await BenchProgram.EndOfAsync(_folder, daemon.SocketPath, "--rw randwrite")).AssertRefusedWith(ProgramEnd.Usage, "--allow-writes", "bench --help");
        (await BenchProgram.EndOfAsync(_folder, daemon.SocketPath, "--queues 3")).AssertRefusedWith(ProgramEnd.Failure, "2 queues");
        (await BenchProgram.EndOfAsync(_folder, daemon.SocketPath, "--size 5M")).AssertRefusedWith(ProgramEnd.Failure, "4194304");
        (await BenchProgram.EndOfAsync(_folder, _folder["nobody.sock"], "")).AssertRefusedWith(ProgramEnd.Failure, "nobody.sock");
    }

    // The daemon has a thread for each queue that a front-end has started.
    private static bool HasConnection(DaemonProcess daemon) =>
        Directory.EnumerateDirectories($"/proc/{daemon.ProcessId}/task").Any(task => ReadName(task) == "queue-0");

    private static string ReadName(string task)
    {
        try
        {
            return File.ReadAllText(Path.Combine(task, "comm")).Trim();
        }
        catch (IOException)
        {
            // It has just ended.
            return "";
        }
    }
}
