using System.Diagnostics;
using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.EndToEndTests.Program;

/// <summary>Keys about what lies on top of a disk, as a front-end meets them: ranges, parts, limits, faults, error policies.</summary>
public class WrappingKeyTests
{
    [Fact]
    public async Task Two_ranges_of_one_image_are_two_disks_and_the_rest_of_it_is_nobodys()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateRandomImage(4, seed: 3);
        byte[] before = image.Read(0, 4 << 20);
        await using ManyDiskDaemon daemon = await ManyDiskDaemon.StartAsync(
            folder,
            ["3.sock", "4.sock"],
            "-s", "3,virtio-blk,disk.img,range=1024/2048", "-s", "4,virtio-blk,disk.img,range=3072/4096", "--socket-dir", folder.FullName);
        byte[] data = new byte[1024];
        using (FrontendSession low = FrontendSession.Open(daemon.Sockets[0]))
        using (FrontendSession high = FrontendSession.Open(daemon.Sockets[1]))
        {
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, low.Drivers[0].Write(0, data));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, low.Drivers[0].Write(2046, data));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, low.Drivers[0].Write(2047, data));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, high.Drivers[0].WriteZeroes(new BlkSegment { Sector = 0, SectorCount = 8 }));
            byte[] read = new byte[1024];
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, high.Drivers[0].Read(4094, read));
            Assert.Equal(before[((3072 + 4094) * 512)..][..1024], read);
        }

        await daemon.StopAsync();
        Array.Clear(before, 1024 * 512, 1024);
        Array.Clear(before, (1024 + 2046) * 512, 1024 + (8 * 512));
        Assert.Equal(before, image.Read(0, 4 << 20));
    }

    [Fact]
    public async Task A_composite_disk_is_its_parts_with_zeros_between_them()
    {
        using TestFolder folder = new();
        DiskImage first = folder.CreateRandomImage(1, seed: 1, "first.img");
        DiskImage second = folder.CreateRandomImage(1, seed: 2, "second.img");
        File.WriteAllText(folder["parts.json"], """
            { "sectors": 8192,
              "parts": [
                { "start": 0, "disk": "file:first.img", "ro": true },
                { "start": 4096, "disk": "file:second.img", "range": "1024/1024" } ] }
            """);
        byte[] secondBefore = second.Read(0, 1 << 20);
        await using ManyDiskDaemon daemon = await ManyDiskDaemon.StartAsync(
            folder, ["c.sock"], "--disk", "composite:parts.json,id=c", "--socket-dir", folder.FullName);
        byte[] data = [.. Enumerable.Repeat((byte)0x55, 512)];
        byte[] read = new byte[1024];
        using (FrontendSession session = FrontendSession.Open(daemon.Sockets[0]))
        {
            BlkDriver driver = session.Drivers[0];
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Read(2047, read));
            Assert.Equal([.. first.Read(2047 * 512, 512), .. new byte[512]], read);
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Read(4095, read));
            Assert.Equal([.. new byte[512], .. second.Read(1024 * 512, 512)], read);
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, driver.Write(0, data));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, driver.Write(3000, data));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Write(4096 + 5, data));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, driver.Read(8192, read));
        }

        await daemon.StopAsync();
        data.CopyTo(secondBefore, (1024 + 5) * 512);
        Assert.Equal(secondBefore, second.Read(0, 1 << 20));
    }

    [Fact]
    public async Task What_is_wrong_in_the_file_of_a_composite_disk_is_named_with_its_line()
    {
        using TestFolder folder = new();
        File.WriteAllText(folder["parts.json"], "{ \"parts\": [\n { \"start\": 0, \"disk\": \"file:a.img\", \"colour\": 1 } ] }");

        ProgramEnd end = await Vblkflow.RunAsync(folder, "--disk", "composite:parts.json");

        end.AssertRefusedWith(ProgramEnd.Usage, "--disk 'composite:parts.json'", "parts.json:2: ", "'colour'", "range");
    }

    [Theory]
    [InlineData("iops=20,burst=1", 1)]
    [InlineData("iops-write=20,burst=1", 1)]
    [InlineData("bps=10K,burst-bytes=512", 1)]
    [InlineData("iops=20,burst=1,group=g", 2)]
    public async Task A_limit_holds_for_a_disk_or_for_the_group(string limits, int disks)
    {
        using TestFolder folder = new();
        string[] names = [.. Enumerable.Range(0, disks).Select(i => $"disk{i}.sock")];
        await using ManyDiskDaemon daemon = await ManyDiskDaemon.StartAsync(
            folder, names, [.. Enumerable.Range(0, disks).SelectMany(i => new[] { "--disk", $"null:1M,{(i == 0 ? limits : "group=g")}" }), "--socket-dir", folder.FullName]);
        const int WritesInAll = 8;
        FrontendSession[] sessions = [.. daemon.Sockets.Select(socket => FrontendSession.Open(socket))];

        // Whatever a machine is busy with, it is never too fast: the first is free, the seven others are 50 ms apart.
        long start = Stopwatch.GetTimestamp();
        for (int i = 0; i < WritesInAll; i++)
        {
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, sessions[i % disks].Drivers[0].Write(0, new byte[512]));
        }

        TimeSpan elapsed = Stopwatch.GetElapsedTime(start);
        Assert.True(elapsed > TimeSpan.FromMilliseconds(340), $"{WritesInAll} writes took {elapsed.TotalMilliseconds} ms");
        Array.ForEach(sessions, session => session.Dispose());
        await daemon.StopAsync();
    }

    [Fact]
    public async Task A_null_disk_takes_the_time_it_was_told_to()
    {
        using TestFolder folder = new();
        await using ManyDiskDaemon daemon = await ManyDiskDaemon.StartAsync(folder, ["n.sock"], "--disk", "null:1M,delay=30ms,id=n", "--socket-dir", folder.FullName);
        using (FrontendSession session = FrontendSession.Open(daemon.Sockets[0]))
        {
            long start = Stopwatch.GetTimestamp();
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Write(0, new byte[512]));
            Assert.True(Stopwatch.GetElapsedTime(start) >= TimeSpan.FromMilliseconds(29));
        }

        await daemon.StopAsync();
    }

    [Fact]
    public async Task Faults_hit_what_they_are_about_and_retries_get_over_those_that_pass()
    {
        using TestFolder folder = new();
        await using ManyDiskDaemon daemon = await ManyDiskDaemon.StartAsync(
            folder,
            ["a.sock", "b.sock"],
            "--disk", "memory:1M,id=a,faults=write:at=8/8:error+flush:times=1:unsupported,fault-seed=42",
            "--disk", "memory:1M,id=b,faults=write:times=3:error+read:delay=30ms,errors=retry:3:1ms",
            "--socket-dir", folder.FullName);
        using (FrontendSession a = FrontendSession.Open(daemon.Sockets[0]))
        {
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, a.Drivers[0].Write(15, new byte[512]));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, a.Drivers[0].Write(16, new byte[512]));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, a.Drivers[0].Read(15, new byte[512]));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_UNSUPP, a.Drivers[0].Flush());
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, a.Drivers[0].Flush());
        }

        using (FrontendSession b = FrontendSession.Open(daemon.Sockets[1]))
        {
            byte[] data = [.. Enumerable.Repeat((byte)0x55, 512)];
            byte[] read = new byte[512];
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, b.Drivers[0].Write(0, data));
            long start = Stopwatch.GetTimestamp();
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, b.Drivers[0].Read(0, read));
            Assert.True(Stopwatch.GetElapsedTime(start) >= TimeSpan.FromMilliseconds(29));
            Assert.Equal(data, read);
        }

        await daemon.StopAsync();
        Assert.Contains(daemon.Process.Errors.Lines, line => line.Contains("vblkflow/a", StringComparison.Ordinal) && line.Contains("fault-seed=42", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("faults=write:times=1:error,errors=hold")]
    [InlineData("faults=write:times=1:nospace,errors=hold-enospc")]
    [InlineData("faults=write:times=2:nospace,errors=retry:1:1ms:hold")]
    public async Task What_is_held_is_tried_again_after_SIGHUP(string keys)
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        await using ManyDiskDaemon daemon = await ManyDiskDaemon.StartAsync(
            folder, ["disk0.sock"], "--disk", $"file:disk.img,{keys}", "--socket-dir", folder.FullName);
        using FrontendSession session = FrontendSession.Open(daemon.Sockets[0]);
        byte[] data = [.. Enumerable.Repeat((byte)0x55, 512)];

        Task<BlkStatus> write = Task.Run(() => session.Drivers[0].Write(0, data));
        await daemon.Process.Errors.WaitForAsync(line => line.Contains("are held", StringComparison.Ordinal), Vblkflow.EndDeadline);
        Assert.False(write.IsCompleted);
        daemon.Process.Signal(ChildProcess.SIGHUP);

        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, await write.WaitAsync(Vblkflow.EndDeadline));
        Assert.Equal(data, image.Read(0, 512));
        await daemon.Process.Errors.WaitForAsync(line => line.Contains("Nothing is held", StringComparison.Ordinal), Vblkflow.EndDeadline);
    }

    [Fact]
    public async Task An_error_that_no_policy_is_about_is_the_guests_and_a_held_one_is_no_obstacle_to_SIGTERM()
    {
        using TestFolder folder = new();
        await using ManyDiskDaemon daemon = await ManyDiskDaemon.StartAsync(
            folder, ["disk0.sock"], "--disk", "memory:1M,faults=read:error+write:nospace,errors=hold-enospc", "--socket-dir", folder.FullName);
        using FrontendSession session = FrontendSession.Open(daemon.Sockets[0]);
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, session.Drivers[0].Read(0, new byte[512]));
        BlkDriver driver = session.Drivers[0];
        Assert.True(driver.TrySubmit(BlkRequestType.VIRTIO_BLK_T_OUT, 0, 512, tag: 1));
        driver.Kick();
        await daemon.Process.Errors.WaitForAsync(line => line.Contains("are held", StringComparison.Ordinal), Vblkflow.EndDeadline);

        await daemon.StopAsync();
    }
}
