using System.Text.Json;
using VirtioBlkFlow.ConformanceTests.Machinery;
using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.EndToEndTests.Program;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.ConformanceTests.Program;

/// <summary>The program, as management layers start and end it.</summary>
public class ConventionTests(LauncherFixture launcher) : IClassFixture<LauncherFixture>
{
    [Theory, Conformance("VU-82")]
    [InlineData("--blk-file", "missing.img", "--socket-path", "x.sock")]
    [InlineData("--no-such-option")]
    [InlineData("--fd", "3", "--socket-path", "x.sock", "--blk-file", "disk.img")]
    [InlineData("--socket-path", "no/such/folder/x.sock", "--blk-file", "disk.img")]
    public async Task What_cannot_start_says_so_and_ends(params string[] arguments)
    {
        using TestFolder folder = new();
        folder.CreateImage(16);
        ProgramEnd end = await Vblkflow.RunAsync(folder, arguments);
        Assert.NotEqual(ProgramEnd.Success, end.ExitCode);
        Assert.NotEmpty(end.Errors);
    }

    [Fact, Conformance("VU-83", "VU-85")]
    public async Task It_listens_at_its_path_and_stays_in_the_foreground()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        await using ChildProcess daemon = await Vblkflow.StartListeningAsync(folder, "--blk-file", image.FilePath);
        using (FrontendSession session = FrontendSession.Open(folder[Vblkflow.SocketName]))
        {
            session.VerifyRoundTrip(image, sector: 8);
            string parent = File.ReadLines($"/proc/{daemon.ProcessId}/status").Single(line => line.StartsWith("PPid:", StringComparison.Ordinal));
            Assert.Equal($"PPid:\t{Environment.ProcessId}", parent);
            Assert.False(daemon.HasExited);
        }

        await Vblkflow.EndBySignalAsync(daemon, folder[Vblkflow.SocketName]);
    }

    [Fact, Conformance("VU-84")]
    public async Task SIGTERM_ends_it_under_load_and_loses_nothing_that_was_flushed()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        ShadowDisk shadow = new(16);
        await using ChildProcess daemon = await Vblkflow.StartListeningAsync(folder, "--blk-file", image.FilePath, "--cache", "writeback");
        using FrontendSession session = FrontendSession.Open(folder[Vblkflow.SocketName], new FrontendOptions { QueueCount = 2 });
        const ulong Half = 8 << 11;
        new VerifiedTraffic(session.Drivers[0], shadow, 0, Half, seed: 84).Run(300);
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Flush());
        VerifiedTraffic load = new(session.Drivers[1], shadow, Half, Half, seed: 85);
        using CancellationTokenSource cutOff = new();
        Task loading = Task.Run(() => load.RunUntilCutOff(cutOff.Token));
        Rig.Await.Until(() => load.CompletedCount > 200 || loading.IsCompleted, "there is load");
        await Vblkflow.EndBySignalAsync(daemon, folder[Vblkflow.SocketName]);
        await cutOff.CancelAsync();
        await loading;
        Assert.Equal(shadow.At(0, 8 << 20).ToArray(), image.Read(0, 8 << 20));
    }

    [Fact, Conformance("VU-86")]
    public async Task A_descriptor_is_served_in_place_of_a_path()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        using (ConnectedDaemon connected = await ConnectedDaemon.StartAsync(launcher, folder, image))
        {
            await using ChildProcess daemon = connected.Process;
            using (FrontendSession session = FrontendSession.Open(connected.Frontend))
            {
                session.VerifyRoundTrip(image, sector: 8);
            }

            Assert.True(await daemon.WaitForExitAsync(Vblkflow.EndDeadline), "It goes on without its only front-end.");
            Assert.Equal(ProgramEnd.Success, daemon.ExitCode);
        }

        ProgramEnd both = await Vblkflow.RunAsync(folder, "--fd", "3", "--socket-path", folder["x.sock"], "--blk-file", image.FilePath);
        both.AssertRefusedWith(ProgramEnd.Usage, "--fd", "--socket-path");
    }

    [Theory, Conformance("VU-87")]
    [InlineData("--print-capabilities")]
    [InlineData("--print-capabilities", "--no-such-option", "--num-queues=none", "stray")]
    [InlineData("--fd=7", "--socket-path=/nowhere/at/all", "--blk-file", "/missing", "--print-capabilities")]
    public async Task Capabilities_are_printed_whatever_stands_beside(params string[] arguments)
    {
        using TestFolder folder = new();
        ProgramEnd end = await Vblkflow.RunAsync(folder, arguments);
        Assert.Equal(ProgramEnd.Success, end.ExitCode);
        Assert.Empty(end.Errors);
        using JsonDocument json = JsonDocument.Parse(string.Join('\n', end.Output));
        Assert.Equal("block", json.RootElement.GetProperty("type").GetString());
    }

    [Fact, Conformance("VU-88")]
    public async Task What_is_printed_as_a_feature_is_there()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateRandomImage(1, seed: 88);
        ProgramEnd end = await Vblkflow.RunAsync(folder, "--print-capabilities");
        using JsonDocument json = JsonDocument.Parse(string.Join('\n', end.Output));
        Assert.Equal(
            ["blk-file", "read-only"],
            json.RootElement.GetProperty("features").EnumerateArray().Select(feature => feature.GetString()).Order(StringComparer.Ordinal));
        await using ChildProcess daemon = await Vblkflow.StartListeningAsync(folder, "--blk-file", image.FilePath, "--read-only");
        using (FrontendSession session = FrontendSession.Open(folder[Vblkflow.SocketName]))
        {
            Assert.True(((BlkFeatures)session.Negotiation.OfferedFeatures).HasFlag(BlkFeatures.VIRTIO_BLK_F_RO));
            byte[] data = new byte[4096];
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Read(0, data));
            Assert.Equal(image.Read(0, data.Length), data);
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, session.Drivers[0].Write(0, data));
        }

        await Vblkflow.EndBySignalAsync(daemon, folder[Vblkflow.SocketName]);
    }

    [Fact, Conformance("VU-81")]
    public async Task A_file_describes_the_program_to_management_layers()
    {
        string path = Path.Combine(RepoPaths.Root, "src/VirtioBlkFlow.Daemon/50-vblkflow.json");
        using JsonDocument json = JsonDocument.Parse(await File.ReadAllTextAsync(path));
        // VhostUserBackend of vhost-user.json: these three, and tags if there are any.
        Assert.Subset(
            new HashSet<string> { "description", "type", "binary", "tags" },
            json.RootElement.EnumerateObject().Select(property => property.Name).ToHashSet());
        Assert.NotEmpty(json.RootElement.GetProperty("description").GetString()!);
        string binary = json.RootElement.GetProperty("binary").GetString()!;
        Assert.True(Path.IsPathRooted(binary));
        Assert.Equal(Path.GetFileName(RepoPaths.Daemon), Path.GetFileName(binary));
        // The same type as the program itself says, and a name that QEMU's folder sorts by.
        using TestFolder folder = new();
        ProgramEnd end = await Vblkflow.RunAsync(folder, "--print-capabilities");
        using JsonDocument capabilities = JsonDocument.Parse(string.Join('\n', end.Output));
        Assert.Equal(capabilities.RootElement.GetProperty("type").GetString(), json.RootElement.GetProperty("type").GetString());
        Assert.Matches("^[0-9]{2}-.*\\.json$", Path.GetFileName(path));
    }
}
