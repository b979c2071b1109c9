using System.Net;
using System.Net.Sockets;
using VirtioBlkFlow.EndToEndTests.Guests;
using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.EndToEndTests.Program;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.EndToEndTests.Nbd;

/// <summary>Exports of real NBD servers as disks of the daemon.</summary>
public class NbdDiskTests
{
    // For what takes moments where nothing else runs.
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(60);

    [Theory]
    [InlineData("nbd:")]
    [InlineData("")]
    public async Task An_export_is_a_disk_with_or_without_the_name_of_its_kind(string kind)
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        await using NbdServer server = await NbdServer.StartNbdkitAsync(folder, "file", image.FilePath);
        await using ManyDiskDaemon daemon = await ManyDiskDaemon.StartAsync(
            folder, ["n.sock"], "--disk", $"{kind}{server.Uri},id=n,num-queues=2", "--socket-dir", folder.FullName);
        using (FrontendSession session = FrontendSession.Open(daemon.Sockets[0], new FrontendOptions { QueueCount = 2 }))
        {
            session.VerifyRoundTrip(image, 0, queue: 0);
            session.VerifyRoundTrip(image, 32752, queue: 1);
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].WriteZeroes(new BlkSegment { Sector = 0, SectorCount = 8 }));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Discard(new BlkSegment { Sector = 32752, SectorCount = 16 }));
            Assert.Equal(new byte[4096], image.Read(0, 4096));
        }

        await daemon.StopAsync();
    }

    [Fact]
    public async Task An_export_over_TCP_is_a_disk_too_and_a_range_of_it_and_a_part_of_another()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateRandomImage(1, seed: 4);
        int port = FreePort();
        await using ChildProcess server = ChildProcess.Start(
            "qemu-nbd", ["--format", "raw", "--persistent", "--shared=8", "--export-name=vm", "--bind=127.0.0.1", $"--port={port}", image.FilePath]);
        Assert.True(SpinWait.SpinUntil(() => server.HasExited || Listens(port), s_patience) && !server.HasExited, server.Errors.ToString());
        string uri = $"nbd://127.0.0.1:{port}/vm";
        File.WriteAllText(folder["parts.json"], $$"""{ "parts": [ { "start": 8, "disk": "{{uri}}", "ro": true } ] }""");
        File.WriteAllText(
            folder["config.json"],
            $$"""
            { "disks": [ { "disk": "{{uri}}", "id": "start", "range": "0/8", "connections": 2, "timeout": "20s", "reconnect": "5s", "server-cache": "kept" } ] }
            """);
        await using ManyDiskDaemon daemon = await ManyDiskDaemon.StartAsync(
            folder,
            ["part.sock", "composite.sock", "start.sock"],
            "--disk", $"{uri},range=1024/512,id=part,connections=2,timeout=20s,reconnect=5s,server-cache=kept",
            "--disk", "composite:parts.json,id=composite",
            "--config", "config.json",
            "--socket-dir", folder.FullName);
        byte[] read = new byte[512];
        using (FrontendSession part = FrontendSession.Open(daemon.Sockets[0]))
        {
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, part.Drivers[0].Read(511, read));
            Assert.Equal(image.Read(1535 * 512, 512), read);
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, part.Drivers[0].Read(512, read));
        }

        using (FrontendSession composite = FrontendSession.Open(daemon.Sockets[1]))
        {
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, composite.Drivers[0].Read(7, read));
            Assert.Equal(new byte[512], read);
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, composite.Drivers[0].Read(8, read));
            Assert.Equal(image.Read(0, 512), read);
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, composite.Drivers[0].Write(8, read));
        }

        using (FrontendSession start = FrontendSession.Open(daemon.Sockets[2]))
        {
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, start.Drivers[0].Write(7, new byte[512]));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, start.Drivers[0].Flush());
        }

        await daemon.StopAsync();
        Assert.Equal(new byte[512], image.Read(7 * 512, 512));
    }

    [Theory]
    [InlineData("nbd+unix:///x?socket=missing.sock", ProgramEnd.Failure, "missing.sock", "Check that the server runs")]
    [InlineData("nbd:nbd://127.0.0.1:0/x", ProgramEnd.Usage, "no port", "10809")]
    [InlineData("nbd:http://x/", ProgramEnd.Usage, "no address of an NBD server", "nbd+unix:///NAME?socket=PATH")]
    [InlineData("nbds://host/x", ProgramEnd.Usage, "there is no kind 'nbds'", "nbd")]
    [InlineData("nbd:nbds://host/x", ProgramEnd.Usage, "no TLS", "tunnel")]
    [InlineData("nbd://host/x,timeout=0s", ProgramEnd.Usage, "timeout", "10s")]
    public async Task What_cannot_be_is_named_with_what_to_do(string disk, int exitCode, string cause, string remedy)
    {
        using TestFolder folder = new();
        (await Vblkflow.RunAsync(folder, "--disk", disk)).AssertRefusedWith(exitCode, disk.Split(',')[0].Replace("nbd:nbd", "nbd", StringComparison.Ordinal), cause, remedy);
    }

    [Theory]
    [InlineData("errors=report", BlkStatus.VIRTIO_BLK_S_IOERR)]
    [InlineData("errors=retry:1000:10ms", BlkStatus.VIRTIO_BLK_S_OK)]
    [InlineData("errors=hold", BlkStatus.VIRTIO_BLK_S_OK)]
    public async Task Errors_of_the_server_are_the_error_policys(string policy, BlkStatus status)
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateRandomImage(1, seed: 5);
        File.WriteAllText(folder["fail"], "");
        await using NbdServer server = await NbdServer.StartNbdkitAsync(
            folder, "--filter=error", "file", image.FilePath, "error-pread=EIO", "error-pread-rate=100%", $"error-file={folder["fail"]}");
        await using ManyDiskDaemon daemon = await ManyDiskDaemon.StartAsync(
            folder, ["n.sock"], "--disk", $"{server.Uri},id=n,{policy}", "--socket-dir", folder.FullName);
        using (FrontendSession session = FrontendSession.Open(daemon.Sockets[0]))
        {
            byte[] data = new byte[4096];
            // Writes are none of the filter's business.
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Write(8, data));
            Task<BlkStatus> read = Task.Run(() => session.Drivers[0].Read(0, data));
            if (policy == "errors=hold")
            {
                await daemon.Process.Errors.WaitForAsync(line => line.Contains("are held", StringComparison.Ordinal), s_patience);
            }

            if (status == BlkStatus.VIRTIO_BLK_S_OK)
            {
                Assert.False(read.IsCompleted);
                File.Delete(folder["fail"]);
                daemon.Process.Signal(ChildProcess.SIGHUP);
            }

            Assert.Equal(status, await read.WaitAsync(s_patience));
            Assert.True(status != BlkStatus.VIRTIO_BLK_S_OK || data.AsSpan().SequenceEqual(image.Read(0, 4096)));
        }

        await daemon.StopAsync();
    }

    [Fact]
    public async Task An_export_of_another_size_is_seen_after_SIGHUP()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(4);
        await using NbdServer server = await NbdServer.StartNbdkitAsync(folder, "file", image.FilePath);
        await using ManyDiskDaemon daemon = await ManyDiskDaemon.StartAsync(
            folder, ["n.sock"], "--disk", $"{server.Uri},id=n", "--socket-dir", folder.FullName);
        using (FrontendSession session = FrontendSession.Open(daemon.Sockets[0]))
        {
            byte[] data = new byte[4096];
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, session.Drivers[0].Write(8192, data));
            using (FileStream file = new(image.FilePath, FileMode.Open))
            {
                file.SetLength(8 << 20);
            }

            daemon.Process.Signal(ChildProcess.SIGHUP);
            await daemon.Process.Errors.WaitForAsync(line => line.Contains("to 8388608 bytes", StringComparison.Ordinal), s_patience);
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Write(16376, data));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Flush());
        }

        await daemon.StopAsync();
    }

    [Fact]
    public async Task A_file_system_lives_its_whole_life_on_an_export()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(512);
        await using NbdServer server = await NbdServer.StartNbdkitAsync(folder, "file", image.FilePath);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new DaemonOptions(image) { Disk = server.Uri, QueueCount = 2 });

        await QemuGuest.RunAsync(folder, daemon, new GuestScenario().WholeLifeOf("ext4", jobs: 2), new QemuOptions { CpuCount = 2, QueueCount = 2 });

        await daemon.StopAsync();
        // All was discarded before the 4 MiB of pattern were written, 2 MiB of them turned into zeros: discards reach the server's file.
        Assert.InRange(await image.AllocatedBytesAsync(), 2 << 20, 8 << 20);
    }

    // Free a moment ago; others that look for one are given another.
    private static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    // State 0A of /proc/net/tcp is TCP_LISTEN. To connect would be one of the connections that a server counts.
    private static bool Listens(int port) => File.ReadLines("/proc/net/tcp").Any(line => line.Contains($":{port:X4} 00000000:0000 0A", StringComparison.Ordinal));
}
