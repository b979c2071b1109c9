using System.Globalization;
using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.EndToEndTests.Program;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.EndToEndTests.Ceph;

/// <summary>What keeps a disk of a cluster from being served is said with its cause and what to do about it.</summary>
[Collection(CephCollection.Name)]
public sealed class RbdStartTests(CephCluster cluster)
{
    [Theory]
    [InlineData("nowhere/image", "no pool 'nowhere'", "ceph osd pool ls")]
    [InlineData("rbd/nothing", "no image 'nothing' in rbd", "rbd create rbd/nothing")]
    [InlineData("rbd/first@yesterday", "no snapshot 'yesterday'", "rbd snap ls rbd/first")]
    [InlineData("rbd/tenant/first", "no namespace 'tenant'", "rbd namespace ls rbd")]
    public async Task What_is_not_there_is_named(string image, string cause, string remedy)
    {
        ProgramEnd end = await RunAsync(cluster.Disk(image));

        end.AssertRefusedWith(ProgramEnd.Failure, cause, remedy);
    }

    [Fact]
    public async Task A_configuration_that_is_not_there_is_named()
    {
        using TestFolder folder = new();

        ProgramEnd end = await Vblkflow.RunAsync(folder, "--disk", $"rbd:rbd/first,conf={folder["ceph.conf"]}");

        end.AssertRefusedWith(ProgramEnd.Failure, folder["ceph.conf"], "Check the path");
    }

    [Fact]
    public async Task Monitors_that_do_not_answer_are_named_and_not_waited_for()
    {
        using TestFolder folder = new();
        // Port 1 of the loopback interface is nobody's.
        File.WriteAllText(folder["ceph.conf"], "[global]\nmon host = v1:127.0.0.1:1\n");
        File.WriteAllText(folder["keyring"], File.ReadAllText(cluster.PathOf("mon.keyring")));

        ProgramEnd end = await Vblkflow.RunAsync(
            folder, "--disk", $"rbd:rbd/first,conf={folder["ceph.conf"]},keyring={folder["keyring"]},connect-timeout=1");

        end.AssertRefusedWith(ProgramEnd.Failure, "127.0.0.1:1", "did not answer within 1 s", "mon_host");
    }

    [Fact]
    public async Task A_user_without_a_key_is_not_let_in()
    {
        ProgramEnd end = await RunAsync(cluster.Disk("rbd/first", "user=stranger"));
        end.AssertRefusedWith(ProgramEnd.Failure, "client.stranger", "keyring");

        end = await RunAsync(cluster.Disk("rbd/first", "keyring=/nowhere/keyring"));
        end.AssertRefusedWith(ProgramEnd.Failure, "no keyring '/nowhere/keyring'", "ceph auth get client.admin");
    }

    [Fact]
    public async Task A_user_of_one_namespace_serves_its_images_and_no_others()
    {
        await cluster.RbdAsync("namespace", "create", "rbd/ours");
        await cluster.RbdAsync("create", "rbd/ours/image", "--size", "4M");
        string keyring = await cluster.CreateUserAsync("tenant", "profile rbd", "profile rbd pool=rbd namespace=ours");
        string[] keys = ["user=tenant", $"keyring={keyring}"];

        await using (RbdDaemon daemon = await RbdDaemon.StartAsync(cluster.Disk("rbd/ours/image", keys)))
        {
            using (FrontendSession session = daemon.Connect())
            {
                Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Write(8, new byte[512]));
            }

            await daemon.StopAsync();
        }

        ProgramEnd end = await RunAsync(cluster.Disk("rbd/first", keys));
        end.AssertRefusedWith(ProgramEnd.Failure, "rbd/first", "may not be opened", "ceph auth caps");
    }

    [Fact]
    public async Task A_user_who_may_only_read_serves_an_image_that_is_read_only()
    {
        string image = await cluster.CreateImageAsync(4);
        string keyring = await cluster.CreateUserAsync("reader", "profile rbd", "profile rbd-read-only");
        string[] keys = ["user=reader", $"keyring={keyring}"];

        ProgramEnd end = await RunAsync(cluster.Disk(image, keys));
        end.AssertRefusedWith(ProgramEnd.Failure, image, "may not be opened");

        await using RbdDaemon daemon = await RbdDaemon.StartAsync(cluster.Disk(image, [.. keys, "ro"]));
        using (FrontendSession session = daemon.Connect())
        {
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Read(0, new byte[512]));
        }

        await daemon.StopAsync();
    }

    [Fact]
    public async Task An_image_with_settings_that_would_lose_writes_is_refused()
    {
        string image = await cluster.CreateImageAsync(4);
        await cluster.RbdAsync("config", "image", "set", image, "rbd_cache", "true");

        ProgramEnd end = await RunAsync(cluster.Disk(image));

        end.AssertRefusedWith(ProgramEnd.Failure, image, "rbd_cache=true", "rbd config image rm");
    }

    [Fact]
    public async Task An_image_without_an_exclusive_lock_is_served_if_the_operator_insists()
    {
        string image = await cluster.CreateImageAsync(4, "--image-feature", "layering");

        ProgramEnd end = await RunAsync(cluster.Disk(image));

        end.AssertRefusedWith(ProgramEnd.Failure, image, "rbd feature enable", "lock=off");
        await using RbdDaemon daemon = await RbdDaemon.StartAsync(cluster.Disk(image, "lock=off"));
        using (FrontendSession session = daemon.Connect())
        {
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Write(8, new byte[512]));
        }

        await daemon.StopAsync();
    }

    [Fact]
    public async Task Without_the_library_the_package_is_named()
    {
        using TestFolder folder = new();
        File.WriteAllText(folder["librbd.so.1"], "no library");
        ChildProcess program = ChildProcess.Start(
            RepoPaths.Daemon, ["--disk", cluster.Disk("rbd/first")], new Dictionary<string, string> { ["LD_LIBRARY_PATH"] = folder.FullName }, folder.FullName);

        ProgramEnd end = await Vblkflow.EndOfAsync(program);

        end.AssertRefusedWith(ProgramEnd.Failure, "librbd.so.1", "apt-get install librbd1");
    }

    [Fact]
    public async Task Whoever_has_no_such_disk_loads_nothing_of_it()
    {
        await using RbdDaemon daemon = await RbdDaemon.StartAsync("memory:1M");
        string maps = File.ReadAllText(string.Create(CultureInfo.InvariantCulture, $"/proc/{daemon.Process.ProcessId}/maps"));

        Assert.Contains("libcoreclr", maps, StringComparison.Ordinal);
        Assert.DoesNotContain("librbd", maps, StringComparison.Ordinal);
        Assert.DoesNotContain("librados", maps, StringComparison.Ordinal);
        await daemon.StopAsync();
    }

    private static async Task<ProgramEnd> RunAsync(string disk)
    {
        using TestFolder folder = new();
        return await Vblkflow.RunAsync(folder, "--disk", disk);
    }
}
