using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.EndToEndTests.Program;

/// <summary>Several disks in one process: each is served, and what happens to one is not the others' business.</summary>
public class SeveralDiskTests(LauncherFixture launcher) : IClassFixture<LauncherFixture>
{
    [Fact]
    public async Task All_are_served_at_the_same_time_wherever_they_were_named()
    {
        using TestFolder folder = new();
        DiskImage[] images = [.. Enumerable.Range(0, 4).Select(i => folder.CreateImage(16, $"{i},x.img"))];
        File.WriteAllText(folder["vm.json"], """{ "disks": [ { "disk": "file:3,x.img", "id": "fourth" } ] }""");
        await using ManyDiskDaemon daemon = await ManyDiskDaemon.StartAsync(
            folder,
            ["disk0.sock", "two.sock", "7:1.sock", "fourth.sock"],
            ["--blk-file", "0,x.img", "--disk", $"file:1,,x.img,socket={folder["two.sock"]}", "-s", "7:1,virtio-blk,2,,x.img", "--config", "vm.json", "--socket-dir", folder.FullName]);

        FrontendSession[] sessions = [.. daemon.Sockets.Select(socket => FrontendSession.Open(socket))];
        for (int i = 0; i < sessions.Length; i++)
        {
            sessions[i].VerifyRoundTrip(images[i], sector: (ulong)i * 64);
        }

        Array.ForEach(sessions, session => session.Dispose());
        await daemon.StopAsync();
        Assert.Empty(daemon.Process.Errors.Lines);
    }

    [Fact]
    public async Task One_that_cannot_be_opened_is_named_and_nothing_is_left_behind()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);

        ProgramEnd end = await Vblkflow.RunAsync(folder, "--disk", "file:disk.img,socket=a", "--disk", "file:missing.img,socket=b");

        end.AssertRefusedWith(ProgramEnd.Failure, "--disk 'file:missing.img,socket=b': ", "truncate -s 1G");
        Assert.Equal([image.FilePath], Directory.EnumerateFileSystemEntries(folder.FullName));
    }

    [Fact]
    public async Task A_socket_that_cannot_be_had_takes_those_made_before_with_it()
    {
        using TestFolder folder = new();
        folder.CreateImage(16);

        ProgramEnd end = await Vblkflow.RunAsync(folder, "--disk", "file:disk.img,socket=a", "--disk", "null:1M,socket=nowhere/b");

        end.AssertRefusedWith(ProgramEnd.Failure, "--disk 'null:1M,socket=nowhere/b': ", "directory must exist");
        Assert.False(File.Exists(folder["a"]));
    }

    [Fact]
    public async Task A_front_end_that_breaks_the_protocol_ends_its_own_session_only()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        await using ManyDiskDaemon daemon = await ManyDiskDaemon.StartAsync(
            folder, ["disk0.sock", "disk1.sock"], "--disk", "null:1M", "--disk", "file:disk.img", "--socket-dir", folder.FullName, "--log-level", "information");
        using FrontendSession good = FrontendSession.Open(daemon.Sockets[1]);
        good.VerifyRoundTrip(image, sector: 8);

        using (VhostUserFrontend broken = VhostUserFrontend.Connect(daemon.Sockets[0]))
        {
            broken.SendRaw(new byte[12]);
            await daemon.Process.Errors.WaitForAsync(
                line => line.Contains("vhost-user/disk0", StringComparison.Ordinal) && line.Contains("protocol", StringComparison.Ordinal), Vblkflow.EndDeadline);
        }

        good.VerifyRoundTrip(image, sector: 16);
        using (FrontendSession next = FrontendSession.Open(daemon.Sockets[0]))
        {
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, next.Drivers[0].Flush());
        }

        Assert.DoesNotContain(daemon.Process.Errors.Lines, line => line.Contains("/disk1", StringComparison.Ordinal) && line.Contains("protocol", StringComparison.Ordinal));
        await daemon.StopAsync();
    }

    [Fact]
    public async Task A_disk_on_a_connected_descriptor_ends_with_its_front_end_and_the_others_go_on()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        using ConnectedDaemon connected = await ConnectedDaemon.StartAsync(
            launcher, folder, "--disk", "memory:1M,fd=3", "--disk", "file:disk.img,socket=other.sock");
        await using ChildProcess daemon = connected.Process;
        using (FrontendSession first = FrontendSession.Open(connected.Frontend))
        {
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, first.Drivers[0].Write(8, new byte[512]));
        }

        using (FrontendSession other = FrontendSession.Open(folder["other.sock"]))
        {
            other.VerifyRoundTrip(image, sector: 8);
        }

        await Vblkflow.EndBySignalAsync(daemon, folder["other.sock"]);
    }

    [Fact]
    public async Task SIGHUP_reads_the_size_of_every_image_again()
    {
        using TestFolder folder = new();
        DiskImage[] images = [folder.CreateImage(16, "a.img"), folder.CreateImage(16, "b.img")];
        await using ManyDiskDaemon daemon = await ManyDiskDaemon.StartAsync(
            folder, ["disk0.sock", "disk1.sock"], "--disk", "file:a.img", "--disk", "file:b.img,sectorsize=4096", "--socket-dir", folder.FullName);
        using FrontendSession session = FrontendSession.Open(daemon.Sockets[1]);
        foreach (DiskImage image in images)
        {
            using FileStream file = File.OpenWrite(image.FilePath);
            file.SetLength((24 << 20) + 3 * 512);
        }

        daemon.Process.Signal(ChildProcess.SIGHUP);

        await daemon.Process.Errors.WaitForAsync(
            line => line.Contains("vblkflow/disk0", StringComparison.Ordinal) && line.Contains("Resized from 16777216 to 25167360", StringComparison.Ordinal),
            Vblkflow.EndDeadline);
        await daemon.Process.Errors.WaitForAsync(
            line => line.Contains("vblkflow/disk1", StringComparison.Ordinal) && line.Contains("Resized from 16777216 to 25165824", StringComparison.Ordinal),
            Vblkflow.EndDeadline);
        session.VerifyRoundTrip(images[1], sector: 20 << 11);
    }

    [Fact]
    public async Task A_signal_drains_all_of_them_under_load_and_flushed_data_is_there()
    {
        using TestFolder folder = new();
        DiskImage[] images = [folder.CreateImage(16, "a.img"), folder.CreateImage(16, "b.img")];
        await using ManyDiskDaemon daemon = await ManyDiskDaemon.StartAsync(
            folder, ["disk0.sock", "disk1.sock"], "--disk", "file:a.img", "--disk", "file:b.img,cache=writeback", "--socket-dir", folder.FullName, "--no-poll");
        const ulong Half = 8 << 11;
        List<(FrontendSession Session, ShadowDisk Shadow, VerifiedTraffic Load, Task Loading)> loads = [];
        using CancellationTokenSource cutOff = new();
        foreach (string socket in daemon.Sockets)
        {
            FrontendSession session = FrontendSession.Open(socket, new FrontendOptions { QueueCount = 2 });
            ShadowDisk shadow = new(16);
            new VerifiedTraffic(session.Drivers[0], shadow, 0, Half, seed: 1).Run(200);
            session.Drivers[0].Flush();
            VerifiedTraffic load = new(session.Drivers[1], shadow, Half, Half, seed: 2);
            loads.Add((session, shadow, load, Task.Run(() => load.RunUntilCutOff(cutOff.Token))));
        }

        Assert.True(SpinWait.SpinUntil(() => loads.All(load => load.Load.CompletedCount > 200 || load.Loading.IsCompleted), Vblkflow.EndDeadline));

        await daemon.StopAsync();

        cutOff.Cancel();
        for (int i = 0; i < loads.Count; i++)
        {
            await loads[i].Loading;
            loads[i].Session.Dispose();
            Assert.Equal(loads[i].Shadow.At(0, 8 << 20).ToArray(), images[i].Read(0, 8 << 20));
        }

        Assert.Empty(daemon.Process.Errors.Lines);
    }
}
