using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.EndToEndTests.Program;
using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.EndToEndTests.Nbd;

/// <summary>Real NBD servers that die, come back, hang: what the guest hears of it, and that no other disk does.</summary>
public class NbdFailureTests
{
    // For what takes moments where nothing else runs.
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(60);

    private const int Mebibytes = 8;
    private const ulong SectorsOfQueue = Mebibytes * 2048 / 2;

    [Theory]
    [InlineData("nbdkit", "server-cache=kept,cache=writeback")]
    [InlineData("nbdkit", "cache=writethrough")]
    [InlineData("qemu-nbd", "server-cache=kept,cache=writeback")]
    public async Task A_server_that_is_killed_under_load_and_comes_back_loses_no_request_and_no_write(string program, string keys)
    {
        using TestFolder folder = new();
        int seed = RandomSeed.Take();
        DiskImage image = folder.CreateImage(Mebibytes);
        await using NbdServer server = program == "nbdkit"
            ? await NbdServer.StartNbdkitAsync(folder, "file", image.FilePath)
            : await NbdServer.StartQemuNbdAsync(folder, image.FilePath);
        await using ManyDiskDaemon daemon = await ManyDiskDaemon.StartAsync(
            folder, ["n.sock"], "--disk", $"{server.Uri},id=n,num-queues=2,{keys}", "--socket-dir", folder.FullName);
        ShadowDisk shadow = new(Mebibytes);
        using (FrontendSession session = FrontendSession.Open(daemon.Sockets[0], new FrontendOptions { QueueCount = 2 }))
        {
            VerifiedTraffic[] loads =
                [.. session.Drivers.Select((driver, i) => new VerifiedTraffic(driver, shadow, (ulong)i * SectorsOfQueue, SectorsOfQueue, seed + i))];
            bool goOn = true;
            Task[] running = [.. loads.Select(load => Task.Factory.StartNew(() => load.RunWhile(() => Volatile.Read(ref goOn)), TaskCreationOptions.LongRunning))];
            for (int kill = 0; kill < 4; kill++)
            {
                Array.ForEach(loads, load => load.WaitForProgress());
                // At the last, it is asked to end.
                await (kill < 3 ? server.KillAsync() : server.EndAsync());
                await server.RestartAsync();
                Array.ForEach(loads, load => load.WaitForProgress());
            }

            Volatile.Write(ref goOn, false);
            await Task.WhenAll(running);
            Array.ForEach(session.Drivers.ToArray(), driver => Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Flush()));
            for (int i = 0; i < loads.Length; i++)
            {
                loads[i].VerifyAll(session.Drivers[1 - i]);
            }
        }

        await daemon.StopAsync();
        shadow.AssertEqualTo(image);
    }

    [Fact]
    public async Task What_was_flushed_outlives_the_server_and_what_was_not_is_not_said_to_be_durable()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(Mebibytes);
        // The filter keeps writes to itself until it is told to flush, and loses them when it dies.
        await using NbdServer server = await NbdServer.StartNbdkitAsync(folder, "--filter=cache", "file", image.FilePath, "cache=writeback");
        await using ManyDiskDaemon daemon = await ManyDiskDaemon.StartAsync(
            folder, ["n.sock"], "--disk", $"{server.Uri},id=n,cache=writeback", "--socket-dir", folder.FullName);
        using FrontendSession session = FrontendSession.Open(daemon.Sockets[0]);
        BlkDriver driver = session.Drivers[0];
        byte[] flushed = [.. Enumerable.Repeat((byte)0x11, 4096)];
        byte[] lost = [.. Enumerable.Repeat((byte)0x22, 4096)];
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Write(0, flushed));
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Flush());
        await server.KillAsync();
        await server.RestartAsync();
        // Nothing was unflushed: nothing is lost, and flushes go on.
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Flush());
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Write(8, lost));
        await server.KillAsync();
        await server.RestartAsync();

        Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, driver.Flush());
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, driver.Flush());

        byte[] read = new byte[4096];
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Read(0, read));
        Assert.Equal(flushed, read);
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Read(8, read));
        Assert.Equal(new byte[4096], read);
        await daemon.Process.Errors.WaitForAsync(line => line.Contains("No flush succeeds", StringComparison.Ordinal), s_patience);
    }

    [Theory]
    [InlineData("")]
    [InlineData("--reactors=1")]
    [InlineData("--io-engine=threads")]
    public async Task A_server_that_hangs_is_no_other_disks_business_and_its_guest_hears_what_the_policy_says(string option)
    {
        const int Requests = 2000;
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(Mebibytes);
        // The plug-in has the same image under each name.
        await using NbdServer server = await NbdServer.StartNbdkitAsync(folder, "file", image.FilePath);
        await using ManyDiskDaemon daemon = await ManyDiskDaemon.StartAsync(
            folder,
            ["stuck.sock", "told.sock", "held.sock", "other.sock"],
            [
                "--disk", $"{server.UriOf("a")},id=stuck,timeout=3600s",
                "--disk", $"{server.UriOf("b")},id=told,timeout=1500ms,reconnect=500ms,errors=report",
                "--disk", $"{server.UriOf("c")},id=held,timeout=1500ms,reconnect=500ms,errors=hold",
                "--disk", "memory:8M,id=other", "--socket-dir", folder.FullName, .. option.Length > 0 ? [option] : Array.Empty<string>(),
            ]);
        using FrontendSession stuck = FrontendSession.Open(daemon.Sockets[0]);
        using FrontendSession told = FrontendSession.Open(daemon.Sockets[1]);
        using FrontendSession held = FrontendSession.Open(daemon.Sockets[2]);
        using FrontendSession other = FrontendSession.Open(daemon.Sockets[3]);
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, told.Drivers[0].Write(0, new byte[4096]));
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, told.Drivers[0].Flush());
        server.Hang();

        foreach (FrontendSession session in new[] { stuck, told, held })
        {
            Assert.True(session.Drivers[0].TrySubmit(BlkRequestType.VIRTIO_BLK_T_IN, 0, 4096, tag: 1));
            session.Drivers[0].Kick();
        }

        VerifiedTraffic load = new(other.Drivers[0], new ShadowDisk(Mebibytes), 0, 2 * SectorsOfQueue, RandomSeed.Take());
        load.Run(Requests);
        Assert.Equal(Requests, load.CompletedCount);
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, AnswerTo(told));
        await daemon.Process.Errors.WaitForAsync(line => line.Contains("are held", StringComparison.Ordinal), s_patience);
        load.Run(Requests);
        Assert.False(held.Drivers[0].TryComplete(out _));
        Assert.False(stuck.Drivers[0].TryComplete(out _));

        server.GoOn();
        Assert.True(
            SpinWait.SpinUntil(() => told.Drivers[0].Read(0, new byte[4096]) == BlkStatus.VIRTIO_BLK_S_OK, s_patience), "It works again.");
        // A machine that is busy may find no connection within the time there is for one; then it is held again.
        Assert.True(
            SpinWait.SpinUntil(
                () =>
                {
                    daemon.Process.Signal(ChildProcess.SIGHUP);
                    return held.Drivers[0].WaitForCompletion(Deadline.In(1000));
                },
                s_patience),
            "What was held is answered.");
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, AnswerTo(held));
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, AnswerTo(stuck));
    }

    [Fact]
    public async Task A_server_that_hangs_keeps_neither_a_queue_nor_the_program_from_ending()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(Mebibytes);
        await using NbdServer server = await NbdServer.StartNbdkitAsync(folder, "file", image.FilePath);
        await using ManyDiskDaemon daemon = await ManyDiskDaemon.StartAsync(
            folder, ["n.sock"], "--disk", $"{server.Uri},id=n,timeout=3600s,reconnect=3600s", "--socket-dir", folder.FullName);
        using FrontendSession session = FrontendSession.Open(daemon.Sockets[0]);
        BlkDriver driver = session.Drivers[0];
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Read(0, new byte[4096]));
        server.Hang();
        Assert.True(driver.TrySubmit(BlkRequestType.VIRTIO_BLK_T_OUT, 0, 4096, tag: 1));
        driver.Kick();

        await daemon.StopAsync();

        // It was answered, and is nobody's to answer again.
        Assert.True(driver.TryComplete(out BlkCompletion completion));
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, completion.Status);
    }

    private static BlkStatus AnswerTo(FrontendSession session)
    {
        BlkDriver driver = session.Drivers[0];
        Assert.True(driver.WaitForCompletion(Deadline.In((int)s_patience.TotalMilliseconds)), $"There is no answer within {s_patience.TotalSeconds} s.");
        Assert.True(driver.TryComplete(out BlkCompletion completion));
        return completion.Status;
    }
}
