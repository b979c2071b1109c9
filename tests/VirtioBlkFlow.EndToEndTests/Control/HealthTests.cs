using System.Net;
using System.Text.Json;
using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.EndToEndTests.Program;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.EndToEndTests.Control;

/// <summary>The health of a disk, as a file records it, and what becomes of the guest's writes; a disk that is read in the background.</summary>
public sealed class HealthTests : IDisposable
{
    private const string RefreshPath = "/v1/disks/d/refresh";

    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task A_disk_that_gets_too_hot_is_not_written_to_until_it_has_cooled_down()
    {
        Record("wear=42 spare=100 temperature=40");
        await using ControlledDaemon daemon = await ControlledDaemon.StartAsync(
            _folder, "--disk", "memory:1M,id=d,health=file:health,health-warn=wear:80%,health-read-only=temperature:85C:75C,health-interval=10ms");
        using (FrontendSession session = FrontendSession.Open(daemon.SocketPath))
        {
            BlkDriver driver = session.Drivers[0];
            Assert.True(((BlkFeatures)session.Negotiation.Features).HasFlag(BlkFeatures.VIRTIO_BLK_F_LIFETIME));
            Assert.Equal((1, 5, 0), LifetimeOf(driver));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Write(0, new byte[512]));

            Record("wear=42 spare=100 temperature=90");
            await SaidAsync(daemon, "Disk 'd': temperature 90 C has come to the limit of 85 C. Writes fail from now on; reads go on.");
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, driver.Write(0, new byte[512]));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, driver.Discard(new BlkSegment { Sector = 0, SectorCount = 8 }));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Read(0, new byte[512]));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Flush());

            Record("wear=42 spare=100 temperature=80");
            JsonElement health = await HealthAsync(daemon, health => health.GetProperty("temperatureCelsius").GetInt32() == 80);
            Assert.True(health.GetProperty("readOnly").GetBoolean());
            MetricsPage metrics = MetricsPage.Parse(await daemon.GetAsync("/metrics", "text/plain"));
            Assert.Equal(
                (42, 100, 80, 1),
                (metrics.Value("virtioblkflow_disk_wear_percent"), metrics.Value("virtioblkflow_disk_spare_percent"), metrics.Value("virtioblkflow_disk_temperature_celsius"), metrics.Value("virtioblkflow_disk_writes_stopped")));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, driver.Write(0, new byte[512]));

            Record("wear=85 spare=15 temperature=74");
            await SaidAsync(daemon, "Disk 'd': temperature 74 C is past 75 C again. Writes go on.");
            await SaidAsync(daemon, "Disk 'd': wear 85 % has come to the limit of 80 %.");
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Write(0, new byte[512]));
            Assert.Equal((2, 9, 0), LifetimeOf(driver));

            File.Delete(_folder["health"]);
            await SaidAsync(daemon, "Disk 'd': its health cannot be read; what was known last holds.");
            health = await HealthAsync(daemon, health => health.GetProperty("obstacle").ValueKind == JsonValueKind.String);
            Assert.Equal((85, 15, true), (health.GetProperty("wearPercent").GetInt32(), health.GetProperty("sparePercent").GetInt32(), health.GetProperty("warned").GetBoolean()));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Write(0, new byte[512]));
        }

        await daemon.StopAsync();
        Assert.Single(daemon.Process.Errors.Lines, line => line.Contains("wear 85 %", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("health-warn=wear:80", "Nothing tells of the health", "health=file:PATH")]
    [InlineData("health=file:wrong", "wrong:2: 'colour=1'", "temperature=N")]
    public async Task Health_that_cannot_be_told_is_refused_at_the_start(string keys, params string[] words)
    {
        _folder.CreateImage(1);
        File.WriteAllText(_folder["wrong"], "wear=1\ncolour=1\n");
        ProgramEnd end = await Vblkflow.RunAsync(_folder, "--disk", $"file:disk.img,{keys}");
        end.AssertRefusedWith(ProgramEnd.Failure, words);
    }

    [Fact]
    public async Task A_refresh_reads_all_finds_what_is_bad_and_rewrites_without_changing_anything()
    {
        DiskImage image = _folder.CreateRandomImage(4, seed: 9);
        byte[] before = image.Read(0, 4 << 20);
        await using ControlledDaemon daemon = await ControlledDaemon.StartAsync(
            _folder, "--disk", "file:disk.img,id=d,refresh=1G,faults=read:at=2048/8:error");
        JsonElement refresh = await RefreshAsync(daemon, "finished");
        Assert.Equal(((4 << 20) - 4096, 4096, 0), Bytes(refresh));
        Assert.Equal("[[1048576,4096]]", refresh.GetProperty("unreadable").GetRawText());
        await SaidAsync(daemon, "Disk 'd': the refresh cannot read 4096 bytes from sector 2048 on.");
        await daemon.TellAsync(HttpMethod.Post, RefreshPath, """{ "run": "rewrite" }""");
        using (FrontendSession session = FrontendSession.Open(daemon.SocketPath))
        {
            // A guest that is at work now and then.
            do
            {
                Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Read(0, new byte[512]));
                refresh = (await daemon.GetJsonAsync("/v1/disks/d")).GetProperty("refresh");
                await Task.Yield();
            }
            while (refresh.GetProperty("readBytes").GetInt32() == 0 && refresh.GetProperty("pauses").GetInt32() == 0);
        }

        refresh = await RefreshAsync(daemon, "finished");
        Assert.Equal(((4 << 20) - 4096, 4096, (4 << 20) - 4096), Bytes(refresh));
        await daemon.StopAsync();
        Assert.Equal(before, image.Read(0, 4 << 20));
    }

    [Fact]
    public async Task What_cannot_be_refreshed_or_rewritten_is_refused_and_what_runs_can_be_stopped()
    {
        _folder.CreateImage(1);
        await using ControlledDaemon daemon = await ControlledDaemon.StartWithDisksAsync(
            _folder,
            "--disk", "file:disk.img,id=d,refresh=4096:on-demand,lock=off",
            "--disk", "null:1M,id=plain",
            "--socket-dir", _folder.FullName);
        await daemon.AssertRefusedAsync(HttpStatusCode.Conflict, HttpMethod.Post, "/v1/disks/plain/refresh", """{ "run": "read" }""", "refresh=RATE");
        await daemon.AssertRefusedAsync(HttpStatusCode.Conflict, HttpMethod.Post, RefreshPath, """{ "run": "rewrite" }""", "lock=off");
        await daemon.AssertRefusedAsync(HttpStatusCode.BadRequest, HttpMethod.Post, RefreshPath, """{ "run": "away" }""", "'away'", "rewrite");
        await daemon.AssertRefusedAsync(HttpStatusCode.BadRequest, HttpMethod.Post, RefreshPath, "", "rewrite");
        await daemon.AssertRefusedAsync(HttpStatusCode.BadRequest, HttpMethod.Post, RefreshPath, """{ "run": "read", "rate": 1 }""", "rewrite");
        Assert.Equal("none", (await daemon.GetJsonAsync("/v1/disks/d")).GetProperty("refresh").GetProperty("state").GetString());
        Assert.Equal("running", (await daemon.TellAsync(HttpMethod.Post, RefreshPath, """{ "run": "read" }""")).GetProperty("state").GetString());
        await daemon.TellAsync(HttpMethod.Post, RefreshPath, """{ "run": "stop" }""");
        await RefreshAsync(daemon, "stopped");
        await daemon.TellAsync(HttpMethod.Post, RefreshPath, """{ "run": "read" }""");
        // One that is under way is no obstacle to the end.
        await Vblkflow.EndBySignalAsync(daemon.Process, _folder["d.sock"]);
    }

    private void Record(string text)
    {
        File.WriteAllText(_folder["health.new"], text);
        File.Move(_folder["health.new"], _folder["health"], overwrite: true);
    }

    private static async Task SaidAsync(ControlledDaemon daemon, string text) =>
        await daemon.Process.Errors.WaitForAsync(line => line.Contains(text, StringComparison.Ordinal), Vblkflow.EndDeadline);

    private static (int PreEol, int A, int B) LifetimeOf(BlkDriver driver)
    {
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.GetLifetime(out BlkLifetime lifetime));
        return (lifetime.PreEolInfo, lifetime.EstimateA, lifetime.EstimateB);
    }

    private static Task<JsonElement> HealthAsync(ControlledDaemon daemon, Func<JsonElement, bool> holds) => DiskAsync(daemon, "health", holds);

    private static Task<JsonElement> RefreshAsync(ControlledDaemon daemon, string state) =>
        DiskAsync(daemon, "refresh", refresh => refresh.GetProperty("state").GetString() == state);

    private static async Task<JsonElement> DiskAsync(ControlledDaemon daemon, string part, Func<JsonElement, bool> holds)
    {
        using CancellationTokenSource deadline = new(Vblkflow.EndDeadline);
        JsonElement now;
        do
        {
            deadline.Token.ThrowIfCancellationRequested();
            now = (await daemon.GetJsonAsync("/v1/disks/d")).GetProperty(part);
        }
        while (!holds(now));
        return now;
    }

    private static (int Read, int Unreadable, int Rewritten) Bytes(JsonElement refresh) => (
        refresh.GetProperty("readBytes").GetInt32(), refresh.GetProperty("unreadableBytes").GetInt32(), refresh.GetProperty("rewrittenBytes").GetInt32());
}
