using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.EndToEndTests.Ceph;

/// <summary>A cluster that answers nobody: its requests wait, or end by the time-out; nobody else notices.</summary>
[Collection(CephCollection.Name)]
public sealed class RbdOutageTests(CephCluster cluster)
{
    [Fact]
    public async Task Requests_wait_for_the_cluster_and_other_disks_go_on()
    {
        await using RbdDaemon daemon = await RbdDaemon.StartAsync(cluster.Disk(await cluster.CreateImageAsync(4)), "memory:4M");
        using (FrontendSession rbd = daemon.Connect())
        using (FrontendSession memory = daemon.Connect(disk: 1))
        {
            byte[] data = [.. Enumerable.Repeat((byte)0x33, 4096)];
            byte[] read = new byte[4096];
            Task<BlkStatus> write;
            using (cluster.StopOsd())
            {
                write = Task.Run(() => rbd.Drivers[0].Write(8, data));
                for (int i = 0; i < 2000; i++)
                {
                    Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, memory.Drivers[0].Write((ulong)i, new byte[512]));
                }

                Assert.False(write.IsCompleted);
            }

            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, await write);
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, rbd.Drivers[0].Read(8, read));
            Assert.Equal(data, read);
        }

        await daemon.StopAsync();
    }

    [Fact]
    public async Task After_the_time_out_requests_fail_and_a_queue_can_be_stopped()
    {
        const int Requests = 16;
        await using RbdDaemon daemon = await RbdDaemon.StartAsync(cluster.Disk(await cluster.CreateImageAsync(4), "timeout=4"));
        using (FrontendSession session = daemon.Connect())
        {
            // To write where there is something already takes one operation of the cluster.
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Write(0, new byte[512]));
        }

        using (cluster.StopOsd())
        {
            using FrontendSession session = daemon.Connect();
            BlkDriver driver = session.Drivers[0];
            for (int i = 0; i < Requests; i++)
            {
                Assert.True(driver.TrySubmit(i % 2 == 0 ? BlkRequestType.VIRTIO_BLK_T_IN : BlkRequestType.VIRTIO_BLK_T_OUT, (ulong)i * 64, 4096, tag: 0));
            }

            // Needs no cluster, and is the last: when it is back, all others are in flight.
            Assert.True(driver.TrySubmit(BlkRequestType.VIRTIO_BLK_T_GET_ID, 0, BlkDriver.IdBytes, tag: 1));
            driver.Kick();
            Assert.True(driver.WaitForCompletion(Deadline.In(RbdDaemon.PatienceMs)) && driver.TryComplete(out BlkCompletion id) && id.Tag == 1);

            // Waits for what is in flight, which waits for the time-out. Then the memory goes.
            session.Queues[0].Stop(session.Frontend);
            for (int i = 0; i < Requests; i++)
            {
                Assert.True(driver.TryComplete(out BlkCompletion completion), $"Request {i} did not come back.");
                Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, completion.Status);
            }
        }

        // What the cluster answers late is nobody's any more.
        using (FrontendSession session = daemon.Connect())
        {
            byte[] data = [.. Enumerable.Repeat((byte)0x33, 4096)];
            byte[] read = new byte[4096];
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Write(64, data));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Read(64, read));
            Assert.Equal(data, read);
        }

        await daemon.StopAsync();
    }

    [Fact]
    public async Task A_write_to_a_full_cluster_fails_at_once_or_is_held_until_there_is_room()
    {
        string image = await cluster.CreateImageAsync(4);
        await using RbdDaemon daemon = await RbdDaemon.StartAsync(
            cluster.Disk(image), cluster.Disk(await cluster.CreateImageAsync(4), "errors=hold-enospc"));
        using (FrontendSession reporting = daemon.Connect())
        using (FrontendSession holding = daemon.Connect(disk: 1))
        {
            Task<BlkStatus> write;
            await cluster.SetFullAsync(true);
            try
            {
                Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, reporting.Drivers[0].Write(8, new byte[512]));
                write = Task.Run(() => holding.Drivers[0].Write(8, new byte[512]));
                await daemon.WaitForLogAsync("Requests that failed are held");
            }
            finally
            {
                await cluster.SetFullAsync(false);
            }

            daemon.Process.Signal(ChildProcess.SIGHUP);
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, await write);
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, reporting.Drivers[0].Write(8, new byte[512]));
        }

        await daemon.StopAsync();
    }

    [Fact]
    public async Task The_program_ends_while_the_cluster_is_away()
    {
        await using RbdDaemon daemon = await RbdDaemon.StartAsync(cluster.Disk(await cluster.CreateImageAsync(4)));
        using (FrontendSession session = daemon.Connect())
        {
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Write(8, new byte[512]));
        }

        using (cluster.StopOsd())
        {
            await daemon.StopAsync();
            Assert.Contains(daemon.Process.Errors.Lines, line => line.Contains("could not be closed", StringComparison.Ordinal));
        }
    }
}
