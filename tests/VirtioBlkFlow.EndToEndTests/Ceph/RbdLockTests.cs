using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.EndToEndTests.Program;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.EndToEndTests.Ceph;

/// <summary>Two writers never share an image, and one that has lost its lock writes no more.</summary>
[Collection(CephCollection.Name)]
public sealed class RbdLockTests(CephCluster cluster)
{
    [Theory]
    [InlineData("")]
    [InlineData("ro")]
    public async Task A_second_daemon_is_refused_and_told_who_holds_the_image(string secondKey)
    {
        string image = await cluster.CreateImageAsync(4);
        await using RbdDaemon first = await RbdDaemon.StartAsync(cluster.Disk(image));
        string client = await OwnerOfAsync(image);

        ProgramEnd end = await RunAsync(cluster.Disk(image, secondKey.Length > 0 ? [secondKey] : []));

        end.AssertRefusedWith(ProgramEnd.Failure, image, "in use", client, "127.0.0.1", "lock=off");
        using (FrontendSession session = first.Connect())
        {
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Write(8, new byte[512]));
        }

        await first.StopAsync();
        Assert.Equal("", await OwnerOfAsync(image));
    }

    [Fact]
    public async Task A_client_that_hands_its_lock_over_when_asked_keeps_the_daemon_out_all_the_same()
    {
        string image = await cluster.CreateImageAsync(16);
        await using ChildProcess writer = ChildProcess.Start(
            "rbd", ["-c", cluster.ConfPath, "bench", image, "--io-type", "write", "--io-size", "4K", "--io-threads", "1", "--io-total", "100G", "--io-pattern", "rand"]);
        Assert.True(
            SpinWait.SpinUntil(() => writer.HasExited || OwnerOfAsync(image).GetAwaiter().GetResult() != "", RbdDaemon.PatienceMs) && !writer.HasExited,
            $"rbd bench takes no lock.\n{writer.Output}\n{writer.Errors}");

        ProgramEnd end = await RunAsync(cluster.Disk(image));

        end.AssertRefusedWith(ProgramEnd.Failure, image, "in use", "client.", "lock=off");
        // It says each second what it has written.
        int lines = writer.Output.Lines.Count;
        Assert.True(
            SpinWait.SpinUntil(() => writer.HasExited || writer.Output.Lines.Count > lines, RbdDaemon.PatienceMs) && !writer.HasExited,
            $"The other client does not go on.\n{writer.Output}\n{writer.Errors}");
    }

    [Fact]
    public async Task A_daemon_that_was_killed_is_shut_out_and_its_successor_goes_on()
    {
        string image = await cluster.CreateImageAsync(4);
        await using (RbdDaemon first = await RbdDaemon.StartAsync(cluster.Disk(image)))
        {
            using FrontendSession session = first.Connect();
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Write(8, [.. Enumerable.Repeat((byte)0x5a, 512)]));
            await first.Process.KillAsync();
        }

        await using RbdDaemon second = await RbdDaemon.StartAsync(cluster.Disk(image));
        await second.WaitForLogAsync("which does not answer");
        using (FrontendSession session = second.Connect())
        {
            byte[] read = new byte[512];
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Read(8, read));
            Assert.Equal(-1, read.AsSpan().IndexOfAnyExcept((byte)0x5a));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Write(8, new byte[512]));
        }

        await second.StopAsync();
        Assert.Contains("127.0.0.1", await cluster.CephAsync("osd", "blocklist", "ls"), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task After_its_lock_was_broken_a_disk_writes_no_more(bool shutOut)
    {
        string image = await cluster.CreateImageAsync(4);
        await using RbdDaemon daemon = await RbdDaemon.StartAsync(cluster.Disk(image), "memory:1M");
        using (FrontendSession session = daemon.Connect())
        using (FrontendSession other = daemon.Connect(disk: 1))
        {
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Write(8, [.. Enumerable.Repeat((byte)0x5a, 512)]));
            string[] locker = (await cluster.RbdAsync("lock", "ls", image)).Split('\n').Single(line => line.StartsWith("client.", StringComparison.Ordinal))
                .Split("  ", StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);

            await cluster.RbdAsync("--rbd-blocklist-on-break-lock", shutOut ? "true" : "false", "lock", "rm", image, locker[1], locker[0]);

            await daemon.WaitForLogAsync("lock of");
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, session.Drivers[0].Write(8, new byte[512]));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, session.Drivers[0].WriteZeroes(new BlkSegment { Sector = 8, SectorCount = 8 }));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, session.Drivers[0].Discard(new BlkSegment { Sector = 8, SectorCount = 8 }));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, session.Drivers[0].Flush());
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, other.Drivers[0].Write(8, new byte[512]));
        }

        await using RbdDaemon successor = await RbdDaemon.StartAsync(cluster.Disk(image));
        using (FrontendSession session = successor.Connect())
        {
            byte[] read = new byte[512];
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Read(8, read));
            Assert.Equal(-1, read.AsSpan().IndexOfAnyExcept((byte)0x5a));
        }

        await daemon.StopAsync();
        await successor.StopAsync();
    }

    // The client that has the lock, in the words of rbd: client.4123; empty if nobody has.
    private async Task<string> OwnerOfAsync(string image) =>
        (await cluster.RbdAsync("lock", "ls", image)).Split('\n').Where(line => line.StartsWith("client.", StringComparison.Ordinal))
            .Select(line => line.Split(' ')[0]).SingleOrDefault("");

    private static async Task<ProgramEnd> RunAsync(string disk)
    {
        using TestFolder folder = new();
        return await Vblkflow.RunAsync(folder, "--disk", disk);
    }
}
