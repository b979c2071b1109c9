using System.Net;
using System.Text.Json;
using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.EndToEndTests.Program;
using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.EndToEndTests.Control;

/// <summary>What the control socket changes while a guest is at work: limits, what is held, the size.</summary>
public sealed class LiveLimitTests : IDisposable
{
    private const string Limits = "/v1/disks/d/limits";
    private const int DeadlineMs = 60_000;

    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task A_limit_makes_requests_wait_and_without_it_all_of_them_complete()
    {
        await using ControlledDaemon daemon = await ControlledDaemon.StartAsync(_folder, "--disk", "memory:1M,id=d,throttle=on");
        using (FrontendSession session = FrontendSession.Open(daemon.SocketPath))
        {
            Assert.Equal("{}", (await daemon.TellAsync(HttpMethod.Get, Limits)).GetProperty("limits").GetRawText());
            BlkDriver driver = session.Drivers[0];
            Submit(driver, 30);
            Complete(driver, 30);
            JsonElement now = await daemon.TellAsync(HttpMethod.Patch, Limits, """{ "iops": 1, "burst": 1 }""");
            Assert.Equal("""{"iops":1,"burst":1}""", now.GetProperty("limits").GetRawText());
            Submit(driver, 30);
            Complete(driver, 1);
            // One in a second: whatever the machine is busy with, most of them wait.
            Assert.True(driver.InFlightCount > 0, "Nothing waits.");
            now = await daemon.TellAsync(HttpMethod.Patch, Limits, """{ "iops": null, "burst": null, "bps": "100M" }""");
            Assert.Equal("""{"bps":104857600}""", now.GetProperty("limits").GetRawText());
            Complete(driver, 29);
            Assert.Equal("""{"iops-read":500}""", (await daemon.TellAsync(HttpMethod.Put, Limits, """{ "iops-read": 500 }""")).GetProperty("limits").GetRawText());
            Assert.Equal(500, (await daemon.GetJsonAsync("/v1/disks/d")).GetProperty("limits").GetProperty("iops-read").GetInt32());
        }

        await daemon.StopAsync();
        Assert.Contains(daemon.Process.Errors.Lines, line => line.Contains("Disk 'd': the limits are now iops=1, burst=1.", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_group_is_changed_for_all_its_disks_and_what_is_wrong_names_the_key()
    {
        await using ControlledDaemon daemon = await ControlledDaemon.StartWithDisksAsync(
            _folder, "--disk", "memory:1M,id=d,group=g,throttle", "--disk", "memory:1M,id=e,group=g", "--disk", "memory:1M,id=free", "--socket-dir", _folder.FullName);
        using (FrontendSession session = FrontendSession.Open(_folder["e.sock"]))
        {
            JsonElement now = await daemon.TellAsync(HttpMethod.Put, "/v1/groups/g/limits", """{ "iops-write": 1, "burst": 1 }""");
            Assert.Equal("g", now.GetProperty("group").GetString());
            BlkDriver driver = session.Drivers[0];
            Submit(driver, 30);
            Complete(driver, 1);
            Assert.True(driver.InFlightCount > 0, "Nothing waits.");
            await daemon.AssertRefusedAsync(HttpStatusCode.Conflict, HttpMethod.Put, Limits, "{}", "/v1/groups/g/limits");
            await daemon.AssertRefusedAsync(HttpStatusCode.Conflict, HttpMethod.Patch, "/v1/disks/free/limits", "{}", "throttle=on");
            await daemon.AssertRefusedAsync(HttpStatusCode.NotFound, HttpMethod.Put, "/v1/groups/h/limits", "{}", "'h'");
            await daemon.AssertRefusedAsync(HttpStatusCode.NotFound, HttpMethod.Patch, "/v1/disks/x/limits", "{}", "'x'");
            await daemon.AssertRefusedAsync(HttpStatusCode.BadRequest, HttpMethod.Patch, "/v1/groups/g/limits", """{ "iops": "many" }""", "iops", "'many'");
            await daemon.AssertRefusedAsync(HttpStatusCode.BadRequest, HttpMethod.Patch, "/v1/groups/g/limits", """{ "colour": 1 }""", "'colour'", "iops-write");
            await daemon.AssertRefusedAsync(HttpStatusCode.BadRequest, HttpMethod.Patch, "/v1/groups/g/limits", "no", "JSON");
            await daemon.AssertRefusedAsync(HttpStatusCode.BadRequest, HttpMethod.Patch, "/v1/groups/g/limits", new string(' ', 100_000), "too large");
            // None of it has changed anything.
            Assert.Equal("""{"iops-write":1,"burst":1}""", (await daemon.TellAsync(HttpMethod.Get, Limits)).GetProperty("limits").GetRawText());
            await daemon.TellAsync(HttpMethod.Put, "/v1/groups/g/limits", "{}");
            Complete(driver, 29);
        }

        await Vblkflow.EndBySignalAsync(daemon.Process, _folder["e.sock"]);
    }

    [Fact]
    public async Task What_is_held_is_tried_again_and_another_size_is_seen()
    {
        DiskImage image = _folder.CreateImage(1);
        await using ControlledDaemon daemon = await ControlledDaemon.StartAsync(
            _folder, "--disk", "file:disk.img,id=d,faults=write:times=1:error,errors=hold");
        using (FrontendSession session = FrontendSession.Open(daemon.SocketPath))
        {
            Task<BlkStatus> write = Task.Run(() => session.Drivers[0].Write(0, new byte[512]));
            await daemon.Process.Errors.WaitForAsync(line => line.Contains("are held", StringComparison.Ordinal), Vblkflow.EndDeadline);
            Assert.Equal(1, (await daemon.GetJsonAsync("/v1/disks/d")).GetProperty("held").GetInt32());
            Assert.False(write.IsCompleted);
            Assert.Equal(1, (await daemon.TellAsync(HttpMethod.Post, "/v1/disks/d/resume")).GetProperty("held").GetInt32());
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, await write.WaitAsync(Vblkflow.EndDeadline));
            using (FileStream file = new(image.FilePath, FileMode.Open, FileAccess.Write, FileShare.ReadWrite))
            {
                file.SetLength(2 << 20);
            }

            JsonElement resize = await daemon.TellAsync(HttpMethod.Post, "/v1/disks/d/resize");
            Assert.Equal((1 << 20, 2 << 20), (resize.GetProperty("oldBytes").GetInt32(), resize.GetProperty("newBytes").GetInt32()));
            Assert.Equal(4096ul, session.Frontend.GetDeviceConfig().CapacitySectors);
            await daemon.AssertRefusedAsync(HttpStatusCode.NotFound, HttpMethod.Post, "/v1/disks/x/resize", null, "'x'");
            await daemon.AssertRefusedAsync(HttpStatusCode.NotFound, HttpMethod.Post, "/v1/disks/x/resume", null, "'x'");
        }

        await daemon.StopAsync();
    }

    private static void Submit(BlkDriver driver, int count)
    {
        for (int i = 0; i < count; i++)
        {
            Assert.True(driver.TrySubmit(BlkRequestType.VIRTIO_BLK_T_OUT, (ulong)(i * 8), 512, tag: 0));
        }

        driver.Kick();
    }

    private static void Complete(BlkDriver driver, int count)
    {
        while (count > 0)
        {
            Assert.True(driver.WaitForCompletion(Deadline.In(DeadlineMs)), $"{driver.InFlightCount} requests do not come back.");
            while (count > 0 && driver.TryComplete(out BlkCompletion completion))
            {
                Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, completion.Status);
                count--;
            }
        }
    }
}
